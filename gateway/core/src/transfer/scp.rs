//! The protocol of `rcp`, as `scp -O` speaks it (OpenSSH's scp.c, `source` and `sink`).
//!
//! One side sends lines (`C` a file, `D` and `E` a directory's begin and end, `T` times, 1 and 2 an error) and after `C`
//! that many bytes and a byte for how reading went; the other answers each with a byte and, where that is not 0, a line.
//! It answers once before all, too. Names of at most [`MAX_LINE`] bytes, [`MAX_DEPTH`] directories, and
//! [`MAX_OWED`] answers that are due are kept.

use std::collections::VecDeque;

use aws_lc_rs::digest::{Context, SHA256};
use thiserror::Error;

use super::sftp::Found;
use crate::inspection::FileProgress;
use crate::record::{
    ChannelNumber, FileOutcome, FileTransfer, HashMissing, Source, Text, TransferDirection, TransferProtocol,
};

/// The longest line: the longest path of Linux, and as much for what stands before it.
const MAX_LINE: usize = 8192;

/// Directories within each other.
const MAX_DEPTH: usize = 256;

/// Answers that are due at a time; each lets one line wait.
const MAX_OWED: usize = 64;

/// Who sends files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    ClientSends,
    TargetSends,
}

/// Why the channel cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum ScpFault {
    #[error("a line of scp is longer than {MAX_LINE} bytes")]
    LongLine,
    #[error("not a line of scp")]
    Line,
    #[error("more than {MAX_DEPTH} directories within each other by scp")]
    Depth,
    #[error("an answer of scp that nothing was sent for, or more than {MAX_OWED} are due")]
    Answers,
}

/// Follows both directions of a channel.
pub(super) struct ScpInspector {
    role: Role,
    paths: Text,
    directories: Vec<Vec<u8>>,
    sending: Sending,
    /// The line that is being read of each side.
    line: Vec<u8>,
    answer: Vec<u8>,
    /// The file that is being sent or waits for its last answer.
    file: Option<File>,
    owed: VecDeque<Owed>,
}

/// What the sender sends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Line,
    Data {
        left: u64,
    },
    /// How reading the file went: a byte, and a line where that is not 0.
    Status,
}

/// What the next answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Line,
    Directory,
    File,
    FileEnd,
}

struct File {
    name: Option<Text>,
    size: u64,
    bytes: u64,
    hash: Context,
    started_us: u64,
    failure: Option<Text>,
    /// Bytes that had crossed when they were told last.
    told: Option<u64>,
}

impl ScpInspector {
    pub(super) fn new(role: Role, paths: Text) -> Self {
        Self {
            role,
            paths,
            directories: Vec::new(),
            sending: Sending::Line,
            line: Vec::new(),
            answer: Vec::new(),
            file: None,
            // The receiver speaks first.
            owed: VecDeque::from([Owed::Line]),
        }
    }

    /// Looks at data of either side.
    ///
    /// # Errors
    /// [`ScpFault`]; what follows cannot be looked into.
    pub(super) fn data(
        &mut self,
        source: Source,
        data: &[u8],
        now: u64,
        found: &mut Vec<Found>,
    ) -> Result<(), ScpFault> {
        let sender = match self.role {
            Role::ClientSends => Source::Client,
            Role::TargetSends => Source::Target,
        };
        if source == sender { self.sent(data, now, found) } else { self.answered(data, found) }
    }

    /// The file that is being sent, if it went on since this was called before.
    pub(super) fn moved(&mut self, channel: ChannelNumber) -> Option<FileProgress> {
        let file = self.file.as_mut().filter(|file| file.told != Some(file.bytes))?;
        let told = file.told.replace(file.bytes);
        let (path, name) = (self.paths.clone(), file.name.clone());
        Some(FileProgress { channel, path, name, told, bytes: file.bytes })
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self, found: &mut Vec<Found>) {
        self.conclude(FileOutcome::Partial, found);
    }

    fn sent(&mut self, mut data: &[u8], now: u64, found: &mut Vec<Found>) -> Result<(), ScpFault> {
        while let Some((first, rest)) = data.split_first() {
            match self.sending {
                Sending::Data { left } => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                    let (piece, after) = data.split_at(length);
                    if let Some(file) = &mut self.file {
                        file.hash.update(piece);
                        file.bytes = file.bytes.saturating_add(piece.len() as u64);
                    }
                    data = after;
                    self.sending = data_or_status(left.saturating_sub(piece.len() as u64));
                }
                Sending::Status if self.line.is_empty() && *first == 0 => {
                    data = rest;
                    self.sent_all(None)?;
                }
                Sending::Status | Sending::Line => {
                    data = rest;
                    if *first != b'\n' {
                        push(&mut self.line, *first)?;
                        continue;
                    }
                    let line = std::mem::take(&mut self.line);
                    if self.sending == Sending::Status {
                        self.sent_all(Some(message(&line)))?;
                    } else {
                        self.line(&line, now, found)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The file's bytes are all sent.
    fn sent_all(&mut self, failure: Option<Text>) -> Result<(), ScpFault> {
        if let (Some(file), Some(failure)) = (&mut self.file, failure) {
            file.failure.get_or_insert(failure);
        }
        self.sending = Sending::Line;
        self.owe(Owed::FileEnd)
    }

    fn line(&mut self, line: &[u8], now: u64, found: &mut Vec<Found>) -> Result<(), ScpFault> {
        let (kind, rest) = line.split_first().ok_or(ScpFault::Line)?;
        match kind {
            // The mode, the size, the name.
            b'C' | b'D' => {
                let mut words = rest.splitn(3, |byte| *byte == b' ').skip(1);
                let size = words.next().and_then(number).ok_or(ScpFault::Line)?;
                let name = words.next().ok_or(ScpFault::Line)?;
                if *kind == b'D' {
                    if self.directories.len() >= MAX_DEPTH {
                        return Err(ScpFault::Depth);
                    }
                    self.directories.push(name.to_vec());
                    return self.owe(Owed::Directory);
                }
                // A sender that does not wait for answers has begun the next.
                self.conclude(FileOutcome::Partial, found);
                let (name, hash) = (self.named(name), Context::new(&SHA256));
                self.file =
                    Some(File { name, size, bytes: 0, hash, started_us: now, failure: None, told: None });
                self.sending = data_or_status(size);
                self.owe(Owed::File)
            }
            b'E' => {
                self.directories.pop();
                self.owe(Owed::Line)
            }
            b'T' => self.owe(Owed::Line),
            // Something could not be sent; there is no answer to that.
            1 | 2 => {
                let name = self.named(b"");
                let outcome = FileOutcome::Failed { status: message(line) };
                let transfer = self.transfer(name, now, (0, None), outcome);
                found.push(Found::Transfer { transfer, told: None });
                Ok(())
            }
            _ => Err(ScpFault::Line),
        }
    }

    fn answered(&mut self, data: &[u8], found: &mut Vec<Found>) -> Result<(), ScpFault> {
        for byte in data {
            if self.answer.is_empty() && *byte == 0 {
                self.answer_to(None, found)?;
            } else if *byte == b'\n' {
                let line = std::mem::take(&mut self.answer);
                self.answer_to(Some(message(&line)), found)?;
            } else if self.answer.is_empty() && !matches!(byte, 1 | 2) {
                return Err(ScpFault::Line);
            } else {
                push(&mut self.answer, *byte)?;
            }
        }
        Ok(())
    }

    fn answer_to(&mut self, failure: Option<Text>, found: &mut Vec<Found>) -> Result<(), ScpFault> {
        match (self.owed.pop_front().ok_or(ScpFault::Answers)?, failure) {
            (Owed::Line, _) | (Owed::Directory | Owed::File, None) => {}
            (Owed::Directory, Some(_)) => drop(self.directories.pop()),
            (Owed::File, Some(status)) => {
                // The sender goes on with the next, unless it did not wait.
                let waited = self.file.as_ref().is_some_and(|file| file.bytes == 0 && self.line.is_empty());
                if waited && self.sending != Sending::Line {
                    self.sending = Sending::Line;
                    self.conclude(FileOutcome::Failed { status }, found);
                } else if let Some(file) = &mut self.file {
                    file.failure.get_or_insert(status);
                }
            }
            (Owed::FileEnd, Some(status)) => self.conclude(FileOutcome::Failed { status }, found),
            (Owed::FileEnd, None) => self.conclude(FileOutcome::Complete, found),
        }
        Ok(())
    }

    fn owe(&mut self, owed: Owed) -> Result<(), ScpFault> {
        self.owed.push_back(owed);
        if self.owed.len() > MAX_OWED { Err(ScpFault::Answers) } else { Ok(()) }
    }

    /// Tells what became of the file that was sent last, if it was not told.
    fn conclude(&mut self, outcome: FileOutcome, found: &mut Vec<Found>) {
        let Some(file) = self.file.take() else { return };
        let outcome = match file.failure {
            Some(status) => FileOutcome::Failed { status },
            None => outcome,
        };
        let is_whole = outcome == FileOutcome::Complete && file.bytes == file.size;
        let hash = is_whole.then(|| hex::encode(file.hash.finish()));
        let transfer = self.transfer(file.name, file.started_us, (file.bytes, hash), outcome);
        found.push(Found::Transfer { transfer, told: file.told });
    }

    fn named(&self, name: &[u8]) -> Option<Text> {
        let directories = self.directories.iter().map(Vec::as_slice);
        let names: Vec<&[u8]> = directories.chain([name]).filter(|name| !name.is_empty()).collect();
        (!names.is_empty()).then(|| Text(names.join(&b'/')))
    }

    fn transfer(
        &self,
        name: Option<Text>,
        started_us: u64,
        (bytes, sha256): (u64, Option<String>),
        outcome: FileOutcome,
    ) -> FileTransfer {
        let (direction, uploaded, downloaded) = match self.role {
            Role::ClientSends => (TransferDirection::Upload, bytes, 0),
            Role::TargetSends => (TransferDirection::Download, 0, bytes),
        };
        FileTransfer {
            protocol: TransferProtocol::Scp,
            path: self.paths.clone(),
            name,
            direction,
            uploaded,
            downloaded,
            sha256_missing: sha256.is_none().then_some(HashMissing::Incomplete),
            sha256,
            started_us,
            outcome,
        }
    }
}

const fn data_or_status(left: u64) -> Sending {
    if left == 0 { Sending::Status } else { Sending::Data { left } }
}

fn push(line: &mut Vec<u8>, byte: u8) -> Result<(), ScpFault> {
    line.push(byte);
    if line.len() > MAX_LINE { Err(ScpFault::LongLine) } else { Ok(()) }
}

/// The text of an error, after its byte.
fn message(line: &[u8]) -> Text {
    Text(line.split_first().map_or(&[][..], |(_, text)| text).to_vec())
}

fn number(word: &[u8]) -> Option<u64> {
    str::from_utf8(word).ok()?.parse().ok()
}
