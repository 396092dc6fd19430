//! What the fuzz targets call, and what replays their corpora in the tests.
//!
//! Each function takes any bytes, drives one part of the crate with them and asserts what must hold.
//! Not part of the crate as it is used: compiled for tests and with the feature `fuzz-entry` only.

mod record;
mod terminal;
mod transfers;

use crate::record::Source;

pub use record::{envelope, manifest};
pub use terminal::pty;
pub use transfers::{scp, sftp};

/// A target and its name, which is that of its file and of its corpus too.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 5] =
    [("envelope", envelope), ("manifest", manifest), ("pty", pty), ("scp", scp), ("sftp", sftp)];

/// The data of a channel in an input, which is a list of u8 source (even the client's), u32 length, data.
fn pieces(mut input: &[u8]) -> Vec<(Source, &[u8])> {
    let mut pieces = Vec::new();
    while let Some(([source, length @ ..], rest)) = input.split_first_chunk::<5>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX).min(rest.len());
        let (data, after) = rest.split_at(length);
        pieces.push((if source & 1 == 0 { Source::Client } else { Source::Target }, data));
        input = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_input_of_every_corpus_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, target) in TARGETS {
            let entries = fs::read_dir(corpus.join(name)).expect(name);
            let inputs: Vec<_> = entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
            assert!(inputs.len() > 3, "{name}: {} inputs", inputs.len());
            inputs.iter().for_each(|input| target(input));
        }
    }
}
