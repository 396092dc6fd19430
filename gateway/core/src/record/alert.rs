//! What the record says of an alert, and how grave one is.

use serde::{Deserialize, Serialize};

use super::Text;

/// How grave an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// To be looked at in working hours.
    Medium,
    /// To be looked at now.
    High,
    /// Somebody is to be woken.
    Critical,
}

/// A rule of the policy was met by something in the session, which stands before it in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The rule's name.
    pub rule: String,
    /// How grave it is.
    pub severity: Severity,
    /// What met it: the name of an event of the record, or `upload` or `download`.
    pub met_by: String,
    /// The part of a text that matched, cut where it is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<Text>,
    /// The bytes that have crossed, where the rule counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether the rule ends the session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends_session: bool,
}

impl Severity {
    /// All of them, the least grave first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// Its spelling, in files and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}
