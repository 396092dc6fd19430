//! The measurements of `cargo xtask bench record` that need no session, and the reading back of what sessions recorded.
//!
//! - `recording-cost parts ROUNDS MEGABYTES`: what sealing, hashing and looking at a terminal cost, one JSON object
//!   `{"what", "ns_per_byte": [..]}` a line, by the CPU time of the thread;
//! - `recording-cost recover DIR FILES`: makes a spool of so many files in `DIR` as a crash leaves it, and says how long
//!   opening it takes, then and once more;
//! - `recording-cost stream KEY SESSION_DIR client|target`: what is recorded of one side of channel 0, to standard output;
//! - `recording-cost files KEY SESSION_DIR ORIGINALS`: how many files of the directory `ORIGINALS` are recorded as
//!   transferred whole, with their SHA-256.
//!
//! What the figures mean is in docs/benchmarks.md.

#![expect(clippy::print_stdout, reason = "its output is the result")]

mod parts;
mod read;
mod recover;

use std::path::Path;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["parts", rounds, megabytes] => parts::measure(rounds.parse()?, megabytes.parse()?),
        ["recover", directory, files] => recover::measure(Path::new(directory), files.parse()?),
        ["stream", key, session, side] => read::stream(Path::new(key), Path::new(session), side),
        ["files", key, session, originals] => {
            read::files(Path::new(key), Path::new(session), Path::new(originals))
        }
        _ => bail!("recording-cost parts | recover | stream | files"),
    }
}
