//! What is sent: an event as text, and what its envelope says of it.

use serde_json::Value;

use super::{AccessLine, Class, EventFormat, text};
use crate::alert::Notice;
use crate::record::Severity;

/// What events of an export are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Connections that have ended.
    Access,
    /// Alerts in sessions that live.
    Alert,
}

/// How much an event weighs, in the scales of syslog (RFC 5424 section 6.2.1) and OTLP (SeverityNumber of the log data
/// model).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Informational,
    Notice,
    Warning,
    Error,
    Critical,
}

/// One event as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub(super) topic: Topic,
    /// RFC 3339 in UTC; `-` where it is not known.
    pub(super) time: String,
    pub(super) weight: Weight,
    /// What is worth a field of its own.
    pub(super) attributes: Vec<(&'static str, String)>,
    /// The event, in JSON.
    pub(super) body: String,
}

impl Topic {
    /// Its name in envelopes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Alert => "alert",
        }
    }
}

impl Weight {
    pub(super) const fn syslog(self) -> u8 {
        match self {
            Self::Critical => 2,
            Self::Error => 3,
            Self::Warning => 4,
            Self::Notice => 5,
            Self::Informational => 6,
        }
    }

    pub(super) const fn otlp(self) -> (u64, &'static str) {
        match self {
            Self::Critical => (21, "FATAL"),
            Self::Error => (17, "ERROR"),
            Self::Warning => (13, "WARN"),
            Self::Notice => (10, "INFO2"),
            Self::Informational => (9, "INFO"),
        }
    }
}

impl Outgoing {
    /// An access event in a format.
    pub fn access(line: &AccessLine, format: EventFormat) -> Self {
        let weight = match Class::of(line) {
            Class::Session => Weight::Informational,
            Class::Ended | Class::Refused | Class::Failed => Weight::Warning,
        };
        let known = ["session", "outcome", "email", "login", "hostname"];
        let attributes = known.iter().filter_map(|field| Some((*field, text(line, field)?.to_owned())));
        Self {
            topic: Topic::Access,
            time: text(line, "time").unwrap_or("-").to_owned(),
            weight,
            attributes: attributes.collect(),
            body: format.write(line).to_string(),
        }
    }

    /// The event as a line of its own.
    pub fn into_line(self) -> Vec<u8> {
        let mut line = self.body.into_bytes();
        line.push(b'\n');
        line
    }

    /// The notice of an alert, which has one format.
    pub fn alert(notice: &Notice) -> Self {
        let weight = match notice.severity {
            Severity::Low => Weight::Notice,
            Severity::Medium => Weight::Warning,
            Severity::High => Weight::Error,
            Severity::Critical => Weight::Critical,
        };
        let facts = &notice.facts;
        let attributes = [
            ("session", &*facts.session),
            ("rule", &*notice.rule),
            ("severity", notice.severity.as_str()),
            ("email", &*facts.email),
            ("login", &*facts.login),
            ("hostname", &*facts.hostname),
        ];
        Self {
            topic: Topic::Alert,
            time: notice.time.clone(),
            weight,
            attributes: attributes.map(|(name, value)| (name, value.to_owned())).into(),
            // A notice is made of strings, numbers and booleans.
            body: serde_json::to_value(notice).unwrap_or(Value::Null).to_string(),
        }
    }
}
