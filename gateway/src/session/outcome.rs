//! How a connection ended: written once, to the access log and to the metrics, however it ended.
//!
//! Invariant: a [`SessionOutcome`] that is dropped before it was finished, because the connection was cut
//! or its task panicked, writes that.

use std::time::{Duration, Instant, SystemTime};

use portreeve_core::config::daemon::OnRecordingFailure;
use portreeve_core::id::SessionId;
use portreeve_core::net::FlowTuple;
use portreeve_core::utc::UtcTime;

use crate::access_log::{AccessEvent, AccessLog};
use crate::metrics::{ConnectionOutcome, Direction, Metrics};

/// How one connection ended, and why in a sentence.
#[derive(Clone, Debug)]
pub struct Ending {
    /// From the closed list.
    pub outcome: ConnectionOutcome,
    /// For the access log.
    pub reason: String,
}

/// The facts of one connection, gathered while it lives.
#[derive(Debug)]
pub struct SessionOutcome {
    started: Instant,
    event: AccessEvent,
    let_in: bool,
    ending: Option<Ending>,
    log: AccessLog,
    metrics: Metrics,
}

impl Ending {
    /// An ending with its reason.
    pub fn new(outcome: ConnectionOutcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into() }
    }

    /// The same end, of a session whose recording could not be closed because of `error`: that is then how it
    /// ended, unless sessions go on without a recording.
    #[must_use]
    pub fn without_recording(mut self, error: &str, on_failure: OnRecordingFailure) -> Self {
        if self.outcome != ConnectionOutcome::RecordingFailed {
            self.reason = format!("{}; the recording failed: {error}", self.reason);
        }
        if on_failure == OnRecordingFailure::End {
            self.outcome = ConnectionOutcome::RecordingFailed;
        }
        self
    }
}

impl SessionOutcome {
    /// Starts with what is known at accept; ends in `log` and `metrics`.
    pub fn begin(id: SessionId, flow: FlowTuple, log: AccessLog, metrics: Metrics) -> Self {
        let event = AccessEvent {
            started: now(),
            session: id.to_string(),
            client: flow.client.to_string(),
            target: flow.original_dst.to_string(),
            ..AccessEvent::default()
        };
        Self { started: Instant::now(), event, let_in: false, ending: None, log, metrics }
    }

    /// The facts, to be filled in as they become known.
    pub fn facts(&mut self) -> &mut AccessEvent {
        &mut self.event
    }

    /// Time since the connection was accepted.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The user was let in.
    pub fn let_in(&mut self) {
        self.let_in = true;
        self.metrics.login_duration.observe(self.started.elapsed().as_secs_f64());
    }

    /// Writes the outcome.
    pub fn finish(mut self, ending: Ending) {
        self.ending = Some(ending);
    }
}

impl Drop for SessionOutcome {
    fn drop(&mut self) {
        let ending = self.ending.take().unwrap_or_else(unfinished);
        let elapsed = self.started.elapsed();
        self.event.time = now();
        self.event.duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.event.outcome = ending.outcome.as_str();
        self.event.reason = ending.reason;
        self.metrics.connection_ended(ending.outcome);
        if self.let_in {
            self.metrics.session_duration.observe(elapsed.as_secs_f64());
            self.metrics.relayed(Direction::upstream, self.event.client_bytes);
            self.metrics.relayed(Direction::downstream, self.event.target_bytes);
        }
        tracing::info!(outcome = self.event.outcome, reason = %self.event.reason, "connection ended");
        self.log.write(&self.event);
    }
}

/// The ending of a connection whose task did not come to one.
fn unfinished() -> Ending {
    if std::thread::panicking() {
        Ending::new(ConnectionOutcome::Failed, "an error inside the gateway")
    } else {
        Ending::new(
            ConnectionOutcome::Shutdown,
            "the gateway stopped, and the connection did not close in time",
        )
    }
}

/// The time in UTC, RFC 3339.
fn now() -> String {
    UtcTime::from(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use portreeve_core::config::daemon::AccessLog as Destination;
    use portreeve_core::net::{ClientAddr, OriginalDst};

    use super::*;

    #[test]
    fn a_lost_recording_is_how_a_session_ended_unless_sessions_go_on_without() {
        let closed = Ending::new(ConnectionOutcome::Closed, "closed by the user");
        let reason = "closed by the user; the recording failed: disk full";
        let ended = closed.clone().without_recording("disk full", OnRecordingFailure::End);
        assert_eq!((ended.outcome, &*ended.reason), (ConnectionOutcome::RecordingFailed, reason));
        let again = ended.without_recording("disk full", OnRecordingFailure::End);
        assert_eq!(again.reason, reason, "said once");
        let went_on = closed.without_recording("disk full", OnRecordingFailure::Continue);
        assert_eq!((went_on.outcome, &*went_on.reason), (ConnectionOutcome::Closed, reason));
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_or_panics_has_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = AccessLog::open(Destination::File(path.clone()), Metrics::default()).unwrap();
        let flow = FlowTuple {
            client: ClientAddr::new("192.0.2.1:40000".parse().unwrap()),
            original_dst: OriginalDst::new("10.1.2.3:22".parse().unwrap()),
        };
        let begin = |id| {
            SessionOutcome::begin(
                SessionId::from_random_bytes([id; 16]),
                flow,
                log.clone(),
                Metrics::default(),
            )
        };
        let (finished, cut, failed) = (begin(1), begin(2), begin(3));
        finished.finish(Ending::new(ConnectionOutcome::Closed, "closed by the user"));
        drop(cut);
        let task = tokio::spawn(async move {
            let _failed = failed;
            tokio::task::yield_now().await;
            panic!("on purpose");
        });
        assert!(task.await.unwrap_err().is_panic());
        log.flush().await;
        let lines = std::fs::read_to_string(&path).unwrap();
        let outcomes: Vec<serde_json::Value> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["outcome"].take())
            .collect();
        assert_eq!(outcomes, ["closed", "shutdown", "failed"]);
    }
}
