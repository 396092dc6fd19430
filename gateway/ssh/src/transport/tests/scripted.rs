//! A client that does what a test says, also what no client may: its own key exchange, byte by byte.

use super::*;
use crate::IDENTIFICATION;
use crate::cipher::{Opener, Sealer};
use crate::kex::{ClientDone, ClientKex, ClientStep, Identifications};
use crate::negotiation::{Extras, Negotiated, negotiate};
use crate::side::Direction;

pub(super) const NAME: &[u8] = b"SSH-2.0-scripted";

pub(super) struct Scripted {
    pub(super) server: pair::End,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    pub(super) offer: KexInit,
    server_offer: Option<KexInit>,
    session_id: Option<Vec<u8>>,
}

impl Scripted {
    /// Identifies itself and nothing else.
    pub(super) fn new(extras: Extras) -> Self {
        Self::with(&Preferences::default(), extras, false)
    }

    pub(super) fn with(preferences: &Preferences, extras: Extras, first_packet_follows: bool) -> Self {
        let mut payload = KexInit::new(Role::Client, preferences, [7; 16], extras).payload().to_vec();
        let flag = payload.len() - 5;
        payload[flag] = u8::from(first_packet_follows);
        let mut outbound = Outbound::default();
        outbound.push_raw(NAME);
        outbound.push_raw(b"\r\n");
        Self {
            server: pair::End::new(Role::Server, server_config()),
            inbound: Inbound::default(),
            outbound,
            offer: KexInit::parse(&payload).unwrap(),
            server_offer: None,
            session_id: None,
        }
    }

    pub(super) fn write(&mut self, payload: &[u8]) -> Result<(), TransportError> {
        self.outbound.push(&[payload]).unwrap();
        self.flush()
    }

    pub(super) fn write_offer(&mut self) -> Result<(), TransportError> {
        let offer = self.offer.payload().to_vec();
        self.write(&offer)
    }

    pub(super) fn flush(&mut self) -> Result<(), TransportError> {
        let bytes = self.outbound.pending().to_vec();
        self.outbound.written(bytes.len());
        self.server.feed(&bytes)
    }

    /// The server's next message.
    pub(super) fn read(&mut self) -> Option<Vec<u8>> {
        let bytes = self.server.take(usize::MAX);
        self.inbound.spare(bytes.len())[..bytes.len()].copy_from_slice(&bytes);
        self.inbound.filled(bytes.len());
        if self.inbound.unread().starts_with(b"SSH-") {
            self.inbound.skip(IDENTIFICATION.len() + 2);
        }
        let range = self.inbound.next_packet().unwrap()?;
        Some(self.inbound.payload(range).to_vec())
    }

    pub(super) fn read_offer(&mut self) -> Negotiated {
        let theirs = KexInit::parse(&self.read().unwrap()).unwrap();
        let negotiated = negotiate(&self.offer, &theirs).unwrap();
        self.server_offer = Some(theirs);
        negotiated
    }

    /// Both offers and the method's messages, up to the server's NEWKEYS.
    pub(super) fn exchange_up_to_new_keys(&mut self) -> Result<(Negotiated, ClientDone), TransportError> {
        self.write_offer()?;
        let negotiated = self.read_offer();
        let (kex, init) = ClientKex::start(negotiated.kex)?;
        self.write(&init)?;
        let done = self.finish_method(kex);
        Ok((negotiated, done))
    }

    pub(super) fn finish_method(&mut self, kex: ClientKex) -> ClientDone {
        let reply = self.read().unwrap();
        let ClientStep::Done(done) = kex.receive(&reply).unwrap() else { panic!("one round trip") };
        assert_eq!(self.read(), Some(vec![message::NEWKEYS]));
        done
    }

    /// Sends NEWKEYS and uses the keys in both directions.
    pub(super) fn switch(
        &mut self,
        negotiated: &Negotiated,
        done: &ClientDone,
    ) -> Result<(), TransportError> {
        let names = Identifications { client: NAME, server: IDENTIFICATION.as_bytes() };
        let theirs = self.server_offer.as_ref().unwrap().payload();
        let hash = done.shared.exchange_hash(names, self.offer.payload(), theirs, &done.host_key);
        let id = self.session_id.get_or_insert_with(|| hash.clone()).clone();
        let keys = |direction, protection| done.shared.key_material(&hash, &id, direction, protection);
        let up = keys(Direction::ClientToServer, negotiated.client_to_server);
        let down = keys(Direction::ServerToClient, negotiated.server_to_client);
        self.outbound.push(&[&[message::NEWKEYS]]).unwrap();
        self.outbound.set_sealer(Sealer::new(negotiated.client_to_server, &up).unwrap(), negotiated.strict);
        self.inbound.set_opener(Opener::new(negotiated.server_to_client, &down).unwrap(), negotiated.strict);
        self.flush()
    }

    pub(super) fn established(extras: Extras) -> Self {
        let mut peer = Self::new(extras);
        let (negotiated, done) = peer.exchange_up_to_new_keys().unwrap();
        peer.switch(&negotiated, &done).unwrap();
        assert_eq!(peer.server.exchanges, 1);
        peer
    }
}

impl Scripted {
    /// Strict key exchange is agreed on in the first exchange, for all later ones.
    pub(super) fn strict_as_before(&self, negotiated: Negotiated) -> Negotiated {
        Negotiated { strict: self.server.transport.strict, ..negotiated }
    }
}
