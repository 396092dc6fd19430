//! The key exchange of a transport (RFC 4253 sections 7 and 8).

use super::{Config, Event, MAX_UNAUTHENTICATED_EXCHANGES, Transport, TransportError};
use crate::cipher::{Opener, Sealer};
use crate::host_key::{self, HostKeySigner};
use crate::kex::{
    ClientDone, ClientKex, ClientStep, Identifications, ServerDone, ServerKex, ServerStep, Shared,
};
use crate::message;
use crate::negotiation::{Extras, KexInit, Negotiated, Role, negotiate};
use crate::side::Direction;

/// How far a key exchange is.
pub(super) enum Exchange {
    /// None runs.
    Idle,
    /// The peer proposed; ours is not sent.
    Asked { theirs: KexInit },
    /// We proposed; the peer did not.
    Proposed { ours: KexInit },
    /// Both proposed; the method's messages travel.
    Method(Box<Running>),
    /// Our NEWKEYS is sent; the peer's opens this.
    NewKeys { opener: Box<Opener> },
}

/// An exchange whose method's messages travel.
pub(super) struct Running {
    proposals: Proposals,
    negotiated: Negotiated,
    method: Method,
    /// The peer guessed wrong: its next message of a method is to be dropped.
    ignore_next: bool,
}

pub(super) enum Method {
    Client(ClientKex),
    Server(ServerKex),
}

/// The KEXINIT messages of both sides.
pub(super) struct Proposals {
    client: KexInit,
    server: KexInit,
}

impl Proposals {
    pub(super) fn ours(role: Role, config: &Config, cookie: [u8; 16], first: bool) -> KexInit {
        let mut preferences = config.preferences.clone();
        if role == Role::Server && !config.host_keys.is_empty() {
            preferences.host_keys = config.host_keys.iter().flat_map(HostKeySigner::algorithms).collect();
        }
        KexInit::new(role, &preferences, cookie, Extras { ext_info: first, strict: first })
    }
}

impl Exchange {
    /// Whether the peer's KEXINIT came and its NEWKEYS did not.
    pub(super) fn peer_has_proposed(&self) -> bool {
        match self {
            Self::Idle | Self::Proposed { .. } => false,
            Self::Asked { .. } | Self::Method(_) | Self::NewKeys { .. } => true,
        }
    }
}

impl Transport {
    pub(super) fn receive_proposal(&mut self, theirs: KexInit) -> Result<Option<Event>, TransportError> {
        match std::mem::replace(&mut self.exchange, Exchange::Idle) {
            Exchange::Proposed { ours } => self.begin_exchange(ours, theirs).map(|()| None),
            Exchange::Idle if self.session_id.is_none() => {
                self.exchange = Exchange::Asked { theirs };
                Ok(Some(Event::Proposed))
            }
            Exchange::Idle => {
                let ours = self.send_proposal()?;
                self.begin_exchange(ours, theirs).map(|()| None)
            }
            Exchange::Asked { .. } | Exchange::Method(_) | Exchange::NewKeys { .. } => {
                Err(TransportError::Unexpected(message::KEXINIT))
            }
        }
    }

    /// Both proposals are known: agree, and send the first message of the method (client role).
    pub(super) fn begin_exchange(&mut self, ours: KexInit, theirs: KexInit) -> Result<(), TransportError> {
        let proposals = match self.role {
            Role::Client => Proposals { client: ours, server: theirs },
            Role::Server => Proposals { client: theirs, server: ours },
        };
        self.exchanges = self.exchanges.saturating_add(1);
        if !self.authenticated && self.exchanges > MAX_UNAUTHENTICATED_EXCHANGES {
            return Err(TransportError::UnauthenticatedBudget);
        }
        let negotiated = negotiate(&proposals.client, &proposals.server)?;
        if self.session_id.is_none() {
            self.strict = negotiated.strict;
            self.client_wants_ext_info = negotiated.client_ext_info;
            // The peer's KEXINIT must have been its first packet.
            if self.strict && self.inbound.sequence() != 1 {
                return Err(TransportError::Unexpected(message::KEXINIT));
            }
        }
        if self.config.rekey_bytes.is_none() {
            let limit = |protection: crate::cipher::Protection| protection.cipher.rekey_bytes();
            self.rekey_bytes = limit(negotiated.client_to_server).min(limit(negotiated.server_to_client));
        }
        let method = match self.role {
            Role::Client => {
                let (kex, init) = ClientKex::start(negotiated.kex)?;
                self.outbound.push(&[&init])?;
                Method::Client(kex)
            }
            Role::Server => Method::Server(ServerKex::start(negotiated.kex)?),
        };
        let ignore_next = negotiated.ignore_next_kex_packet;
        self.exchange = Exchange::Method(Box::new(Running { proposals, negotiated, method, ignore_next }));
        Ok(())
    }

    pub(super) fn receive_kex_message(&mut self, payload: &[u8]) -> Result<(), TransportError> {
        let number = payload.first().copied().unwrap_or_default();
        let Exchange::Method(running) = std::mem::replace(&mut self.exchange, Exchange::Idle) else {
            return Err(TransportError::Unexpected(number));
        };
        let Running { proposals, negotiated, method, ignore_next } = *running;
        let method = match method {
            method if ignore_next => method,
            Method::Client(kex) => match kex.receive(payload)? {
                ClientStep::Send(kex, message) => {
                    self.outbound.push(&[&message])?;
                    Method::Client(kex)
                }
                ClientStep::Done(done) => {
                    let hash = self.exchange_hash(&proposals, &done.shared, &done.host_key);
                    self.check_host_key(&negotiated, &done, &hash)?;
                    return self.switch_keys(&negotiated, &done.shared, hash);
                }
            },
            Method::Server(kex) => match kex.receive(payload)? {
                ServerStep::Send(kex, message) => {
                    self.outbound.push(&[&message])?;
                    Method::Server(kex)
                }
                ServerStep::Done(done) => {
                    let (hash, reply) = self.sign_exchange(&proposals, &negotiated, &done)?;
                    self.outbound.push(&[&reply])?;
                    return self.switch_keys(&negotiated, &done.shared, hash);
                }
            },
        };
        let running = Running { proposals, negotiated, method, ignore_next: false };
        self.exchange = Exchange::Method(Box::new(running));
        Ok(())
    }

    /// Client role: the server holds the key that it shows, which is the one of the first exchange.
    fn check_host_key(
        &mut self,
        negotiated: &Negotiated,
        done: &ClientDone,
        hash: &[u8],
    ) -> Result<(), TransportError> {
        let shown = host_key::verify(negotiated.host_key, &done.host_key, &done.signature, hash)?;
        match &self.host_key {
            None => {
                self.host_key = Some(done.host_key.clone());
                self.shown_host_key = Some(shown);
                Ok(())
            }
            Some(first) if *first == done.host_key => Ok(()),
            Some(_) => Err(TransportError::HostKeyChanged),
        }
    }

    /// Server role: the exchange hash, and the message that ends the method with its signature.
    fn sign_exchange(
        &self,
        proposals: &Proposals,
        negotiated: &Negotiated,
        done: &ServerDone,
    ) -> Result<(Vec<u8>, Vec<u8>), TransportError> {
        let signs = |signer: &&HostKeySigner| signer.algorithms().contains(&negotiated.host_key);
        let signer = self.config.host_keys.iter().find(signs).ok_or(TransportError::HostKeyChanged)?;
        let blob = signer.public_blob(negotiated.host_key);
        let hash = self.exchange_hash(proposals, &done.shared, &blob);
        let signature = signer.sign(negotiated.host_key, &hash)?;
        Ok((hash, done.reply(&blob, &signature)?))
    }

    pub(super) fn receive_new_keys(&mut self) -> Result<Event, TransportError> {
        match std::mem::replace(&mut self.exchange, Exchange::Idle) {
            Exchange::NewKeys { opener } => {
                self.inbound.set_opener(*opener, self.strict);
                self.established = true;
                Ok(Event::KeysExchanged { host_key: self.shown_host_key.take() })
            }
            Exchange::Idle | Exchange::Asked { .. } | Exchange::Proposed { .. } | Exchange::Method(_) => {
                Err(TransportError::Unexpected(message::NEWKEYS))
            }
        }
    }

    fn exchange_hash(&self, proposals: &Proposals, shared: &Shared, host_key: &[u8]) -> Vec<u8> {
        let peer = self.peer_identification.as_deref().unwrap_or_default();
        let ours = self.config.identification.as_slice();
        let (client, server) = match self.role {
            Role::Client => (ours, peer),
            Role::Server => (peer, ours),
        };
        shared.exchange_hash(
            Identifications { client, server },
            proposals.client.payload(),
            proposals.server.payload(),
            host_key,
        )
    }

    /// Sends NEWKEYS and seals with the new keys; the peer's NEWKEYS will open with them.
    fn switch_keys(
        &mut self,
        negotiated: &Negotiated,
        shared: &Shared,
        hash: Vec<u8>,
    ) -> Result<(), TransportError> {
        let first = self.session_id.is_none();
        let session_id = self.session_id.get_or_insert_with(|| hash.clone());
        let to_server =
            shared.key_material(&hash, session_id, Direction::ClientToServer, negotiated.client_to_server);
        let to_client =
            shared.key_material(&hash, session_id, Direction::ServerToClient, negotiated.server_to_client);
        let (ours, theirs, seal, open) = match self.role {
            Role::Client => {
                (&to_server, &to_client, negotiated.client_to_server, negotiated.server_to_client)
            }
            Role::Server => {
                (&to_client, &to_server, negotiated.server_to_client, negotiated.client_to_server)
            }
        };
        let sealer = Sealer::new(seal, ours).map_err(crate::packet::PacketError::from)?;
        let opener = Opener::new(open, theirs).map_err(crate::packet::PacketError::from)?;
        self.negotiated = Some(*negotiated);
        self.outbound.push(&[&[message::NEWKEYS]])?;
        self.outbound.set_sealer(sealer, self.strict);
        self.exchange = Exchange::NewKeys { opener: Box::new(opener) };
        if first && self.role == Role::Server && self.client_wants_ext_info {
            self.send_ext_info()?;
        }
        self.release_held()
    }
}
