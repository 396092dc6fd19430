//! What the events of a session come to: who, where, how much, how it ended.
//!
//! Owns the counting, line by line and in little memory. Deliberately absent: where lines come from.

use super::{EventLine, RecordEvent};

/// What is known of a session by the events seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionSummary {
    /// The session's id.
    pub session: Option<String>,
    /// E-mail of the user.
    pub email: Option<String>,
    /// Unix account on the target.
    pub login: Option<String>,
    /// The user's address and port.
    pub client: Option<String>,
    /// The target's address and port.
    pub target: Option<String>,
    /// Hostname of the target in the policy.
    pub hostname: Option<String>,
    /// Channels that were opened, of all kinds.
    pub channels: u64,
    /// Commands, as requested and as typed.
    pub commands: u64,
    /// What was refused.
    pub refused: u64,
    /// Bytes of data in channels that are closed, from the user's side.
    pub client_bytes: u64,
    /// The same, from the target's side.
    pub target_bytes: u64,
    /// Microseconds from the start to the last event.
    pub elapsed_us: u64,
    /// How it ended, as in the access log; `None` while it lives, and where it was cut short.
    pub ended: Option<String>,
}

impl SessionSummary {
    /// Adds a line.
    pub fn add(&mut self, line: EventLine) {
        self.elapsed_us = self.elapsed_us.max(line.elapsed_us);
        #[expect(clippy::wildcard_enum_match_arm, reason = "other events change none of these facts")]
        match line.event {
            RecordEvent::SessionStarted { session, email, login, client, target, hostname, .. } => {
                self.session = Some(session);
                self.email = Some(email);
                self.login = Some(login);
                self.client = Some(client);
                self.target = Some(target);
                self.hostname = Some(hostname);
            }
            RecordEvent::ChannelOpen { .. } => self.channels += 1,
            RecordEvent::Exec { .. } | RecordEvent::Command { .. } => self.commands += 1,
            RecordEvent::Refused { .. } => self.refused += 1,
            RecordEvent::ChannelClosed { client_bytes, target_bytes, .. } => {
                self.client_bytes = self.client_bytes.saturating_add(client_bytes);
                self.target_bytes = self.target_bytes.saturating_add(target_bytes);
            }
            RecordEvent::SessionEnded { reason } => self.ended = Some(reason),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record::{ChannelKind, ChannelNumber, Confidence, PromptKind, Source};
    use crate::utc::UtcTime;

    #[test]
    fn a_session_is_summed_up() {
        let channel = ChannelNumber(0);
        let command = || "id".into();
        let happened = [
            RecordEvent::SessionStarted {
                session: "s".into(),
                email: "alice@example.com".into(),
                login: "root".into(),
                client: "192.0.2.1:40000".into(),
                target: "198.51.100.7:22".into(),
                hostname: "db-1".into(),
                granted_by: Vec::new(),
                outer: None,
            },
            RecordEvent::ChannelOpen { channel, source: Source::Client, kind: ChannelKind::Session },
            RecordEvent::Exec { channel, command: command() },
            RecordEvent::Command {
                channel,
                command: command(),
                directory: None,
                confidence: Confidence::Low,
                prompt: PromptKind::Shell,
            },
            RecordEvent::ChannelClosed { channel, client_bytes: 3, target_bytes: 5 },
            RecordEvent::SessionEnded { reason: "closed: by the user".into() },
        ];
        let mut summary = SessionSummary::default();
        for (seconds, event) in (0..).zip(happened) {
            let started = UtcTime::from_unix_seconds(1_700_000_000);
            summary.add(EventLine::new(event, started, Duration::from_secs(seconds)));
        }
        let expected = SessionSummary {
            session: Some("s".into()),
            email: Some("alice@example.com".into()),
            login: Some("root".into()),
            client: Some("192.0.2.1:40000".into()),
            target: Some("198.51.100.7:22".into()),
            hostname: Some("db-1".into()),
            channels: 1,
            commands: 2,
            refused: 0,
            client_bytes: 3,
            target_bytes: 5,
            elapsed_us: 5_000_000,
            ended: Some("closed: by the user".into()),
        };
        assert_eq!(summary, expected);
    }
}
