//! Access events in the words of others: OCSF, ECS, and the datasets of Logpush; and how they and notices of alerts travel.
//!
//! An event is the JSON object of a line of the access log. Each mapping takes such an object and yields another; what has
//! no name there is kept under one of our own, so that nothing is lost. Invariant: the fields of a line are all that comes
//! out, so what is not in the access log, as payload, cannot.

mod ecs;
mod logpush;
mod ocsf;
mod otlp;
mod outgoing;
mod syslog;

use serde_json::{Map, Value, json};

pub use otlp::otlp_request;
pub use outgoing::{Outgoing, Topic};
pub use syslog::{SyslogSender, syslog_frame};

use crate::utc::UtcTime;

/// A line of the access log.
pub type AccessLine = Map<String, Value>;

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFormat {
    /// As the access log.
    Portreeve,
    /// OCSF 1.3.0, class SSH Activity.
    Ocsf,
    /// Elastic Common Schema 8.17.
    Ecs,
    /// Field names of the Logpush datasets `ssh_logs` and `access_requests`.
    Logpush,
}

impl EventFormat {
    /// An event in this format.
    pub fn write(self, line: &AccessLine) -> Value {
        match self {
            Self::Portreeve => Value::Object(line.clone()),
            Self::Ocsf => ocsf::event(line),
            Self::Ecs => ecs::event(line),
            Self::Logpush => logpush::event(line),
        }
    }
}

/// How a connection went, as others count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// A session, which ended as sessions do.
    Session,
    /// A session that was ended from here.
    Ended,
    /// Policy or a limit said no.
    Refused,
    /// Something did not work.
    Failed,
}

impl Class {
    fn of(line: &AccessLine) -> Self {
        match text(line, "outcome") {
            Some("closed") => Self::Session,
            Some("revoked" | "shutdown") => Self::Ended,
            Some("limited" | "blocked" | "unknown_identity" | "no_target" | "denied") => Self::Refused,
            _ => Self::Failed,
        }
    }

    /// Whether policy let the user in.
    const fn allowed(self) -> bool {
        matches!(self, Self::Session | Self::Ended)
    }
}

fn text<'l>(line: &'l AccessLine, field: &str) -> Option<&'l str> {
    line.get(field)?.as_str()
}

fn number(line: &AccessLine, field: &str) -> u64 {
    line.get(field).and_then(Value::as_u64).unwrap_or_default()
}

/// Address and port of a field such as `10.1.2.3:22` or `[2001:db8::1]:22`.
fn endpoint(line: &AccessLine, field: &str) -> Option<(String, u16)> {
    let address: std::net::SocketAddr = text(line, field)?.parse().ok()?;
    Some((address.ip().to_string(), address.port()))
}

/// Milliseconds since 1970 of a time in a field.
fn millis(line: &AccessLine, field: &str) -> u64 {
    text(line, field).and_then(|time| time.parse().ok()).map_or(0, UtcTime::unix_millis)
}

/// The fields that no other name was found for.
fn rest(line: &AccessLine, mapped: &[&str]) -> Value {
    let rest = line.iter().filter(|(field, _)| !mapped.contains(&field.as_str()));
    Value::Object(rest.map(|(field, value)| (field.clone(), value.clone())).collect())
}

/// An object without the members that are null or empty objects, at any depth.
fn present(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().map(|(key, value)| (key, present(value)));
            Value::Object(kept.filter(|(_, value)| !value.is_null() && *value != json!({})).collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            other
        }
    }
}

#[cfg(test)]
mod tests;
