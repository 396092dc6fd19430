//! Two transports joined, driven by actions: whatever one does, the other must not break.

use super::config;
use crate::message;
use crate::negotiation::Role;
use crate::transport::{Event, Transport};
use crate::wire::Reader;

/// More actions only repeat what fewer show.
const MAX_ACTIONS: usize = 200;

struct Joined {
    sides: [Transport; 2],
    sent: [u32; 2],
    received: [u32; 2],
}

/// Layout of an action: its kind and side, then its argument. As long as nothing is altered or sent
/// against the rules, no side fails and every message arrives in order.
pub(super) fn act(actions: &[u8]) {
    let sides = (
        Transport::new(Role::Client, config(Role::Client)),
        Transport::new(Role::Server, config(Role::Server)),
    );
    let (Ok(client), Ok(server)) = sides else { return };
    let mut joined = Joined { sides: [client, server], sent: [0; 2], received: [0; 2] };
    let mut reader = Reader::new(actions);
    let mut honest = true;
    for _ in 0..MAX_ACTIONS {
        let (Ok(kind), Ok(argument)) = (reader.u8(), reader.u8()) else { break };
        let from = usize::from(kind & 1);
        let result = match kind >> 1 {
            0 => joined.sides.get_mut(from).map_or(Ok(()), |side| side.propose().map_err(drop)),
            1 => joined.send(from, argument),
            2 => joined.carry(from, usize::MAX, 0),
            3 => joined.ping(from, argument),
            4 => {
                honest = false;
                joined.carry(from, usize::from(argument), reader.u8().unwrap_or_default())
            }
            5 => {
                honest = false;
                let rest = reader.bytes(usize::from(argument & 7)).unwrap_or_default();
                joined.inject(from, &[&[argument], rest].concat())
            }
            _ => joined.carry(from, usize::from(argument) * 8, 0),
        };
        if result.is_err() {
            return assert!(!honest, "a side fails although both keep to the rules");
        }
    }
    if honest {
        while joined.moves() {}
        let [client, server] = joined.sent;
        assert_eq!(joined.received, [server, client], "messages are lost or out of order");
    }
}

impl Joined {
    /// Sends a message that carries its number, once both sides may.
    fn send(&mut self, from: usize, size: u8) -> Result<(), ()> {
        let (Some(side), Some(sent)) = (self.sides.get_mut(from), self.sent.get_mut(from)) else {
            return Ok(());
        };
        if side.session_id().is_empty() {
            return Ok(());
        }
        let body = vec![size; usize::from(size) * 4];
        side.send(&[&[message::CHANNEL_DATA], &sent.to_be_bytes(), &body]).map_err(drop)?;
        *sent += 1;
        Ok(())
    }

    fn ping(&mut self, from: usize, byte: u8) -> Result<(), ()> {
        let Some(side) = self.sides.get_mut(from).filter(|side| !side.session_id().is_empty()) else {
            return Ok(());
        };
        side.send(&[&[message::PING, 0, 0, 0, 1, byte]]).map_err(drop)
    }

    /// Sends past the state machine.
    fn inject(&mut self, from: usize, payload: &[u8]) -> Result<(), ()> {
        let Some(side) = self.sides.get_mut(from) else { return Ok(()) };
        side.buffers().1.push(&[payload]).map_err(drop)
    }

    /// Moves at most `n` bytes, of which one may be changed.
    fn carry(&mut self, from: usize, n: usize, mask: u8) -> Result<(), ()> {
        let Some(side) = self.sides.get_mut(from) else { return Ok(()) };
        let mut bytes = side.pending().to_vec();
        bytes.truncate(n);
        side.written(bytes.len());
        if let Some(byte) = bytes.get_mut(usize::from(mask)) {
            *byte ^= mask;
        }
        self.hear(1 - from, &bytes)
    }

    fn hear(&mut self, at: usize, bytes: &[u8]) -> Result<(), ()> {
        let (Some(side), Some(received)) = (self.sides.get_mut(at), self.received.get_mut(at)) else {
            return Ok(());
        };
        let spare = side.spare(bytes.len());
        spare.get_mut(..bytes.len()).expect("as much as was asked for").copy_from_slice(bytes);
        side.filled(bytes.len()).map_err(drop)?;
        while let Some(event) = side.poll().map_err(drop)? {
            match event {
                Event::Proposed => side.propose().map_err(drop)?,
                Event::KeysExchanged { .. } => side.authenticated(),
                Event::Disconnected { .. } => return Err(()),
                Event::Message(range) => {
                    let mut reader = Reader::new(side.payload(range));
                    if reader.u8() == Ok(message::CHANNEL_DATA) && reader.u32() == Ok(*received) {
                        *received += 1;
                    }
                }
            }
            if side.wants_rekey() {
                side.propose().map_err(drop)?;
            }
        }
        Ok(())
    }

    /// Moves what there is both ways; whether there was anything.
    fn moves(&mut self) -> bool {
        let any = self.sides.iter().any(|side| !side.pending().is_empty());
        let moved = self.carry(0, usize::MAX, 0).and_then(|()| self.carry(1, usize::MAX, 0));
        assert!(moved.is_ok(), "a side fails although both keep to the rules");
        any
    }
}
