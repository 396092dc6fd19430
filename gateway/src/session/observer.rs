//! The recorder as the relay's observer: what crosses is recorded first, or does not cross.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};

use portreeve_core::config::daemon::OnRecordingFailure;
use portreeve_core::record::{ChannelNumber, RecordEvent, Source};

use super::forwards::ForwardJudge;
use crate::recording::{Recorder, RecordingError};
use crate::ssh::observe::{Decision, ObserverFailed, SessionObserver};
use crate::telemetry::with_causes;

/// Records everything that a relay shows, and decides about its forwards.
#[derive(Debug)]
pub(super) struct RecordingObserver {
    recorder: Recorder,
    forwards: ForwardJudge,
    failed: AtomicBool,
}

impl RecordingObserver {
    pub(super) fn new(recorder: Recorder, forwards: ForwardJudge) -> Self {
        Self { recorder, forwards, failed: AtomicBool::new(false) }
    }

    /// Whether something was not recorded.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The decision, and what the recording says of it beside a refusal.
    async fn decide(&self, event: &RecordEvent) -> (Decision, Option<RecordEvent>) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others are no forwards")]
        let decision = match event {
            RecordEvent::ChannelOpen { channel, source, kind } => {
                return self.forwards.open(*channel, *source, kind).await;
            }
            RecordEvent::RemoteForward { listen, port } => self.forwards.listen(&listen.0, *port),
            RecordEvent::SshInForward { channel } => self.forwards.ssh(*channel).await,
            RecordEvent::ChannelClosed { channel, .. } => {
                self.forwards.closed(*channel);
                Decision::Forward
            }
            _ => Decision::Forward,
        };
        (decision, None)
    }

    fn judge(&self, recorded: Result<(), RecordingError>) -> Result<(), ObserverFailed> {
        let Err(error) = recorded else { return Ok(()) };
        let first = !self.failed.swap(true, Ordering::Relaxed);
        match self.recorder.on_failure() {
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
        self.judge(self.recorder.event(&event).await)?;
        let (decision, told) = self.decide(&event).await;
        if let Some(told) = told.or_else(|| refused(&event, &decision)) {
            self.judge(self.recorder.event(&told).await)?;
        }
        Ok(decision)
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

/// The event that says that a forward was refused.
fn refused(event: &RecordEvent, decision: &Decision) -> Option<RecordEvent> {
    let Decision::Refuse { text } = decision else { return None };
    Some(RecordEvent::Refused { channel: event.opened_channel(), what: text.clone() })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use portreeve_core::config::{Format, policy};
    use portreeve_core::envelope::RecipientPrivateKey;
    use portreeve_core::id::{Generation, SessionId};
    use portreeve_core::infrastructure::TransferRights;
    use portreeve_core::infrastructure::forwarding::Forwards;
    use tokio::time::timeout;

    use super::super::inner::fixture::inner;
    use super::*;
    use crate::recording::Terms;
    use crate::recording::spool::Spool;
    use crate::store::PolicyStore;

    #[tokio::test]
    async fn a_file_that_fails_ends_the_session_unless_it_is_to_go_on() {
        for (on_failure, ends) in [(OnRecordingFailure::End, true), (OnRecordingFailure::Continue, false)] {
            let scratch = tempfile::tempdir().unwrap();
            let spool = Spool::open(scratch.path()).unwrap();
            let recipients = RecipientPrivateKey::from_bytes([7; 32]).recipient_key().into();
            let terms = Terms { recipients, on_failure, break_glass: false };
            let id = SessionId::from_random_bytes([5; 16]);
            let reserved = Recorder::reserve(&spool, terms, id, SystemTime::now()).await.unwrap();
            let event = RecordEvent::SessionEnded { reason: String::new() };
            let policy = policy::load("targets = []", Format::Toml, "test", Generation(1)).unwrap().snapshot;
            let forwards =
                ForwardJudge::new(PolicyStore::new(policy).follow(), Forwards::default(), inner(0, 1).0);
            let recorder = reserved.begin(event.clone(), true, TransferRights::ALL).await.unwrap();
            let observer = RecordingObserver::new(recorder, forwards);
            scratch.close().unwrap();
            assert!(matches!(observer.event(event).await, Ok(Decision::Forward)));
            let failed = timeout(Duration::from_secs(3), observer.failed()).await;
            assert_eq!(failed.is_ok(), ends, "{failed:?}");
            assert!(observer.has_failed() || observer.recorder.has_gap());
        }
    }
}
