//! What all logs of a session have in common: where they go, for whom, and on which terms.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portreeve_core::config::daemon::{OnRecordingFailure, SpoolConfig};
use portreeve_core::envelope::{LogName, RecipientKey};
use portreeve_core::utc::UtcTime;

use super::budget::Budget;
use super::error::RecordingError;
use super::ledger::Ledger;
use super::recipient::Recipients;
use super::space::Space;
use super::sync::Durability;
use crate::metrics::Metrics;

/// On which terms a session is recorded.
#[derive(Clone, Debug)]
pub struct Terms {
    /// To whom it is sealed.
    pub recipients: Recipients,
    /// What happens when its recording fails after it started.
    pub on_failure: OnRecordingFailure,
    /// Whether it may use the space that is kept in reserve.
    pub break_glass: bool,
}

/// What all logs of a session have in common.
#[derive(Debug)]
pub(super) struct SessionFiles {
    /// The session's directory.
    pub(super) directory: PathBuf,
    pub(super) terms: Terms,
    /// Start of the session by the wall clock.
    pub(super) started: UtcTime,
    pub(super) config: Arc<SpoolConfig>,
    pub(super) durability: Durability,
    pub(super) space: Arc<Space>,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: Metrics,
    pub(super) has_gap: AtomicBool,
    /// What the manifest says of files that are finished.
    pub(super) ledger: Ledger,
}

impl SessionFiles {
    /// Each recipient and the directory of their files: the first one's is that of the session.
    pub(super) fn sets(&self) -> impl Iterator<Item = (&RecipientKey, PathBuf)> {
        self.terms.recipients.iter().enumerate().map(|(index, recipient)| {
            let further = (index > 0).then(|| self.directory.join(recipient.id()));
            (recipient, further.unwrap_or_else(|| self.directory.clone()))
        })
    }

    /// Whether the session may write. When the reserve is reached, the session ends with that error, whose last
    /// words are still written; a session that goes on leaves out what comes, save for events.
    ///
    /// # Errors
    /// [`RecordingError::Reserve`].
    pub(super) fn check_space(&self, log: LogName) -> Result<Option<RecordingError>, RecordingError> {
        match (self.space.check(self.terms.break_glass), self.terms.on_failure, log) {
            (Ok(()), _, _) | (Err(_), OnRecordingFailure::Continue, LogName::Events) => Ok(None),
            (Err(error), OnRecordingFailure::End, _) => Ok(Some(error)),
            (Err(error), OnRecordingFailure::Continue, LogName::Channel(_)) => Err(error),
        }
    }

    /// Counts what is left out of the recording.
    pub(super) fn lost(&self, bytes: u64) {
        self.has_gap.store(true, Ordering::Relaxed);
        self.metrics.recording_gap.inc_by(bytes);
    }
}

impl From<Recipients> for Terms {
    /// An ordinary session that ends when its recording fails.
    fn from(recipients: Recipients) -> Self {
        Self { recipients, on_failure: OnRecordingFailure::End, break_glass: false }
    }
}
