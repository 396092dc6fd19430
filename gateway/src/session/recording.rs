//! When a session is recorded, and when it may go on without: the terms of its recording.
//!
//! Owns that choice alone; what a recording is stands in [`crate::recording`].

use std::sync::Arc;
use std::time::SystemTime;

use portreeve_core::config::daemon::OnRecordingFailure;
use portreeve_core::id::SessionId;
use portreeve_core::identity::Identity;
use portreeve_core::record::RecordEvent;

use super::Gateway;
use super::outcome::{Ending, SessionOutcome};
use super::refusal::{Refusal, recording_failed};
use crate::recording::{Lookout, Recorder, RecordingError, Reservation, Terms};
use crate::telemetry::with_causes;

/// Reserves the files of a session's recording, before anything is dialled.
pub(super) async fn reserve(
    gateway: &Gateway,
    id: SessionId,
    identity: &Identity,
    started: SystemTime,
    outcome: &mut SessionOutcome,
) -> Result<Reservation, Refusal> {
    let terms = Terms {
        recipients: gateway.recipients.current(),
        on_failure: on_failure(gateway, identity),
        break_glass: identity.break_glass,
    };
    match Recorder::reserve(&gateway.spool, terms, id, started).await {
        Ok(reservation) => Ok(reservation),
        Err(error) => {
            go_on_unrecorded(gateway, identity, &error, outcome).map(|()| Reservation::unrecorded())
        }
    }
}

/// Begins the recording of a session that policy grants; without one, `lookout` sees it all the same.
pub(super) fn begun(
    gateway: &Gateway,
    identity: &Identity,
    (begun, lookout): (Result<Recorder, RecordingError>, Arc<dyn Lookout>),
    outcome: &mut SessionOutcome,
) -> Result<Recorder, Refusal> {
    begun.or_else(|error| {
        let unrecorded = || Recorder::unrecorded_watched_by(lookout);
        go_on_unrecorded(gateway, identity, &error, outcome).map(|()| unrecorded())
    })
}

/// Closes the recording, and counts it unless it is whole; `has_gap` says that it is known not to be. What
/// could not be closed becomes part of the ending.
pub(super) async fn finish(gateway: &Gateway, recorder: Recorder, ending: Ending, has_gap: bool) -> Ending {
    let reason = format!("{}: {}", ending.outcome.as_str(), ending.reason);
    let (on_failure, has_gap) = (recorder.on_failure(), has_gap || recorder.has_gap());
    let finished = recorder.finish(RecordEvent::SessionEnded { reason }).await;
    if has_gap || finished.is_err() {
        gateway.metrics.recording_failures.inc();
    }
    match finished {
        Ok(()) => ending,
        Err(error) => {
            let error = with_causes(&error);
            tracing::error!(%error, "a recording could not be closed; what was sealed is kept");
            ending.without_recording(&error, on_failure)
        }
    }
}

const fn may_be_unrecorded(gateway: &Gateway, identity: &Identity) -> bool {
    identity.break_glass && gateway.config.recording.break_glass_unrecorded
}

const fn on_failure(gateway: &Gateway, identity: &Identity) -> OnRecordingFailure {
    if may_be_unrecorded(gateway, identity) {
        return OnRecordingFailure::Continue;
    }
    gateway.config.recording.on_failure
}

fn go_on_unrecorded(
    gateway: &Gateway,
    identity: &Identity,
    error: &RecordingError,
    outcome: &mut SessionOutcome,
) -> Result<(), Refusal> {
    if !may_be_unrecorded(gateway, identity) {
        return Err(recording_failed(error));
    }
    let error = with_causes(error);
    tracing::error!(email = %identity.email, %error, "a break-glass session goes on WITHOUT A RECORDING, as configured");
    gateway.metrics.sessions_unrecorded.inc();
    outcome.facts().unrecorded = true;
    Ok(())
}
