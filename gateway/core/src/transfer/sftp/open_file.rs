//! One file that is open: what crossed of it, and what that comes to.

use super::rights::flag;
use crate::record::{FileOutcome, FileTransfer, HashMissing, Text, TransferDirection, TransferProtocol};
use crate::transfer::digest::{OrderedHash, Window};

/// A file between its OPEN and its CLOSE.
pub(super) struct OpenFile {
    path: Text,
    direction: TransferDirection,
    started_us: u64,
    written: Flow,
    read: Flow,
    /// The smallest offset at which the target said that the file ends.
    end: Option<u64>,
    /// Its size as the target told it.
    size: Option<u64>,
    failure: Option<FileOutcome>,
    /// Bytes that had crossed when they were told last.
    told: Option<u64>,
}

/// What crossed one way.
#[derive(Default)]
struct Flow {
    bytes: u64,
    /// Where the piece ends that reaches farthest.
    reach: u64,
    hash: OrderedHash,
}

impl Flow {
    fn add(&mut self, offset: u64, bytes: &[u8], window: &mut Window) {
        let length = bytes.len() as u64;
        self.bytes = self.bytes.saturating_add(length);
        self.reach = self.reach.max(offset.saturating_add(length));
        self.hash.add(offset, bytes, window);
    }
}

impl OpenFile {
    pub(super) fn new(path: Text, flags: u32, started_us: u64) -> Self {
        let direction = match (flags & flag::READ != 0, flags & flag::WRITE != 0) {
            (true, true) => TransferDirection::Both,
            (false, true) => TransferDirection::Upload,
            _ => TransferDirection::Download,
        };
        let (written, read) = Default::default();
        Self { path, direction, started_us, written, read, end: None, size: None, failure: None, told: None }
    }

    pub(super) const fn path(&self) -> &Text {
        &self.path
    }

    /// Bytes that a request writes.
    pub(super) fn writes(&mut self, offset: u64, bytes: &[u8], window: &mut Window) {
        self.written.add(offset, bytes, window);
    }

    /// Bytes that an answer holds.
    pub(super) fn reads(&mut self, offset: u64, bytes: &[u8], window: &mut Window) {
        self.read.add(offset, bytes, window);
    }

    /// The target has nothing at `offset`.
    pub(super) fn ends_at(&mut self, offset: u64) {
        self.end = Some(self.end.map_or(offset, |end| end.min(offset)));
    }

    pub(super) const fn has_size(&mut self, size: u64) {
        self.size = Some(size);
    }

    /// A request about it did not succeed; the first one counts.
    pub(super) fn fails(&mut self, failure: FileOutcome) {
        self.failure.get_or_insert(failure);
    }

    /// Bytes that have crossed.
    pub(super) const fn bytes(&self) -> u64 {
        self.written.bytes.saturating_add(self.read.bytes)
    }

    /// Bytes that had crossed when they were told last.
    pub(super) const fn told(&self) -> Option<u64> {
        self.told
    }

    /// The bytes that have crossed are told.
    pub(super) const fn tell(&mut self) {
        self.told = Some(self.bytes());
    }

    /// It is closed, or the channel is; `closed` says how that went.
    pub(super) fn finish(mut self, closed: FileOutcome, window: &mut Window) -> FileTransfer {
        let outcome = match (self.failure.take(), closed) {
            (Some(failure), _) => failure,
            (None, FileOutcome::Complete) if !self.is_whole() => FileOutcome::Partial,
            (None, closed) => closed,
        };
        let is_upload = self.is_upload();
        let (written, read) = (self.written.hash.finish(window), self.read.hash.finish(window));
        let hash = if outcome != FileOutcome::Complete {
            Err(HashMissing::Incomplete)
        } else if self.written.bytes > 0 && self.read.bytes > 0 {
            Err(HashMissing::BothDirections)
        } else if is_upload {
            written
        } else {
            read
        };
        FileTransfer {
            protocol: TransferProtocol::Sftp,
            path: self.path,
            name: None,
            direction: self.direction,
            uploaded: self.written.bytes,
            downloaded: self.read.bytes,
            sha256: hash.as_ref().ok().cloned(),
            sha256_missing: hash.err(),
            started_us: self.started_us,
            outcome,
        }
    }

    fn is_upload(&self) -> bool {
        match self.direction {
            TransferDirection::Upload => true,
            TransferDirection::Download => false,
            TransferDirection::Both => self.written.bytes > 0,
        }
    }

    /// What is written is whole when it is closed; what is read, when all was read up to the end that the target told.
    fn is_whole(&self) -> bool {
        let read_all = self.read.bytes >= self.read.reach;
        let ends = [self.end, self.size].into_iter().flatten();
        self.is_upload() || (read_all && ends.min().is_some_and(|end| self.read.reach >= end))
    }
}
