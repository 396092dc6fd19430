//! With the recipient's private key: whether every block opens, and whether the header tells the truth.

use std::io;

use portreeve_core::envelope::{LogKind, RecipientPrivateKey};
use portreeve_core::manifest::FileEntry;

use crate::cli::logs::location::Location;
use crate::cli::logs::reading::read_packets;

/// Longest line of events that is looked at as JSON.
const MAX_LINE: usize = 8 * 1024 * 1024;

/// What is wrong with the contents of a file.
pub(super) fn check_contents(
    path: &Location,
    entry: &FileEntry,
    private_key: &RecipientPrivateKey,
) -> Vec<String> {
    let mut data = 0_u64;
    let mut events = (entry.kind == Some(LogKind::Events)).then(EventCheck::default);
    let read = read_packets(path, private_key, |packet| {
        data += packet.data.len() as u64;
        if let Some(events) = &mut events {
            events.feed(packet.data);
        }
        io::Result::Ok(())
    });
    let reading = match read {
        Ok(reading) => reading,
        Err(error) => return vec![with_source(&error)],
    };
    let mut problems: Vec<String> = reading.damage.iter().map(ToString::to_string).collect();
    let header = reading.header;
    // What a damaged file still holds says nothing about its header.
    if let Some(blocks) = header.blocks.filter(|_| reading.damage.is_none()) {
        if blocks != entry.blocks {
            problems.push(format!("its header tells of {blocks} blocks, its manifest of {}", entry.blocks));
        }
        if header.data_size != data {
            problems.push(format!("its header tells of {} bytes of data, {data} open", header.data_size));
        }
    }
    if let Some(line) = events.and_then(|events| events.malformed) {
        problems.push(format!("line {line} of its events is no JSON"));
    }
    problems
}

/// Looks for lines that are no JSON. The first line of a later segment may begin in the one before, and the
/// last may be cut by a crash, so a line counts from its start to its newline.
#[derive(Default)]
struct EventCheck {
    line: Vec<u8>,
    number: u64,
    malformed: Option<u64>,
}

impl EventCheck {
    fn feed(&mut self, data: &[u8]) {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() <= MAX_LINE {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                self.number += 1;
                let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&self.line).is_ok();
                if !is_json && self.malformed.is_none() {
                    self.malformed = Some(self.number);
                }
                self.line.clear();
            }
        }
    }
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
