//! Reads a recorded stream as the gateway does, and compares what was found with what is true.

use portreeve_core::command::{Finding, PtyReader, TypedCommand, UnechoedInput};

use super::programs::Recorded;
use super::sitting::{Piece, Stream};

/// What a stream told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) commands: Vec<TypedCommand>,
    pub(crate) omitted: usize,
    pub(crate) input: Vec<u8>,
}

/// Found against true.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Score {
    pub(crate) truth: usize,
    pub(crate) found: usize,
    pub(crate) right: usize,
}

/// Reads `stream` with each piece cut into pieces of at most `cut` bytes.
pub(crate) fn read(stream: &Stream, cut: usize) -> Read {
    let mut reader = PtyReader::new(80, 24, UnechoedInput::Omit);
    let mut read = Read::default();
    for (elapsed, piece) in stream {
        if let Some(deadline) = reader.deadline().filter(|deadline| deadline < elapsed) {
            read.add(reader.quiet(deadline));
        }
        match piece {
            Piece::Client(bytes) => {
                bytes.chunks(cut).for_each(|bytes| read.add(reader.client(*elapsed, bytes)))
            }
            Piece::Target(bytes) => {
                bytes.chunks(cut).for_each(|bytes| read.add(reader.target(*elapsed, bytes)))
            }
            Piece::Window(columns, rows) => reader.resize(u32::from(*columns), u32::from(*rows)),
        }
    }
    read.add(reader.finish());
    read
}

impl Read {
    fn add(&mut self, outcome: portreeve_core::command::Outcome) {
        self.input.extend(outcome.input);
        for finding in outcome.findings {
            match finding {
                Finding::Command(command) => self.commands.push(command),
                Finding::InputOmitted => self.omitted += 1,
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        self.commands.iter().flat_map(|command| normal(&command.text)).collect()
    }
}

impl Score {
    /// The share of what is true that was found.
    pub(crate) fn recall(self) -> f64 {
        share(self.right, self.truth)
    }

    /// The share of what was found that is true.
    pub(crate) fn precision(self) -> f64 {
        share(self.right, self.found)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            truth: self.truth + other.truth,
            found: self.found + other.found,
            right: self.right + other.right,
        }
    }
}

/// Compares, in order; also gives what is wrong.
pub(crate) fn score(recorded: &Recorded, read: &Read) -> (Score, Vec<String>) {
    let mut mistakes = Vec::new();
    let truth: Vec<String> = recorded.truth.iter().flat_map(|line| normal(line)).collect();
    let found = read.lines();
    let mut longest = vec![vec![0_usize; found.len() + 1]; truth.len() + 1];
    for (i, line) in truth.iter().enumerate().rev() {
        for (j, other) in found.iter().enumerate().rev() {
            let skipped = longest[i + 1][j].max(longest[i][j + 1]);
            longest[i][j] = if line == other { longest[i + 1][j + 1] + 1 } else { skipped };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < truth.len() || j < found.len() {
        if i < truth.len() && j < found.len() && truth[i] == found[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == found.len() || (i < truth.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            mistakes.push(format!("{}: missed {:?}", recorded.program, truth[i]));
            i += 1;
        } else {
            mistakes.push(format!("{}: wrong {:?}", recorded.program, found[j]));
            j += 1;
        }
    }
    (Score { truth: truth.len(), found: found.len(), right: longest[0][0] }, mistakes)
}

/// The lines of a command without what programs write down differently: blanks, and the semicolon at the end
/// of a statement, which a database server does not get.
fn normal(command: &str) -> Vec<String> {
    let lines = command.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.map(|line| line.trim_end_matches(';').to_owned()).filter(|line| !line.is_empty()).collect()
}

fn share(part: usize, whole: usize) -> f64 {
    let number = |count| f64::from(u32::try_from(count).expect("a small number"));
    if whole == 0 { 1.0 } else { number(part) / number(whole) }
}
