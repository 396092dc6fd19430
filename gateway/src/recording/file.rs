//! One sealed file on disk. All of this blocks the thread.
//!
//! Invariant: whatever fails, the file ends after a whole block or can be cut back to one, and its
//! header stays readable.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portreeve_core::envelope::{
    Batch, ExitHeader, Header, LogKind, LogName, PtyHeader, RESERVED_HEADER, RecipientKey, Sealer,
};
use portreeve_core::utc::UtcTime;

use super::error::RecordingError;
use super::sync::{Durability, SyncedFile};

/// Where the bytes of a file go.
pub(super) trait Sink: Send + 'static {
    /// Adds bytes at the end, all or none.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Overwrites the start of the file.
    fn rewrite_header(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// All of the file is written.
    fn finish(&mut self) -> io::Result<()>;
}

/// A file in the spool.
struct DiskSink {
    file: Arc<SyncedFile>,
    end: u64,
    durability: Durability,
}

impl Sink for DiskSink {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.file.write_all_at(bytes, self.end);
        if written.is_err() {
            // A reader copes with a half-written block, so the first error is the one to tell.
            drop(self.file.file.set_len(self.end));
        }
        written?;
        self.end += bytes.len() as u64;
        if self.file.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed"));
        }
        self.durability.written(&self.file)
    }

    fn rewrite_header(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.file.write_all_at(bytes, 0)?;
        self.durability.written(&self.file)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.durability.finished(&self.file)
    }
}

#[cfg(test)]
pub(super) fn disk_sink(file: fs::File) -> Box<dyn Sink> {
    use portreeve_core::config::daemon::Fsync;

    let durability = Durability::new(Path::new("/"), Fsync::Never).unwrap();
    Box::new(DiskSink { file: SyncedFile::new(file), end: 0, durability })
}

/// Which file of a session it is, for its header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Start of the session.
    pub(super) started: UtcTime,
    pub(super) log: LogName,
    pub(super) segment: u32,
}

/// A file that is being sealed.
pub(super) struct SealedFile {
    path: PathBuf,
    sealer: Sealer,
    header: Header,
    /// Bytes of data appended so far.
    data_bytes: u64,
    sink: Box<dyn Sink>,
}

impl SealedFile {
    /// Creates the file and writes its header; fails if it exists, and leaves nothing then.
    pub(super) fn create(
        path: &Path,
        recipient: &RecipientKey,
        head: Head,
        durability: &Durability,
    ) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::create(path, source);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let sink = DiskSink { file: SyncedFile::new(file), end: 0, durability: durability.clone() };
        let mut created = Self::new(path, recipient, head, Box::new(sink))?;
        let header = created.encoded_header()?;
        created.sink.append(&header).map_err(|source| {
            // A file without a header is of no use, and the first error is the one to tell.
            drop(fs::remove_file(path));
            failed(source)
        })?;
        Ok(created)
    }

    /// Starts sealing into `sink`; writes nothing yet.
    pub(super) fn new(
        path: &Path,
        recipient: &RecipientKey,
        head: Head,
        sink: Box<dyn Sink>,
    ) -> Result<Self, RecordingError> {
        let sealer = Sealer::new(recipient, &mut rand::rng()).map_err(|e| RecordingError::seal(path, e))?;
        let header = Header {
            started_at: head.started.unix_seconds(),
            encapsulated_key: sealer.encapsulated_key(),
            kind: Some(match head.log {
                LogName::Events => LogKind::Events,
                LogName::Channel(_) => LogKind::Channel,
            }),
            recipient: Some(recipient.id()),
            segment: Some(head.segment),
            ..Header::default()
        };
        Ok(Self { path: path.into(), sealer, header, data_bytes: 0, sink })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Seals a batch and appends it; gives its buffer back for reuse.
    pub(super) fn append(&mut self, batch: Batch) -> Result<Vec<u8>, RecordingError> {
        let data_bytes = batch.data_bytes();
        let sealed = self.sealer.seal(batch).map_err(|e| RecordingError::seal(&self.path, e))?;
        if !sealed.is_empty() {
            self.sink.append(&sealed).map_err(|e| RecordingError::write(&self.path, e))?;
            self.data_bytes += data_bytes;
        }
        Ok(sealed)
    }

    /// Puts the terminal into the header.
    pub(super) fn set_pty(&mut self, pty: PtyHeader) -> Result<(), RecordingError> {
        self.header.pty = Some(pty);
        self.rewrite_header()
    }

    /// Writes the final header; `last`: whether the log ends with this file.
    pub(super) fn finish(&mut self, exit_data: Option<ExitHeader>, last: bool) -> Result<(), RecordingError> {
        self.header.last = last;
        self.header.data_size = self.data_bytes;
        self.header.exit_data = exit_data;
        self.header.blocks = Some(self.sealer.blocks());
        self.rewrite_header()?;
        self.sink.finish().map_err(|e| RecordingError::write(&self.path, e))
    }

    fn rewrite_header(&mut self) -> Result<(), RecordingError> {
        let header = self.encoded_header()?;
        self.sink.rewrite_header(&header).map_err(|e| RecordingError::write(&self.path, e))
    }

    fn encoded_header(&self) -> Result<Vec<u8>, RecordingError> {
        let encoded = self.header.encode_shortened(RESERVED_HEADER);
        encoded.map_err(|e| RecordingError::header(&self.path, e))
    }
}
