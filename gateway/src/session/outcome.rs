//! How a connection ended: written once, to the access log and to the metrics.

use std::time::{Duration, Instant, SystemTime};

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
}

impl Ending {
    /// An ending with its reason.
    pub fn new(outcome: ConnectionOutcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into() }
    }
}

impl SessionOutcome {
    /// Starts with what is known at accept.
    pub fn begin(id: SessionId, flow: FlowTuple) -> Self {
        let event = AccessEvent {
            started: now(),
            session: id.to_string(),
            client: flow.client.to_string(),
            target: flow.original_dst.to_string(),
            ..AccessEvent::default()
        };
        Self { started: Instant::now(), event, let_in: false }
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
    pub fn let_in(&mut self, metrics: &Metrics) {
        self.let_in = true;
        metrics.login_duration.observe(self.started.elapsed().as_secs_f64());
    }

    /// Writes the outcome; a connection has one.
    pub fn finish(mut self, ending: Ending, log: &AccessLog, metrics: &Metrics) {
        let elapsed = self.started.elapsed();
        self.event.time = now();
        self.event.duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.event.outcome = ending.outcome.as_str();
        self.event.reason = ending.reason;
        metrics.connection_ended(ending.outcome);
        if self.let_in {
            metrics.session_duration.observe(elapsed.as_secs_f64());
            metrics.relayed(Direction::upstream, self.event.client_bytes);
            metrics.relayed(Direction::downstream, self.event.target_bytes);
        }
        tracing::info!(outcome = self.event.outcome, reason = %self.event.reason, "connection ended");
        log.write(&self.event);
    }
}

/// The time in UTC, RFC 3339.
fn now() -> String {
    UtcTime::from(SystemTime::now()).to_string()
}
