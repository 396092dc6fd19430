//! One side of one SSH connection: a state machine over bytes (RFC 4253).
//!
//! The caller puts bytes into [`Transport::spare`], asks [`Transport::poll`] for events until there is
//! none, and writes [`Transport::pending`]. Key exchanges, the first and all later ones, are answered
//! here. Invariants: no message but those of the exchange leaves between our KEXINIT and our NEWKEYS;
//! with strict key exchange nothing else is accepted during the first one (OpenSSH's PROTOCOL file,
//! CVE-2023-48795); the server's host key does not change while a connection lives. There is no clock
//! here: the caller bounds the time, this module bounds bytes.

mod error;
mod exchange;
mod held;
mod identification;
mod receive;

use std::ops::Range;

use aws_lc_rs::rand;

pub use self::error::TransportError;
use self::exchange::{Exchange, Proposals};
use self::held::Held;
pub use self::identification::IdentificationError;
use crate::host_key::{HostKeySigner, PublicHostKey};
use crate::message;
use crate::negotiation::{KexInit, Negotiated, Preferences, Role};
use crate::packet::{Inbound, Outbound, PacketError};
use crate::text::TerminalText;
use crate::wire::{put_string, put_u32};

/// Most bytes that a peer may send before it is authenticated: several key exchanges' worth.
const MAX_UNAUTHENTICATED: u64 = 256 * 1024;
/// Most key exchanges with a peer that is not authenticated: each costs this side far more than bytes.
const MAX_UNAUTHENTICATED_EXCHANGES: u32 = 3;
/// Packets after which keys are exchanged again: sequence numbers must not wrap under one key.
const REKEY_PACKETS: u64 = 1 << 31;

/// How one side behaves.
pub struct Config {
    /// The identification line to send, without its line end (RFC 4253 section 4.2). Peers switch
    /// extensions and workarounds by it, so a relay shows each side what the other one is.
    pub identification: Vec<u8>,
    /// Algorithms, best first.
    pub preferences: Preferences,
    /// Host keys to show; for the server role only. Without any, those of `preferences.host_keys` are
    /// proposed, and the keys must be there ([`Transport::set_host_keys`]) before the method's messages.
    pub host_keys: Vec<HostKeySigner>,
    /// Server role: propose algorithms only after the client did, so that [`Event::Proposed`] can
    /// narrow the choice.
    pub answer_second: bool,
    /// Bytes in one direction after which keys are exchanged again; `None` takes the cipher's limit.
    pub rekey_bytes: Option<u64>,
}

impl Default for Config {
    /// This crate's identification and algorithms, no host keys, and nothing waited for.
    fn default() -> Self {
        Self {
            identification: crate::IDENTIFICATION.into(),
            preferences: Preferences::default(),
            host_keys: Vec::new(),
            answer_second: false,
            rekey_bytes: None,
        }
    }
}

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// The client's proposal is here and ours is not sent: [`Transport::propose`] must be called.
    Proposed,
    /// A key exchange is complete; the first one carries the server's verified host key for a client
    /// role. Nothing but its possession is verified: the caller judges whose key it is.
    KeysExchanged {
        /// Client role, first exchange only.
        host_key: Option<PublicHostKey>,
    },
    /// A message that is not the transport's own, for [`Transport::payload`].
    Message(Range<usize>),
    /// The peer ended the connection (RFC 4253 section 11.1).
    Disconnected {
        /// Reason code.
        reason: u32,
        /// The peer's text.
        text: Vec<u8>,
    },
}

/// One side of a connection.
pub struct Transport {
    role: Role,
    config: Config,
    inbound: Inbound,
    outbound: Outbound,
    peer_identification: Option<Vec<u8>>,
    exchange: Exchange,
    session_id: Option<Vec<u8>>,
    negotiated: Option<Negotiated>,
    /// The first exchange is complete in both directions.
    established: bool,
    /// Blob of the server's host key, once verified (client role).
    host_key: Option<Vec<u8>>,
    shown_host_key: Option<PublicHostKey>,
    strict: bool,
    rekey_bytes: u64,
    authenticated: bool,
    received: u64,
    exchanges: u32,
    held: Held,
    client_wants_ext_info: bool,
    /// The peer's DISCONNECT, ours or an error was the last that is received.
    ended: bool,
    /// Our DISCONNECT was the last that is sent.
    said_goodbye: bool,
}

impl Transport {
    /// Starts a side: its identification, and its proposal unless it answers second, are pending.
    ///
    /// # Errors
    /// [`TransportError`] when the proposal cannot be made.
    pub fn new(role: Role, config: Config) -> Result<Self, TransportError> {
        let rekey_bytes = config.rekey_bytes.unwrap_or(u64::MAX);
        let mut transport = Self {
            role,
            config,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            peer_identification: None,
            exchange: Exchange::Idle,
            session_id: None,
            negotiated: None,
            established: false,
            host_key: None,
            shown_host_key: None,
            strict: false,
            rekey_bytes,
            authenticated: false,
            received: 0,
            exchanges: 0,
            held: Held::default(),
            client_wants_ext_info: false,
            ended: false,
            said_goodbye: false,
        };
        transport.outbound.push_raw(&transport.config.identification);
        transport.outbound.push_raw(b"\r\n");
        if !(role == Role::Server && transport.config.answer_second) {
            transport.propose()?;
        }
        Ok(transport)
    }

    /// Room for bytes from the network, at least `at_least`; report them with [`Self::filled`].
    pub fn spare(&mut self, at_least: usize) -> &mut [u8] {
        self.inbound.spare(at_least)
    }

    /// `n` bytes were put into [`Self::spare`]; after the end of the connection they are dropped.
    ///
    /// # Errors
    /// [`TransportError::UnauthenticatedBudget`] when a peer that is not authenticated sends too much.
    pub fn filled(&mut self, n: usize) -> Result<(), TransportError> {
        if self.ended {
            return Ok(());
        }
        self.inbound.filled(n);
        self.received += n as u64;
        if !self.authenticated && self.received > MAX_UNAUTHENTICATED {
            return Err(TransportError::UnauthenticatedBudget);
        }
        Ok(())
    }

    /// The next event, or `None` when more bytes are needed, when [`Self::propose`] is due, or after the
    /// end: an error, or a DISCONNECT of either side.
    ///
    /// # Errors
    /// [`TransportError`]; the connection is unusable then, and [`Self::disconnect`] may say so.
    pub fn poll(&mut self) -> Result<Option<Event>, TransportError> {
        if self.ended {
            return Ok(None);
        }
        let polled = self.next_event();
        self.ended = matches!(polled, Err(_) | Ok(Some(Event::Disconnected { .. })));
        polled
    }

    fn next_event(&mut self) -> Result<Option<Event>, TransportError> {
        if !self.identify_peer()? {
            return Ok(None);
        }
        // While the client's proposal waits for ours, what follows it waits too: a guessed packet.
        while !matches!(self.exchange, Exchange::Asked { .. }) {
            let Some(range) = self.inbound.next_packet()? else { break };
            if let Some(event) = self.receive(range)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Reads the peer's identification line, if it is here, and nothing behind it; whether it is known.
    /// [`Self::poll`] does it by itself.
    ///
    /// # Errors
    /// [`TransportError::Identification`]; the connection is unusable then.
    pub fn identify_peer(&mut self) -> Result<bool, TransportError> {
        if self.peer_identification.is_none() {
            let found = identification::find(self.inbound.unread(), self.role == Role::Client)?;
            let Some((line, length)) = found else { return Ok(false) };
            self.inbound.skip(length);
            self.peer_identification = Some(line);
        }
        Ok(true)
    }

    /// The payload of the message that [`Self::poll`] yielded last; valid until more bytes come.
    pub fn payload(&mut self, range: Range<usize>) -> &mut [u8] {
        self.inbound.payload(range)
    }

    /// Sends our proposal of algorithms: the first one where this side answers second, later ones to
    /// exchange keys again. Does nothing while an exchange runs.
    ///
    /// # Errors
    /// [`TransportError`] when it cannot be made or does not fit the peer's.
    pub fn propose(&mut self) -> Result<(), TransportError> {
        match std::mem::replace(&mut self.exchange, Exchange::Idle) {
            Exchange::Idle => {
                let ours = self.send_proposal()?;
                self.exchange = Exchange::Proposed { ours };
                Ok(())
            }
            Exchange::Asked { theirs } => {
                let ours = self.send_proposal()?;
                self.begin_exchange(ours, theirs)
            }
            running @ (Exchange::Proposed { .. } | Exchange::Method(_) | Exchange::NewKeys { .. }) => {
                self.exchange = running;
                Ok(())
            }
        }
    }

    /// The algorithms of the next proposal; for [`Event::Proposed`].
    pub fn preferences_mut(&mut self) -> &mut Preferences {
        &mut self.config.preferences
    }

    /// The host keys to show, for a server that did not have them when it proposed.
    pub fn set_host_keys(&mut self, host_keys: Vec<HostKeySigner>) {
        self.config.host_keys = host_keys;
    }

    /// The client's proposal, after [`Event::Proposed`].
    pub fn asked(&self) -> Option<&KexInit> {
        match &self.exchange {
            Exchange::Asked { theirs } => Some(theirs),
            Exchange::Idle | Exchange::Proposed { .. } | Exchange::Method(_) | Exchange::NewKeys { .. } => {
                None
            }
        }
    }

    /// Sends a message that is not the transport's own; during a key exchange it is held back, after
    /// [`Self::disconnect`] it is dropped.
    ///
    /// # Errors
    /// [`TransportError`] when it does not fit, or too much is held back.
    pub fn send(&mut self, parts: &[&[u8]]) -> Result<(), TransportError> {
        if self.said_goodbye {
            return Ok(());
        }
        if self.can_send() {
            return Ok(self.outbound.push(parts)?);
        }
        self.held.push(parts.concat())
    }

    /// Whether a message would leave now, not after a key exchange.
    pub fn can_send(&self) -> bool {
        self.session_id.is_some() && matches!(self.exchange, Exchange::Idle | Exchange::NewKeys { .. })
    }

    /// Whether enough went under the present keys that [`Self::propose`] should be called.
    pub fn wants_rekey(&self) -> bool {
        let (sent, sent_packets) = self.outbound.under_key();
        let (received, received_packets) = self.inbound.under_key();
        matches!(self.exchange, Exchange::Idle)
            && self.authenticated
            && (sent.max(received) >= self.rekey_bytes || sent_packets.max(received_packets) >= REKEY_PACKETS)
    }

    /// Tells the peer why the connection ends (RFC 4253 section 11.1). Nothing is received or sent after
    /// it, and what a key exchange holds back is lost.
    ///
    /// # Errors
    /// [`TransportError`] when it cannot be sealed.
    pub fn disconnect(&mut self, reason: u32, text: &TerminalText) -> Result<(), TransportError> {
        if std::mem::replace(&mut self.said_goodbye, true) {
            return Ok(());
        }
        self.ended = true;
        let mut payload = vec![message::DISCONNECT];
        put_u32(&mut payload, reason);
        put_field(&mut payload, text.as_str().as_bytes())?;
        put_field(&mut payload, b"")?;
        Ok(self.outbound.push(&[&payload])?)
    }

    /// What is to be written to the network.
    pub fn pending(&self) -> &[u8] {
        self.outbound.pending()
    }

    /// `n` bytes of [`Self::pending`] were written.
    pub fn written(&mut self, n: usize) {
        self.outbound.written(n);
    }

    /// Both buffers, to lend and reclaim them.
    pub fn buffers(&mut self) -> (&mut Inbound, &mut Outbound) {
        (&mut self.inbound, &mut self.outbound)
    }

    /// The peer is authenticated: its budget ends, long packets and key limits begin.
    pub fn authenticated(&mut self) {
        self.authenticated = true;
        self.inbound.authenticated();
    }

    /// Identifies the connection to authentication methods (RFC 4253 section 7.2); set after the
    /// first exchange.
    pub fn session_id(&self) -> &[u8] {
        self.session_id.as_deref().unwrap_or_default()
    }

    /// What the key exchange that completed last agreed on; `None` before the first.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// The peer's identification line, once it came.
    pub fn peer_identification(&self) -> Option<&[u8]> {
        self.peer_identification.as_deref()
    }

    /// Says that the message received last is not known (RFC 4253 section 11.4).
    ///
    /// # Errors
    /// [`TransportError`] when it cannot be sealed.
    pub fn unimplemented(&mut self) -> Result<(), TransportError> {
        let mut payload = vec![message::UNIMPLEMENTED];
        put_u32(&mut payload, self.inbound.sequence().wrapping_sub(1));
        self.send(&[&payload])
    }

    fn send_proposal(&mut self) -> Result<KexInit, TransportError> {
        let mut cookie = [0; 16];
        rand::fill(&mut cookie).map_err(|_| TransportError::Random)?;
        let ours = Proposals::ours(self.role, &self.config, cookie, self.session_id.is_none());
        self.outbound.push(&[ours.payload()])?;
        Ok(ours)
    }

    fn release_held(&mut self) -> Result<(), TransportError> {
        for message in self.held.take() {
            self.outbound.push(&[&message])?;
        }
        Ok(())
    }

    /// After the first NEWKEYS: what signatures we verify (RFC 8308 section 3.1), and that we answer
    /// pings (OpenSSH's PROTOCOL file, section 1.9).
    fn send_ext_info(&mut self) -> Result<(), TransportError> {
        const SIG_ALGS: &[u8] =
            b"ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256";
        let mut payload = vec![message::EXT_INFO];
        put_u32(&mut payload, 2);
        put_field(&mut payload, b"server-sig-algs")?;
        put_field(&mut payload, SIG_ALGS)?;
        put_field(&mut payload, b"ping@openssh.com")?;
        put_field(&mut payload, b"0")?;
        Ok(self.outbound.push(&[&payload])?)
    }
}

fn put_field(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TransportError> {
    put_string(out, bytes).map_err(|_| PacketError::PayloadTooLong(bytes.len()).into())
}

#[cfg(test)]
mod tests;
