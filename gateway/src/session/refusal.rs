//! Connections that get no session, or keep none: what the user reads, and what is logged.
//!
//! The user reads what they can act on; the log holds the whole chain of causes.

use portreeve_core::identity::Unidentified;
use portreeve_core::infrastructure::Denial;
use portreeve_core::net::FlowTuple;
use portreeve_ssh::text::TerminalText;

use super::outcome::Ending;
use super::registry::End;
use crate::metrics::ConnectionOutcome as Outcome;
use crate::telemetry::with_causes;

/// A connection that gets or keeps no session: what the user reads and what is logged.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// For the user's terminal.
    pub(super) text: TerminalText,
    /// For the access log and the metrics.
    pub(super) ending: Ending,
}

impl Refusal {
    /// A refusal whose reason the user may read as it is.
    pub(super) fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { text: TerminalText::new(&format!("portreeve: {reason}")), ending: Ending { outcome, reason } }
    }

    /// A refusal that tells the user `text` and the log more.
    pub(super) fn with_text(outcome: Outcome, text: &str, reason: impl Into<String>) -> Self {
        Self {
            text: TerminalText::new(&format!("portreeve: {text}")),
            ending: Ending { outcome, reason: reason.into() },
        }
    }
}

/// The user does not read where else their address would be known.
pub(super) fn unidentified_user(why: &Unidentified) -> Refusal {
    let text = match why {
        Unidentified::Unknown(address) => format!("nobody is known at your address {address}"),
        Unidentified::OtherInterface { address, .. } => {
            format!("nobody is known at your address {address} on the network that you came in by")
        }
    };
    let text = format!("{text}; ask the operator of this gateway");
    Refusal::with_text(Outcome::UnknownIdentity, &text, why.to_string())
}

pub(super) fn denied(denial: &Denial) -> Refusal {
    Refusal::with_text(Outcome::Denied, &denial.user_text(), denial.to_string())
}

pub(super) fn unreachable(flow: FlowTuple, error: &(dyn std::error::Error + 'static)) -> Refusal {
    Refusal::new(
        Outcome::TargetUnreachable,
        format!("the target {} cannot be reached: {}", flow.original_dst, with_causes(error)),
    )
}

pub(super) fn login_refused(flow: FlowTuple, error: &(dyn std::error::Error + 'static)) -> Refusal {
    Refusal::new(
        Outcome::TargetRefusedLogin,
        format!("the target {}: {}", flow.original_dst, with_causes(error)),
    )
}

pub(super) fn recording_failed(error: &(dyn std::error::Error + 'static)) -> Refusal {
    tracing::error!(error = %with_causes(error), "a session was refused because it cannot be recorded");
    Refusal::with_text(
        Outcome::RecordingFailed,
        "this session cannot be recorded, so it is refused; tell the operator of this gateway",
        with_causes(error),
    )
}

pub(super) fn internal(error: &(dyn std::error::Error + 'static), text: &str) -> Refusal {
    tracing::error!(error = %with_causes(error), "a session was refused because of an error of the gateway");
    Refusal::with_text(Outcome::Failed, text, with_causes(error))
}

/// A session that the gateway ends, live or on its way there.
pub(super) fn ended(end: End) -> Refusal {
    match end {
        End::Revoked(reason) => {
            Refusal::with_text(Outcome::Revoked, &format!("your access has been withdrawn: {reason}"), reason)
        }
        End::ByOperator { uid, reason } => Refusal::with_text(
            Outcome::Revoked,
            &format!("an operator of this gateway has ended this session: {reason}"),
            format!("ended by uid {uid}: {reason}"),
        ),
        End::ByAlert { rule, reason } => Refusal::with_text(
            Outcome::Revoked,
            &format!("a rule of this gateway has ended this session: {reason}"),
            format!("ended by the alert {rule:?}"),
        ),
        End::Shutdown => Refusal::with_text(
            Outcome::Shutdown,
            "the gateway is stopping; connect again in a moment",
            "the gateway stopped",
        ),
    }
}
