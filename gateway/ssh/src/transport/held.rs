//! Messages that wait for a key exchange to end (RFC 4253 section 7.1).
//!
//! Invariants: they leave in the order in which they came; their number is bounded as well as their
//! bytes, so that a peer which answers no proposal but sends pings cannot make this side grow.

use super::TransportError;

/// Most bytes of messages, each with [`OVERHEAD`].
const MAX_HELD: usize = 1024 * 1024;
/// What a message costs besides its bytes, in bytes.
const OVERHEAD: usize = 64;

#[derive(Default)]
pub(super) struct Held {
    messages: Vec<Vec<u8>>,
    bytes: usize,
}

impl Held {
    /// Keeps a message.
    ///
    /// # Errors
    /// [`TransportError::Held`] when too much is kept already.
    pub(super) fn push(&mut self, message: Vec<u8>) -> Result<(), TransportError> {
        self.bytes += message.len() + OVERHEAD;
        if self.bytes > MAX_HELD {
            return Err(TransportError::Held);
        }
        self.messages.push(message);
        Ok(())
    }

    /// All messages, in order; none is kept.
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}
