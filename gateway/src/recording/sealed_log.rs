//! One log of a session on disk: its segments, each sealed once for each recipient. All of this blocks the thread.
//!
//! Invariants: a segment is finished before the next one is begun, so only the newest one can be damaged by a crash;
//! each of its files opens by itself; all segments count time from the start of the session.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

#[cfg(test)]
use portreeve_core::config::daemon::Fsync;
use portreeve_core::config::daemon::SpoolConfig;
use portreeve_core::envelope::{Batch, ExitHeader, LogName, PtyHeader};
use portreeve_core::utc::UtcTime;

use super::error::RecordingError;
use super::file::{Head, SealedFile};
use super::recipient::Recipients;
use super::sync::Durability;

/// What all logs of a session have in common.
#[derive(Debug)]
pub(super) struct SessionFiles {
    /// The session's directory.
    pub(super) directory: PathBuf,
    pub(super) recipients: Recipients,
    /// Start of the session by the wall clock.
    pub(super) started: UtcTime,
    pub(super) config: Arc<SpoolConfig>,
    pub(super) durability: Durability,
}

/// A log that is being written.
pub(super) struct SealedLog {
    session: Arc<SessionFiles>,
    name: LogName,
    segment: Segment,
    pty: Option<PtyHeader>,
}

/// The segment that is being written.
struct Segment {
    number: u32,
    /// One for each recipient.
    files: Vec<SealedFile>,
    begun: Instant,
    data_bytes: u64,
}

impl SealedLog {
    /// Creates the first segment; fails if it exists.
    pub(super) fn create(session: Arc<SessionFiles>, name: LogName) -> Result<Self, RecordingError> {
        let segment = Segment::create(&session, name, 0)?;
        Ok(Self { session, name, segment, pty: None })
    }

    /// The newest segment's first file.
    pub(super) fn path(&self) -> &Path {
        self.segment.files.first().map_or(&self.session.directory, SealedFile::path)
    }

    /// Seals a batch and appends it, to a new segment if it is time for one; gives its buffer back for reuse.
    pub(super) fn append(&mut self, batch: Batch) -> Result<Vec<u8>, RecordingError> {
        if !batch.is_empty() && self.segment.is_full(&self.session.config, batch.data_bytes()) {
            self.rotate()?;
        }
        self.segment.append(batch)
    }

    /// Puts the terminal into the header.
    pub(super) fn set_pty(&mut self, pty: PtyHeader) -> Result<(), RecordingError> {
        self.pty = Some(pty.clone());
        self.segment.set_pty(&pty)
    }

    /// Writes the final header: the log ends here.
    pub(super) fn finish(&mut self, exit: Option<ExitHeader>) -> Result<(), RecordingError> {
        self.segment.finish(exit.as_ref(), true)
    }

    fn rotate(&mut self) -> Result<(), RecordingError> {
        self.segment.finish(None, false)?;
        self.segment = Segment::create(&self.session, self.name, self.segment.number.saturating_add(1))?;
        self.pty.as_ref().map_or(Ok(()), |pty| self.segment.set_pty(pty))
    }
}

impl Segment {
    fn create(session: &SessionFiles, log: LogName, number: u32) -> Result<Self, RecordingError> {
        let head = Head { started: session.started, log, segment: number };
        let file_name = log.segment(number).to_string();
        let mut files = Vec::new();
        for (index, recipient) in session.recipients.iter().enumerate() {
            let set =
                if index == 0 { session.directory.clone() } else { session.directory.join(recipient.id()) };
            let path = set.join(&file_name);
            files.push(SealedFile::create(&path, recipient, head, &session.durability)?);
            session.durability.changed(&set).map_err(|error| RecordingError::write(&set, error))?;
        }
        Ok(Self { number, files, begun: Instant::now(), data_bytes: 0 })
    }

    /// Whether so much more does not belong into it.
    fn is_full(&self, config: &SpoolConfig, more: u64) -> bool {
        let too_much = self.data_bytes.saturating_add(more) > config.segment_size;
        self.data_bytes > 0 && (too_much || self.begun.elapsed() >= config.segment_time)
    }

    fn append(&mut self, batch: Batch) -> Result<Vec<u8>, RecordingError> {
        let Some((last, others)) = self.files.split_last_mut() else { return Ok(Vec::new()) };
        self.data_bytes = self.data_bytes.saturating_add(batch.data_bytes());
        for file in others {
            file.append(batch.clone())?;
        }
        last.append(batch)
    }

    fn set_pty(&mut self, pty: &PtyHeader) -> Result<(), RecordingError> {
        self.files.iter_mut().try_for_each(|file| file.set_pty(pty.clone()))
    }

    fn finish(&mut self, exit: Option<&ExitHeader>, last: bool) -> Result<(), RecordingError> {
        self.files.iter_mut().try_for_each(|file| file.finish(exit.cloned(), last))
    }
}

#[cfg(test)]
impl SealedLog {
    /// A log of one file that never goes on in another.
    pub(super) fn single(file: SealedFile, recipients: Recipients) -> Self {
        let session = SessionFiles {
            directory: PathBuf::new(),
            recipients,
            started: UtcTime::from_unix_seconds(0),
            config: Arc::new(SpoolConfig { segment_size: u64::MAX, ..SpoolConfig::default() }),
            durability: Durability::new(Path::new("/"), Fsync::Never).unwrap(),
        };
        let segment = Segment { number: 0, files: vec![file], begun: Instant::now(), data_bytes: 0 };
        Self { session: Arc::new(session), name: LogName::Events, segment, pty: None }
    }
}
