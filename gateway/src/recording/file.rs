//! One sealed file on disk. All of this blocks the thread.
//!
//! Invariant: whatever fails, the file ends after a whole block or can be cut back to one, and its
//! header stays readable.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use portreeve_core::envelope::{
    Batch, ExitHeader, Header, LogKind, PtyHeader, RESERVED_HEADER, RecipientKey, Sealer,
};
use portreeve_core::utc::UtcTime;

use super::error::RecordingError;

/// Where the bytes of a file go.
pub(super) trait Sink: Send + 'static {
    /// Adds bytes at the end, all or none.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Overwrites the start of the file.
    fn rewrite_header(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A file in the spool.
struct DiskSink {
    file: File,
    end: u64,
}

impl Sink for DiskSink {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all_at(bytes, self.end);
        if written.is_err() {
            // A reader copes with a half-written block, so the first error is the one to tell.
            drop(self.file.set_len(self.end));
        }
        written?;
        self.end += bytes.len() as u64;
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed"));
        }
        Ok(())
    }

    fn rewrite_header(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, 0)
    }
}

#[cfg(test)]
pub(super) fn disk_sink(file: File) -> Box<dyn Sink> {
    Box::new(DiskSink { file, end: 0 })
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
    /// Creates the file and writes its header; fails if it exists. The events file is locked.
    pub(super) fn create(
        path: &Path,
        recipient: &RecipientKey,
        kind: LogKind,
        started: UtcTime,
    ) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::create(path, source);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        if kind == LogKind::Events {
            file.try_lock().map_err(|error| failed(error.into()))?;
        }
        let mut created = Self::new(path, recipient, kind, started, Box::new(DiskSink { file, end: 0 }))?;
        let header = created.encoded_header()?;
        created.sink.append(&header).map_err(failed)?;
        Ok(created)
    }

    /// Starts sealing into `sink`; writes nothing yet.
    pub(super) fn new(
        path: &Path,
        recipient: &RecipientKey,
        kind: LogKind,
        started: UtcTime,
        sink: Box<dyn Sink>,
    ) -> Result<Self, RecordingError> {
        let sealer = Sealer::new(recipient, &mut rand::rng()).map_err(|e| RecordingError::seal(path, e))?;
        let header = Header {
            started_at: started.unix_seconds(),
            encapsulated_key: sealer.encapsulated_key(),
            kind: Some(kind),
            recipient: Some(recipient.id()),
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

    /// Writes the final header.
    pub(super) fn finish(&mut self, exit_data: Option<ExitHeader>) -> Result<(), RecordingError> {
        self.header.data_size = self.data_bytes;
        self.header.exit_data = exit_data;
        self.header.blocks = Some(self.sealer.blocks());
        self.rewrite_header()
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
