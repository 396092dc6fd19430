//! What becomes of files on an sftp channel: requests and answers, joined by their ids.
//!
//! Owns the requests that are not answered, which are bounded. A file is told when it is closed, a change when it is
//! answered; what policy refuses is known by the same rule that refuses it, whatever the target answers. Versions other
//! than 3 are read as if they were 3; where that fails, the looking ends.

use std::collections::HashMap;

use super::asked::{Asked, Named};
use super::files::{Files, Place};
use super::frames::{Frames, Step};
use super::open_file::OpenFile;
use super::rights::needed;
use super::{SftpFault, code, kind};
use crate::infrastructure::TransferRights;
use crate::inspection::FileProgress;
use crate::record::{ChannelNumber, FileChange, FileOutcome, FileTransfer, Text};
use crate::transfer::fields::Fields;

/// Requests that are not answered: as many as a client has that asks for 4 GiB at once.
const MAX_REQUESTS: usize = 131_072;

/// Bytes of names in requests that are not answered.
const MAX_NAMES: usize = 1024 * 1024;

/// Bytes before the fields of a packet: length, type and id.
const FIELDS: usize = 9;

/// What is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::transfer) enum Found {
    /// A file, and the bytes that had crossed when it was told last that it goes on.
    Transfer {
        transfer: FileTransfer,
        told: Option<u64>,
    },
    Change(FileChange),
}

/// Follows both directions of a channel.
pub(in crate::transfer) struct SftpInspector {
    rights: TransferRights,
    requests: Frames,
    answers: Frames,
    asked: HashMap<u32, Asked>,
    /// Bytes of names in `asked`.
    names: usize,
    files: Files,
    /// Where the bytes belong that follow the head of a WRITE, and of a DATA.
    writing: Option<Place>,
    reading: Option<Place>,
    /// The file whose size was told last.
    sized: Option<(Text, u64)>,
}

impl SftpInspector {
    pub(in crate::transfer) fn new(rights: TransferRights) -> Self {
        Self {
            rights,
            requests: Frames::default(),
            answers: Frames::default(),
            asked: HashMap::new(),
            names: 0,
            files: Files::default(),
            writing: None,
            reading: None,
            sized: None,
        }
    }

    /// Looks at what the client sent.
    ///
    /// # Errors
    /// [`SftpFault`]; what follows cannot be looked into.
    pub(in crate::transfer) fn client(&mut self, mut data: &[u8], now: u64) -> Result<(), SftpFault> {
        while let Some(step) = self.requests.next(&mut data, request_head)? {
            match (step, &mut self.writing) {
                (Step::Head(head), _) => self.request(&head, now)?,
                (Step::Rest(rest), Some(place)) => self.files.write(place, rest),
                (Step::Rest(_), None) => {}
            }
        }
        Ok(())
    }

    /// Looks at what the target sent.
    ///
    /// # Errors
    /// [`SftpFault`]; what follows cannot be looked into.
    pub(in crate::transfer) fn target(
        &mut self,
        mut data: &[u8],
        found: &mut Vec<Found>,
    ) -> Result<(), SftpFault> {
        while let Some(step) = self.answers.next(&mut data, answer_head)? {
            match (step, &mut self.reading) {
                (Step::Head(head), _) => self.answer(&head, found)?,
                (Step::Rest(rest), Some(place)) => self.files.read(place, rest),
                (Step::Rest(_), None) => {}
            }
        }
        Ok(())
    }

    /// As [`crate::inspection::ChannelInspector::moved`], of files that are open.
    pub(in crate::transfer) fn moved(&mut self, channel: ChannelNumber) -> Vec<FileProgress> {
        self.files.moved(channel)
    }

    /// Nothing more comes: tells what is open and what was not answered.
    pub(in crate::transfer) fn finish(&mut self, found: &mut Vec<Found>) {
        found.extend(self.files.close_all());
        let mut asked: Vec<_> = self.asked.drain().collect();
        asked.sort_unstable_by_key(|(id, _)| *id);
        for (_, asked) in asked {
            if let Asked::Named(named) = asked {
                self.conclude(
                    *named,
                    |refused| {
                        if refused { FileOutcome::Refused } else { FileOutcome::Partial }
                    },
                    found,
                );
            }
        }
    }

    fn request(&mut self, head: &[u8], now: u64) -> Result<(), SftpFault> {
        self.writing = None;
        let (kind, id, fields) = parts(head)?;
        if kind == kind::INIT {
            return Ok(());
        }
        let refused = !self.rights.cover(needed(kind, fields.0));
        let asked = Asked::read(kind, fields, &self.files, refused, now).ok_or(SftpFault::Malformed(kind))?;
        if let Asked::Write { file, offset, refused: false } = asked {
            self.writing = Some((file, offset));
        }
        self.names = self.names.saturating_add(asked.names());
        let former =
            if matches!(asked, Asked::Other) { self.asked.remove(&id) } else { self.asked.insert(id, asked) };
        self.names = self.names.saturating_sub(former.map_or(0, |former| former.names()));
        if self.asked.len() > MAX_REQUESTS || self.names > MAX_NAMES {
            return Err(SftpFault::Outstanding(self.asked.len()));
        }
        Ok(())
    }

    fn answer(&mut self, head: &[u8], found: &mut Vec<Found>) -> Result<(), SftpFault> {
        self.reading = None;
        let (kind, id, mut fields) = parts(head)?;
        if kind == kind::VERSION {
            return Ok(());
        }
        let Some(asked) = self.asked.remove(&id) else { return Ok(()) };
        self.names = self.names.saturating_sub(asked.names());
        match (kind, asked) {
            (kind::STATUS, asked) => {
                let code = fields.u32().ok_or(SftpFault::Malformed(kind))?;
                self.status(asked, code, fields.string().unwrap_or_default(), found);
            }
            (kind::DATA, Asked::Read { file, offset }) => self.reading = Some((file, offset)),
            (kind::ATTRS, Asked::Fstat { file }) => {
                if let (Some(file), Some(size)) = (self.files.file(file), size(fields)) {
                    file.has_size(size);
                }
            }
            (_, Asked::Named(named)) => match (kind, *named) {
                (kind::HANDLE, Named::Open { path, flags, started_us, .. }) => {
                    let handle = fields.string().ok_or(SftpFault::Malformed(kind))?;
                    let mut file = OpenFile::new(path, flags, started_us);
                    if let Some((_, size)) = self.sized.as_ref().filter(|(path, _)| path == file.path()) {
                        file.has_size(*size);
                    }
                    self.files.open(handle, file)?;
                }
                (kind::ATTRS, Named::Stat { path }) => self.sized = size(fields).map(|size| (path, size)),
                (kind::NAME, Named::Home) => {
                    // The number of names, then the first.
                    if let Some(path) = fields.u32().and_then(|_| fields.string()) {
                        self.files.starts_in(path);
                    }
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn status(&mut self, asked: Asked, code: u32, text: &[u8], found: &mut Vec<Found>) {
        let outcome = |refused: bool| match code {
            _ if refused => FileOutcome::Refused,
            code::OK => FileOutcome::Complete,
            _ => FileOutcome::Failed { status: status_text(code, text) },
        };
        match asked {
            Asked::Read { file, offset } => match self.files.file(file) {
                Some(file) if code == code::EOF => file.ends_at(offset),
                Some(file) if code != code::OK => file.fails(outcome(false)),
                _ => {}
            },
            Asked::Write { file, refused, .. } => match self.files.file(file) {
                Some(file) if code != code::OK => file.fails(outcome(refused)),
                _ => {}
            },
            Asked::Close { file } => {
                found.extend(self.files.close(file, outcome(false)));
            }
            Asked::Named(named) => self.conclude(*named, outcome, found),
            Asked::Fstat { .. } | Asked::Other => {}
        }
    }

    /// Tells what became of a request that opened nothing; `outcome` says it by whether policy refuses it.
    fn conclude(&mut self, named: Named, outcome: impl Fn(bool) -> FileOutcome, found: &mut Vec<Found>) {
        match named {
            Named::Open { path, flags, started_us, refused } => {
                let file = OpenFile::new(path, flags, started_us);
                found.push(self.files.over(file, outcome(refused)));
            }
            Named::Change { change, refused } => {
                found.push(Found::Change(FileChange { outcome: outcome(refused), ..change }));
            }
            Named::Stat { .. } | Named::Home => {}
        }
    }
}

/// Type, id (the version of INIT and VERSION) and fields of a packet.
fn parts(head: &[u8]) -> Result<(u8, u32, Fields<'_>), SftpFault> {
    let mut fields = Fields(head.get(4..).unwrap_or_default());
    let kind = fields.u8().unwrap_or_default();
    let id = fields.u32().ok_or(SftpFault::Malformed(kind))?;
    Ok((kind, id, fields))
}

/// The size in attributes, if it is among them (draft, section 5).
fn size(mut fields: Fields<'_>) -> Option<u64> {
    const SIZE: u32 = 1;
    fields.u32().filter(|flags| flags & SIZE != 0).and_then(|_| fields.u64())
}

/// How much of a request is looked at in one piece: all but what a WRITE writes.
fn request_head(head: &[u8]) -> usize {
    if head.get(4) != Some(&kind::WRITE) {
        return usize::MAX;
    }
    // After the handle u64 offset and the length of the data.
    let handle = head.get(FIELDS..).and_then(|fields| Fields(fields).u32());
    let handle = handle.and_then(|length| usize::try_from(length).ok());
    handle.map_or(FIELDS + 4, |length| length.saturating_add(FIELDS + 16))
}

/// How much of an answer is looked at in one piece: of data and of lists only the start.
fn answer_head(head: &[u8]) -> usize {
    const LOOKED_AT: usize = 8192;
    match head.get(4) {
        // After the id the length of the data.
        Some(&kind::DATA) => FIELDS + 4,
        Some(&kind::STATUS | &kind::HANDLE | &kind::ATTRS | &kind::NAME) => LOOKED_AT,
        _ => FIELDS,
    }
}

/// What a STATUS says, or what its code means (draft, section 7).
fn status_text(code: u32, text: &[u8]) -> Text {
    if !text.is_empty() {
        return text.into();
    }
    let meaning = match code {
        code::EOF => "End of file",
        2 => "No such file",
        code::PERMISSION_DENIED => "Permission denied",
        4 => "Failure",
        5 => "Bad message",
        6 => "No connection",
        7 => "Connection lost",
        8 => "Operation unsupported",
        other => return format!("status {other}").as_str().into(),
    };
    meaning.into()
}
