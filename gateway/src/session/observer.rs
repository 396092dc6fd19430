//! The recorder as the relay's observer: what crosses is recorded first, or does not cross.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};

use portreeve_core::config::daemon::OnRecordingFailure;
use portreeve_core::record::{ChannelNumber, RecordEvent, Source};

use crate::recording::{Recorder, RecordingError};
use crate::ssh::observe::{Decision, ObserverFailed, SessionObserver};
use crate::telemetry::with_causes;

/// Records everything that a relay shows.
#[derive(Debug)]
pub(super) struct RecordingObserver {
    recorder: Recorder,
    on_failure: OnRecordingFailure,
    failed: AtomicBool,
}

impl RecordingObserver {
    pub(super) fn new(recorder: Recorder, on_failure: OnRecordingFailure) -> Self {
        Self { recorder, on_failure, failed: AtomicBool::new(false) }
    }

    /// Whether something was not recorded.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn judge(&self, recorded: Result<(), RecordingError>) -> Result<(), ObserverFailed> {
        let Err(error) = recorded else { return Ok(()) };
        let first = !self.failed.swap(true, Ordering::Relaxed);
        match self.on_failure {
            OnRecordingFailure::End => {
                Err(ObserverFailed(format!("the recording failed: {}", with_causes(&error))))
            }
            OnRecordingFailure::Continue => {
                if first {
                    tracing::error!(error = %with_causes(&error), "the recording has a gap from here on; the session goes on as configured");
                }
                Ok(())
            }
        }
    }
}

impl SessionObserver for RecordingObserver {
    async fn event(&self, event: RecordEvent) -> Result<Decision, ObserverFailed> {
        self.judge(self.recorder.event(&event).await).map(|()| Decision::Forward)
    }

    async fn data(
        &self,
        channel: ChannelNumber,
        source: Source,
        code: u32,
        data: &[u8],
    ) -> Result<(), ObserverFailed> {
        self.judge(self.recorder.data(channel, source, code, data).await)
    }

    async fn keeps_up(&self, channel: ChannelNumber) {
        self.recorder.keeps_up(channel).await;
    }

    async fn failed(&self) -> ObserverFailed {
        match self.judge(Err(self.recorder.failed().await)) {
            Err(failed) => failed,
            Ok(()) => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use portreeve_core::envelope::RecipientPrivateKey;
    use portreeve_core::id::SessionId;
    use tokio::time::timeout;

    use super::*;
    use crate::recording::spool::Spool;

    #[tokio::test]
    async fn a_file_that_fails_ends_the_session_unless_it_is_to_go_on() {
        for (on_failure, ends) in [(OnRecordingFailure::End, true), (OnRecordingFailure::Continue, false)] {
            let scratch = tempfile::tempdir().unwrap();
            let spool = Spool::open(scratch.path()).unwrap();
            let (key, id) = (RecipientPrivateKey::from_bytes([7; 32]), SessionId::from_random_bytes([5; 16]));
            let reserved =
                Recorder::reserve(&spool, &key.recipient_key(), id, SystemTime::now()).await.unwrap();
            let event = RecordEvent::SessionEnded { reason: String::new() };
            let observer =
                RecordingObserver::new(reserved.begin(event.clone(), true).await.unwrap(), on_failure);
            scratch.close().unwrap();
            assert_eq!(observer.event(event).await, Ok(Decision::Forward));
            let failed = timeout(Duration::from_secs(3), observer.failed()).await;
            assert_eq!(failed.is_ok(), ends, "{failed:?}");
            assert!(observer.has_failed());
        }
    }
}
