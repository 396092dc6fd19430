//! The lines of an events file, put together from the packets they come in.
//!
//! Invariant: at most [`MAX_LINE`] bytes of a line are kept; a longer one is passed on in pieces.

use portreeve_core::envelope::RecipientPrivateKey;
use portreeve_core::record::EventLine;
use serde_json::Value;

use super::reading::ReadingError;
use super::segments::{Log, LogReading};

/// Longest line of events that is kept in one piece.
const MAX_LINE: usize = 8 * 1024 * 1024;

/// Puts lines together.
#[derive(Default)]
pub(super) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Passes on, without their ends, the lines that end in `data`.
    pub(super) fn add<E>(
        &mut self,
        data: &[u8],
        mut pass_on: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() > MAX_LINE {
                let passed_on = pass_on(self.line.strip_suffix(b"\n").unwrap_or(&self.line));
                self.line.clear();
                passed_on?;
            }
        }
        Ok(())
    }

    /// What follows the last whole line.
    pub(super) fn rest(self) -> Option<Vec<u8>> {
        (!self.line.is_empty()).then_some(self.line)
    }
}

/// Passes on every line of an events log that is JSON, as what it is to this version (an event of a later one is
/// no [`EventLine`]) and as it stands there.
pub(super) fn read_events(
    events: &Log,
    private_key: &RecipientPrivateKey,
    mut pass_on: impl FnMut(Option<EventLine>, &Value),
) -> Result<LogReading, ReadingError> {
    let mut lines = Lines::default();
    events.read(private_key, |packet| {
        lines.add(packet.data, |line| {
            if let Ok(value) = serde_json::from_slice::<Value>(line) {
                pass_on(serde::Deserialize::deserialize(&value).ok(), &value);
            }
            Ok(())
        })
    })
}
