//! One line of the sealed events file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{RecordEvent, Text};
use crate::utc::UtcTime;

/// What stands in place of a text that policy keeps out of the record.
pub const WITHHELD: &str = "[withheld]";

/// An event with its time: one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// Microseconds since the session started, by a clock that never goes back; never less than in the
    /// line before.
    pub elapsed_us: u64,
    /// Start of the session by the gateway's clock, plus `elapsed_us`: RFC 3339 in UTC.
    pub time: String,
    /// Whether policy kept a text out of this event, which is then [`WITHHELD`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
    /// What happened.
    #[serde(flatten)]
    pub event: RecordEvent,
}

impl EventLine {
    /// The line of `event`, `elapsed` after the session started.
    pub fn new(event: RecordEvent, started: UtcTime, elapsed: Duration) -> Self {
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        Self { elapsed_us, time: started.after(elapsed).to_string(), withheld: false, event }
    }

    /// The same line without what the user or the target wrote: the command of `Exec` and of `Command`, the
    /// directory of the latter and the value of `Env` are replaced by [`WITHHELD`]; everything else stays.
    #[must_use]
    pub fn withhold(mut self) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these carry contents of the session")]
        match &mut self.event {
            RecordEvent::Exec { command: text, .. } | RecordEvent::Env { value: text, .. } => {
                *text = Text::from(WITHHELD);
                self.withheld = true;
            }
            RecordEvent::Command { command, directory, .. } => {
                *command = Text::from(WITHHELD);
                *directory = directory.take().map(|_| Text::from(WITHHELD));
                self.withheld = true;
            }
            _ => {}
        }
        self
    }

    /// The JSON, ended by a newline.
    ///
    /// # Errors
    /// Those of serialising, which these types do not cause.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ChannelKind, ChannelNumber, Confidence, PromptKind, Source};

    fn line(event: RecordEvent) -> EventLine {
        EventLine::new(event, UtcTime::from_unix_seconds(1_700_000_000), Duration::from_millis(1_500))
    }

    fn json(line: &EventLine) -> String {
        String::from_utf8(line.to_json().unwrap()).unwrap()
    }

    #[test]
    fn line_has_time_and_event() {
        let open = line(RecordEvent::ChannelOpen {
            channel: ChannelNumber(2),
            source: Source::Client,
            kind: ChannelKind::DirectTcpip {
                destination: "10.0.0.9".into(),
                destination_port: 5432,
                originator: "127.0.0.1".into(),
                originator_port: 40000,
            },
        });
        assert_eq!(
            json(&open),
            concat!(
                r#"{"elapsed_us":1500000,"time":"2023-11-14T22:13:21.500000Z","event":"channel-open","#,
                r#""channel":2,"source":"client","kind":"direct-tcpip","destination":"10.0.0.9","#,
                r#""destination_port":5432,"originator":"127.0.0.1","originator_port":40000}"#,
                "\n"
            )
        );
        assert_eq!(serde_json::from_str::<EventLine>(&json(&open)).unwrap(), open);
    }

    #[test]
    fn session_channel_comes_back() {
        let open = line(RecordEvent::ChannelOpen {
            channel: ChannelNumber(0),
            source: Source::Client,
            kind: ChannelKind::Session,
        });
        assert_eq!(serde_json::from_str::<EventLine>(&json(&open)).unwrap(), open);
    }

    #[test]
    fn withheld_lines_hold_neither_command_nor_value() {
        let exec = line(RecordEvent::Exec { channel: ChannelNumber(0), command: "rm -rf /srv".into() });
        let env = line(RecordEvent::Env {
            channel: ChannelNumber(0),
            name: "TOKEN".into(),
            value: "s3cret".into(),
        });
        let typed = line(RecordEvent::Command {
            channel: ChannelNumber(0),
            command: "rm -rf /home".into(),
            directory: Some("rm -rf".into()),
            confidence: Confidence::High,
            prompt: PromptKind::Shell,
        });
        let shell = line(RecordEvent::Shell { channel: ChannelNumber(0) });
        for (line, secret) in [(exec, "rm -rf"), (env, "s3cret"), (typed, "rm -rf")] {
            let text = json(&line.withhold());
            assert!(!text.contains(secret) && text.contains(r#""withheld":true"#), "{text}");
        }
        assert_eq!(shell.clone().withhold(), shell);
    }
}
