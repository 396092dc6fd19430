//! What each message that arrives leads to (RFC 4253 sections 7 to 11).
//!
//! Owns the table of what is allowed when. Invariants: with strict key exchange the first exchange is
//! made of its own messages only; between the peer's KEXINIT and its NEWKEYS only messages 1 to 4 and
//! those of the exchange are taken (RFC 4253 section 7.1).

use std::ops::Range;

use super::{Event, Transport, TransportError, put_field};
use crate::message;
use crate::negotiation::KexInit;
use crate::wire::{Reader, WireError};

impl Transport {
    /// Takes one payload.
    pub(super) fn receive(&mut self, range: Range<usize>) -> Result<Option<Event>, TransportError> {
        let payload = self.inbound.payload(range.clone());
        let number = payload.first().copied().unwrap_or_default();
        let malformed = |source| TransportError::Message { number, source };
        if !self.established && self.strict && !is_exchange(number) {
            return Err(TransportError::Unexpected(number));
        }
        match number {
            message::DISCONNECT => parse_disconnect(payload).map(Some).map_err(malformed),
            message::IGNORE | message::DEBUG | message::UNIMPLEMENTED => Ok(None),
            message::KEXINIT => {
                let theirs = KexInit::parse(payload).map_err(malformed)?;
                self.receive_proposal(theirs)
            }
            message::NEWKEYS => self.receive_new_keys().map(Some),
            message::KEX_METHOD_FIRST..=message::KEX_METHOD_LAST => {
                let payload = payload.to_vec();
                self.receive_kex_message(&payload).map(|()| None)
            }
            _ if !self.established || self.exchange.peer_has_proposed() => {
                Err(TransportError::Unexpected(number))
            }
            // Nothing that it could say changes what this side does: it signs with one algorithm.
            message::EXT_INFO => Ok(None),
            message::PING => {
                let mut reader = Reader::new(payload.get(1..).unwrap_or_default());
                let echo = reader.string().map_err(malformed)?.to_vec();
                let mut pong = vec![message::PONG];
                put_field(&mut pong, &echo)?;
                self.send(&[&pong]).map(|()| None)
            }
            _ => Ok(Some(Event::Message(range))),
        }
    }
}

fn is_exchange(number: u8) -> bool {
    matches!(
        number,
        message::DISCONNECT | message::KEXINIT | message::NEWKEYS | message::KEX_METHOD_FIRST
            ..=message::KEX_METHOD_LAST
    )
}

fn parse_disconnect(payload: &[u8]) -> Result<Event, WireError> {
    let mut reader = Reader::new(payload.get(1..).unwrap_or_default());
    let reason = reader.u32()?;
    let text = reader.string()?.to_vec();
    Ok(Event::Disconnected { reason, text })
}
