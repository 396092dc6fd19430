//! What somebody is told of an alert, in clear.
//!
//! Invariant: nothing that a user or a target wrote is in it, so neither a command nor the name of a file: who, where,
//! when, which rule, and what kind of thing met it. What that was stands in the sealed record.

use serde::Serialize;

use super::MetRule;
use crate::record::Severity;
use crate::utc::UtcTime;

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertFacts {
    /// The session's id.
    pub session: String,
    /// E-mail of the user.
    pub email: String,
    /// Unix account on the target.
    pub login: String,
    /// The user's address and port.
    pub client: String,
    /// The target's address and port.
    pub target: String,
    /// Hostname of the target in the policy.
    pub hostname: String,
}

/// A notice of one alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What tells it from an access event: `alert`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// When the rule was met, RFC 3339 in UTC.
    pub time: String,
    /// The rule's name.
    pub rule: String,
    /// How grave it is.
    pub severity: Severity,
    /// What met it: the name of an event of the record, or `upload` or `download`.
    pub met_by: &'static str,
    /// The channel on which it was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<u32>,
    /// Bytes that have crossed, where the rule counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether the rule ends the session.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ends_session: bool,
    /// Whether further alerts by this rule in the session are recorded and not told.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
    /// Whose session it is.
    #[serde(flatten)]
    pub facts: AlertFacts,
}

impl Notice {
    /// The notice of a rule that was met at a time; `last` says that it is the last of this rule in the session.
    pub fn new(met: &MetRule<'_>, facts: &AlertFacts, time: UtcTime, last: bool) -> Self {
        Self {
            kind: "alert",
            time: time.to_string(),
            rule: met.rule.name.to_string(),
            severity: met.rule.severity,
            met_by: met.met_by,
            channel: met.channel.map(|channel| channel.0),
            bytes: met.bytes,
            ends_session: met.rule.end_session.is_some(),
            last,
            facts: facts.clone(),
        }
    }
}
