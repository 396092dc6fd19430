//! Whether what was sent is what was recorded, byte for byte.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::scene::{Scene, Way};

/// Bytes that a stream must have: `first`, and then `repeated` from its start, again and again.
pub(super) struct Expected<'a> {
    pub(super) first: &'a [u8],
    pub(super) repeated: &'a [u8],
    /// How many of those that are repeated.
    pub(super) bytes: usize,
}

/// Opens one side (`client`, `target`) of the first channel of a recording; how many bytes are missing at its end.
///
/// # Errors
/// When it does not open, or holds anything else.
pub(super) fn missing(
    scene: &Scene,
    way: Way,
    session: &Path,
    side: &str,
    expected: &Expected<'_>,
) -> Result<usize> {
    let mut command = scene.program();
    let key = scene.bed(way)?.gateway()?.files().recipient_key();
    command.arg("stream").arg(key).arg(session).arg(side).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut reader = command.spawn().context("recording-cost")?;
    let output = reader.stdout.take().context("no output")?;
    let found = expected.found_in(output);
    ensure!(reader.wait()?.success() || found.is_err(), "the recording does not open");
    Ok((expected.first.len() + expected.bytes).saturating_sub(found?))
}

impl Expected<'_> {
    /// How many bytes come; they must be those that are expected.
    fn found_in(&self, mut output: impl Read) -> Result<usize> {
        let (mut piece, mut found) = (vec![0; 256 * 1024], 0);
        loop {
            let count = output.read(&mut piece)?;
            if count == 0 {
                return Ok(found);
            }
            let mut rest = piece.get(..count).unwrap_or_default();
            while !rest.is_empty() {
                let wanted = self.at(found);
                let (part, after) = rest.split_at(rest.len().min(wanted.len()));
                ensure!(!part.is_empty(), "more was recorded than sent: {found} bytes were due");
                ensure!(wanted.starts_with(part), "what was recorded differs behind byte {found}");
                found += part.len();
                rest = after;
            }
        }
    }

    /// Some of what is due from `position` on; nothing at the end.
    fn at(&self, position: usize) -> &[u8] {
        if let Some(first) = self.first.get(position..).filter(|first| !first.is_empty()) {
            return first;
        }
        let position = position - self.first.len();
        let repeated = self.repeated.get(position % self.repeated.len()..).unwrap_or_default();
        repeated.get(..self.bytes - position).unwrap_or(repeated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted_and_what_differs_is_an_error() {
        let expected = Expected { first: b"go\n", repeated: b"abc", bytes: 7 };
        assert_eq!(expected.found_in(&b"go\nabcabca"[..]).unwrap(), 10);
        assert_eq!(expected.found_in(&b"go\nabcab"[..]).unwrap(), 8);
        assert!(expected.found_in(&b"go\nabcabcab"[..]).is_err());
        assert!(expected.found_in(&b"go\nabcbabca"[..]).is_err());
        assert!(expected.found_in(&b"gone"[..]).is_err());
    }
}
