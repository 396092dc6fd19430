//! Messages that carry the data of a channel, or end it, for a caller that sends the same bytes cut otherwise.
//!
//! Owns their form alone. Extended data is none of these.

use super::{ChannelId, Relay, Side};
use crate::message;
use crate::wire::{PayloadTooLong, Reader, WireError, put_string, put_u32};

/// What a message does with the data of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streamed<'a> {
    /// CHANNEL_DATA: these bytes come next.
    Data(&'a [u8]),
    /// CHANNEL_EOF or CHANNEL_CLOSE: none come after.
    End,
}

impl Relay {
    /// The channel of such a message of `from`, the number by which its receiver knows that, and what it does; `None`
    /// for all other messages.
    pub fn streamed<'a>(&self, from: Side, payload: &'a [u8]) -> Option<(ChannelId, u32, Streamed<'a>)> {
        let (recipient, streamed) = read(payload).ok()??;
        Some((self.channels.find(from.other(), recipient)?, recipient, streamed))
    }
}

fn read(payload: &[u8]) -> Result<Option<(u32, Streamed<'_>)>, WireError> {
    let mut reader = Reader::new(payload);
    Ok(match reader.u8()? {
        message::CHANNEL_DATA => Some((reader.u32()?, Streamed::Data(reader.string()?))),
        message::CHANNEL_EOF | message::CHANNEL_CLOSE => Some((reader.u32()?, Streamed::End)),
        _ => None,
    })
}

/// CHANNEL_DATA to the side that calls a channel `recipient` (RFC 4254 section 5.2).
///
/// # Errors
/// [`PayloadTooLong`].
pub fn channel_data(recipient: u32, data: &[u8]) -> Result<Vec<u8>, PayloadTooLong> {
    let mut payload = Vec::with_capacity(data.len() + 9);
    payload.push(message::CHANNEL_DATA);
    put_u32(&mut payload, recipient);
    put_string(&mut payload, data)?;
    Ok(payload)
}
