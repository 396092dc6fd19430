//! The server's side of a key exchange.
//!
//! Owns the order of messages: `INIT`, `REPLY`; for group exchange `REQUEST`, `GROUP`, `INIT`, `REPLY`. A
//! value is consumed by the message that it waits for. Does not sign: the caller computes the exchange
//! hash with its host key, signs it and asks [`ServerDone::reply`] for the payload. The old request of
//! RFC 4419 section 5, with one size only, is not taken: no method of ours is offered to its senders.

use super::dh::{Group, KnownGroup};
use super::message::{self, GEX_GROUP, GEX_INIT, GEX_REPLY, GEX_REQUEST, GexRequest, INIT, REPLY};
use super::secret::{Encoding, Method};
use super::{Kex, KexError, Shared};
use crate::wire::put_positive_mpint;

/// A server that waits for a message.
pub struct ServerKex {
    kex: Kex,
    state: State,
}

/// What a message leads to.
pub enum ServerStep {
    /// Send this payload and go on with the value.
    Send(ServerKex, Vec<u8>),
    /// The secret is there; [`ServerDone::reply`] is what is left to be sent.
    Done(ServerDone),
}

/// A finished exchange whose answer is not signed yet.
pub struct ServerDone {
    /// The secret.
    pub shared: Shared,
    public: Vec<u8>,
    encoding: Encoding,
    reply: u8,
}

enum State {
    AwaitRequest,
    AwaitInit {
        method: Method,
        init: u8,
        /// Fields of the exchange hash before the client's public value.
        prefix: Vec<u8>,
    },
}

impl ServerKex {
    /// Starts an exchange; the client speaks first.
    ///
    /// # Errors
    /// [`KexError::Library`] when the cryptography library refuses.
    pub fn start(kex: Kex) -> Result<Self, KexError> {
        let state = Method::of(kex)?.map_or(State::AwaitRequest, |method| State::AwaitInit {
            method,
            init: INIT,
            prefix: Vec::new(),
        });
        Ok(Self { kex, state })
    }

    /// Takes the client's next payload.
    ///
    /// # Errors
    /// [`KexError`] when it is not the message that is due, or its values are not acceptable.
    pub fn receive(self, payload: &[u8]) -> Result<ServerStep, KexError> {
        let kex = self.kex;
        match self.state {
            State::AwaitRequest => {
                let (state, payload) = take_request(payload)?;
                Ok(ServerStep::Send(Self { kex, state }, payload))
            }
            State::AwaitInit { method, init, prefix } => {
                let encoding = method.encoding();
                let mut reader = message::open(payload, init)?;
                let theirs = encoding.read(&mut reader)?;
                reader.finish()?;
                let (public, secret) = method.respond(theirs)?;
                let mut fields = prefix;
                encoding.put(&mut fields, theirs)?;
                encoding.put(&mut fields, &public)?;
                let reply = if init == GEX_INIT { GEX_REPLY } else { REPLY };
                let shared = Shared::new(kex, fields, secret);
                Ok(ServerStep::Done(ServerDone { shared, public, encoding, reply }))
            }
        }
    }
}

impl ServerDone {
    /// The payload that ends the exchange.
    ///
    /// # Errors
    /// [`KexError::Message`] when host key or signature are longer than a client takes.
    pub fn reply(&self, host_key_blob: &[u8], signature_blob: &[u8]) -> Result<Vec<u8>, KexError> {
        let mut payload = vec![self.reply];
        message::put_host_key(&mut payload, host_key_blob)?;
        self.encoding.put(&mut payload, &self.public)?;
        message::put_signature(&mut payload, signature_blob)?;
        Ok(payload)
    }
}

fn take_request(payload: &[u8]) -> Result<(State, Vec<u8>), KexError> {
    let mut reader = message::open(payload, GEX_REQUEST)?;
    let request = GexRequest::read(&mut reader)?;
    reader.finish()?;
    let group = Group::known(KnownGroup::for_request(request)?)?;
    let mut prefix = Vec::new();
    request.put(&mut prefix);
    let mut payload = vec![GEX_GROUP];
    for out in [&mut prefix, &mut payload] {
        put_positive_mpint(out, &group.prime())?;
        put_positive_mpint(out, &group.generator())?;
    }
    Ok((State::AwaitInit { method: Method::Field(Box::new(group)), init: GEX_INIT, prefix }, payload))
}
