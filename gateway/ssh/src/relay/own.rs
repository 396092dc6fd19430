//! Messages that the relay sends in place of what came.
//!
//! Owns their bytes alone; when one is due is decided by the caller.

use super::{Relay, Side};
use crate::message;
use crate::text::TerminalText;
use crate::wire::{Reader, WireError, put_string, put_u32};

/// A name that no SSH implementation knows, so the peer refuses it in its own order of replies.
pub(super) const UNKNOWN: &[u8] = b"refused@portreeve";

/// The request to send instead of a global or channel request that is refused: the same channel and
/// `want_reply`, under a name that the other side does not know and so refuses, in order.
///
/// # Errors
/// [`WireError`] when `payload` is no request.
pub fn refused_request(payload: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut reader = Reader::new(payload);
    let number = reader.u8()?;
    let mut refused = vec![number];
    match number {
        message::GLOBAL_REQUEST => {}
        message::CHANNEL_REQUEST => put_u32(&mut refused, reader.u32()?),
        _ => return Err(WireError::Malformed),
    }
    reader.string()?;
    put_string(&mut refused, UNKNOWN).map_err(|_| WireError::Malformed)?;
    refused.push(reader.u8()?);
    Ok(refused)
}

/// CHANNEL_DATA on the channel of other data, with `bytes` in its place.
///
/// # Errors
/// [`WireError`] when `payload` is no message on a channel, or `bytes` are too many for one.
pub fn replaced_data(payload: &[u8], bytes: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut reader = Reader::new(payload);
    reader.u8()?;
    let mut data = vec![message::CHANNEL_DATA];
    put_u32(&mut data, reader.u32()?);
    put_string(&mut data, bytes).map_err(|_| WireError::Malformed)?;
    Ok(data)
}

/// CHANNEL_WINDOW_ADJUST to the side that calls a channel `recipient` (RFC 4254 section 5.2).
pub fn window_adjust(recipient: u32, bytes: u32) -> Vec<u8> {
    let mut adjust = vec![message::CHANNEL_WINDOW_ADJUST];
    put_u32(&mut adjust, recipient);
    put_u32(&mut adjust, bytes);
    adjust
}

/// CHANNEL_OPEN_FAILURE for a CHANNEL_OPEN that is refused: administratively prohibited (RFC 4254
/// section 5.1), with a text for the user. The channel leaves the table.
///
/// # Errors
/// [`WireError`] when `payload` is no CHANNEL_OPEN.
pub fn refused_open(
    relay: &mut Relay,
    from: Side,
    payload: &[u8],
    text: &TerminalText,
) -> Result<Vec<u8>, WireError> {
    const ADMINISTRATIVELY_PROHIBITED: u32 = 1;
    let mut reader = Reader::new(payload);
    if reader.u8()? != message::CHANNEL_OPEN {
        return Err(WireError::Malformed);
    }
    reader.string()?;
    let sender = reader.u32()?;
    relay.channels.forget(from, sender);
    let mut failure = vec![message::CHANNEL_OPEN_FAILURE];
    put_u32(&mut failure, sender);
    put_u32(&mut failure, ADMINISTRATIVELY_PROHIBITED);
    put_string(&mut failure, text.as_str().as_bytes()).map_err(|_| WireError::Malformed)?;
    put_string(&mut failure, b"").map_err(|_| WireError::Malformed)?;
    Ok(failure)
}
