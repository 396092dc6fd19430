//! One segment of a log: a file for each recipient, all with the same contents. All of this blocks the thread.

use std::fs;
use std::path::Path;
use std::time::Instant;

use portreeve_core::config::daemon::SpoolConfig;
use portreeve_core::envelope::{Batch, ExitHeader, LogName, PtyHeader};

use super::error::RecordingError;
use super::file::{Head, SealedFile};
use super::session_files::SessionFiles;

/// A segment that is being written.
pub(super) struct Segment {
    number: u32,
    /// One for each recipient.
    files: Vec<SealedFile>,
    begun: Instant,
    data_bytes: u64,
}

impl Segment {
    /// Creates its files; fails if one exists, and leaves none then.
    pub(super) fn create(session: &SessionFiles, log: LogName, number: u32) -> Result<Self, RecordingError> {
        let head = Head { started: session.started, log, segment: number };
        let file_name = log.segment(number).to_string();
        let mut segment = Self { number, files: Vec::new(), begun: Instant::now(), data_bytes: 0 };
        for (recipient, set) in session.sets() {
            let created = SealedFile::create(&set.join(&file_name), recipient, head, &session.durability);
            let created = created.inspect_err(|_| segment.discard())?;
            segment.files.push(created);
            let changed =
                session.durability.changed(&set).map_err(|error| RecordingError::write(&set, error));
            changed.inspect_err(|_| segment.discard())?;
        }
        Ok(segment)
    }

    /// The same with a terminal in its header.
    pub(super) fn begin(
        session: &SessionFiles,
        log: LogName,
        number: u32,
        pty: Option<&PtyHeader>,
    ) -> Result<Self, RecordingError> {
        let mut segment = Self::create(session, log, number)?;
        if let Some(pty) = pty {
            segment.set_pty(pty).inspect_err(|_| segment.discard())?;
        }
        Ok(segment)
    }

    /// The first recipient's file.
    pub(super) fn path(&self) -> Option<&Path> {
        self.files.first().map(SealedFile::path)
    }

    /// The number of the segment after it.
    pub(super) const fn next(&self) -> u32 {
        self.number.saturating_add(1)
    }

    /// Whether so much more does not belong into it.
    pub(super) fn is_full(&self, config: &SpoolConfig, more: u64) -> bool {
        let too_much = self.data_bytes.saturating_add(more) > config.segment_size;
        self.data_bytes > 0 && (too_much || self.begun.elapsed() >= config.segment_time)
    }

    /// Seals a batch and appends it; gives its buffer back for reuse.
    pub(super) fn append(&mut self, batch: Batch) -> Result<Vec<u8>, RecordingError> {
        let Some((last, others)) = self.files.split_last_mut() else { return Ok(Vec::new()) };
        self.data_bytes = self.data_bytes.saturating_add(batch.data_bytes());
        for file in others {
            file.append(batch.clone())?;
        }
        last.append(batch)
    }

    pub(super) fn set_pty(&mut self, pty: &PtyHeader) -> Result<(), RecordingError> {
        self.files.iter_mut().try_for_each(|file| file.set_pty(pty.clone()))
    }

    /// Writes the final headers, and has the files entered into the session's ledger; `last`: whether the log ends
    /// here.
    pub(super) fn finish(
        &mut self,
        session: &SessionFiles,
        exit: Option<&ExitHeader>,
        last: bool,
    ) -> Result<(), RecordingError> {
        self.files.iter_mut().try_for_each(|file| {
            file.finish(exit.cloned(), last)?;
            session.ledger.add(&session.directory, file.path());
            Ok(())
        })
    }

    /// Removes its files, in which nothing is yet.
    pub(super) fn discard(&self) {
        for file in &self.files {
            // The error that led here is the one to tell.
            drop(fs::remove_file(file.path()));
        }
    }
}

#[cfg(test)]
impl Segment {
    pub(super) fn of(file: SealedFile) -> Self {
        Self { number: 0, files: vec![file], begun: Instant::now(), data_bytes: 0 }
    }
}
