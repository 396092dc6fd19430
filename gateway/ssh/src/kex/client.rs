//! The client's side of a key exchange.
//!
//! Owns the order of messages: `INIT`, `REPLY`; for group exchange `REQUEST`, `GROUP`, `INIT`, `REPLY`. A
//! value is consumed by the message that it waits for. Does not verify the signature: the caller computes
//! the exchange hash and asks [`crate::host_key::verify`].

use super::dh::Group;
use super::message::{self, GEX_GROUP, GEX_INIT, GEX_REPLY, GEX_REQUEST, GexRequest, INIT, REPLY};
use super::secret::{Method, Secret};
use super::{Kex, KexError, Shared};
use crate::wire::put_positive_mpint;

/// A client that waits for a message.
pub struct ClientKex {
    kex: Kex,
    state: State,
}

/// What a message leads to.
pub enum ClientStep {
    /// Send this payload and go on with the value.
    Send(ClientKex, Vec<u8>),
    /// The exchange is over.
    Done(ClientDone),
}

/// What the server answered.
pub struct ClientDone {
    /// The blob of the server's host key or certificate, unverified.
    pub host_key: Vec<u8>,
    /// The blob of its signature over the exchange hash, unverified.
    pub signature: Vec<u8>,
    /// The secret.
    pub shared: Shared,
}

enum State {
    AwaitGroup,
    AwaitReply {
        secret: Secret,
        reply: u8,
        /// Fields of the exchange hash before our public value.
        prefix: Vec<u8>,
    },
}

impl ClientKex {
    /// Starts an exchange and yields the payload to send.
    ///
    /// # Errors
    /// [`KexError::Library`] without randomness.
    pub fn start(kex: Kex) -> Result<(Self, Vec<u8>), KexError> {
        if let Some(method) = Method::of(kex)? {
            let (state, payload) = first_value(method, INIT, Vec::new())?;
            return Ok((Self { kex, state }, payload));
        }
        let mut payload = vec![GEX_REQUEST];
        GexRequest::ours(kex).put(&mut payload);
        Ok((Self { kex, state: State::AwaitGroup }, payload))
    }

    /// Takes the server's next payload.
    ///
    /// # Errors
    /// [`KexError`] when it is not the message that is due, or its values are not acceptable.
    pub fn receive(self, payload: &[u8]) -> Result<ClientStep, KexError> {
        let kex = self.kex;
        match self.state {
            State::AwaitGroup => {
                let (state, payload) = take_group(GexRequest::ours(kex), payload)?;
                Ok(ClientStep::Send(Self { kex, state }, payload))
            }
            State::AwaitReply { secret, reply, prefix } => {
                let mut reader = message::open(payload, reply)?;
                let host_key = message::read_host_key(&mut reader)?.to_vec();
                let theirs = secret.encoding().read(&mut reader)?;
                let signature = message::read_signature(&mut reader)?.to_vec();
                reader.finish()?;
                let mut fields = prefix;
                secret.encoding().put(&mut fields, secret.public())?;
                secret.encoding().put(&mut fields, theirs)?;
                let shared = Shared::new(kex, fields, secret.agree(theirs)?);
                Ok(ClientStep::Done(ClientDone { host_key, signature, shared }))
            }
        }
    }
}

fn take_group(request: GexRequest, payload: &[u8]) -> Result<(State, Vec<u8>), KexError> {
    let mut reader = message::open(payload, GEX_GROUP)?;
    let (prime, generator) = (reader.positive_mpint()?, reader.positive_mpint()?);
    reader.finish()?;
    let group = Group::chosen(prime, generator, request)?;
    let mut prefix = Vec::new();
    request.put(&mut prefix);
    put_positive_mpint(&mut prefix, prime)?;
    put_positive_mpint(&mut prefix, generator)?;
    first_value(Method::Field(Box::new(group)), GEX_INIT, prefix)
}

/// A fresh public value as message `number`.
fn first_value(method: Method, number: u8, prefix: Vec<u8>) -> Result<(State, Vec<u8>), KexError> {
    let secret = Secret::generate(method)?;
    let mut payload = vec![number];
    secret.encoding().put(&mut payload, secret.public())?;
    let reply = if number == GEX_INIT { GEX_REPLY } else { REPLY };
    Ok((State::AwaitReply { secret, reply, prefix }, payload))
}
