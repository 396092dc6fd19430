//! What events are called, and which channel they are about.

use super::{ChannelNumber, RecordEvent};

/// The names of all events that a rule may ask for, as in the `event` field of their lines: all but `alert` and the
/// last, `session-ended`.
pub const EVENT_NAMES: &[&str] = &[
    "session-started",
    "channel-open",
    "env",
    "pty",
    "window-change",
    "shell",
    "exec",
    "command",
    "input-omitted",
    "subsystem",
    "agent-forward",
    "x11-forward",
    "remote-forward",
    "cancel-remote-forward",
    "signal",
    "file-transfer",
    "file-change",
    "inspection-ended",
    "exit",
    "forward-inspected",
    "ssh-in-forward",
    "refused",
    "channel-closed",
    "gap",
];

impl RecordEvent {
    /// Its name, as in the `event` field of its line.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SessionStarted { .. } => "session-started",
            Self::ChannelOpen { .. } => "channel-open",
            Self::Env { .. } => "env",
            Self::Pty { .. } => "pty",
            Self::WindowChange { .. } => "window-change",
            Self::Shell { .. } => "shell",
            Self::Exec { .. } => "exec",
            Self::Command { .. } => "command",
            Self::InputOmitted { .. } => "input-omitted",
            Self::Subsystem { .. } => "subsystem",
            Self::AgentForward { .. } => "agent-forward",
            Self::X11Forward { .. } => "x11-forward",
            Self::RemoteForward { .. } => "remote-forward",
            Self::CancelRemoteForward { .. } => "cancel-remote-forward",
            Self::Signal { .. } => "signal",
            Self::FileTransfer { .. } => "file-transfer",
            Self::FileChange { .. } => "file-change",
            Self::InspectionEnded { .. } => "inspection-ended",
            Self::Exit { .. } => "exit",
            Self::ForwardInspected { .. } => "forward-inspected",
            Self::SshInForward { .. } => "ssh-in-forward",
            Self::Refused { .. } => "refused",
            Self::ChannelClosed { .. } => "channel-closed",
            Self::Gap { .. } => "gap",
            Self::Alert { .. } => "alert",
            Self::SessionEnded { .. } => "session-ended",
        }
    }

    /// The channel that it is about; none for one about the whole session.
    pub const fn channel(&self) -> Option<ChannelNumber> {
        match self {
            Self::ChannelOpen { channel, .. }
            | Self::Env { channel, .. }
            | Self::Pty { channel, .. }
            | Self::WindowChange { channel, .. }
            | Self::Shell { channel }
            | Self::Exec { channel, .. }
            | Self::Command { channel, .. }
            | Self::InputOmitted { channel }
            | Self::Subsystem { channel, .. }
            | Self::AgentForward { channel }
            | Self::X11Forward { channel }
            | Self::Signal { channel, .. }
            | Self::FileTransfer { channel, .. }
            | Self::FileChange { channel, .. }
            | Self::InspectionEnded { channel, .. }
            | Self::Exit { channel, .. }
            | Self::ForwardInspected { channel, .. }
            | Self::SshInForward { channel }
            | Self::ChannelClosed { channel, .. } => Some(*channel),
            Self::Refused { channel, .. } | Self::Gap { channel, .. } | Self::Alert { channel, .. } => {
                *channel
            }
            Self::SessionStarted { .. }
            | Self::RemoteForward { .. }
            | Self::CancelRemoteForward { .. }
            | Self::SessionEnded { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Alert, Severity};

    #[test]
    fn names_are_those_of_the_lines() {
        let channel = ChannelNumber(3);
        let alert = Alert {
            rule: "wipe".into(),
            severity: Severity::High,
            met_by: "exec".into(),
            matched: Some("rm -rf /".into()),
            bytes: None,
            ends_session: true,
        };
        for (event, of_channel) in [
            (RecordEvent::AgentForward { channel }, true),
            (RecordEvent::X11Forward { channel }, true),
            (RecordEvent::SshInForward { channel }, true),
            (RecordEvent::ForwardInspected { channel, session: "s".into(), target: "t".into() }, true),
            (RecordEvent::InputOmitted { channel }, true),
            (RecordEvent::RemoteForward { listen: "::".into(), port: None }, false),
            (RecordEvent::ChannelClosed { channel, client_bytes: 1, target_bytes: 2 }, true),
            (RecordEvent::SessionEnded { reason: String::new() }, false),
            (RecordEvent::Alert { channel: Some(channel), alert }, true),
        ] {
            let line = serde_json::to_value(&event).unwrap();
            assert_eq!(line["event"], event.name());
            assert_eq!(event.channel(), of_channel.then_some(channel));
            assert_eq!(line.get("channel").is_some(), of_channel);
            assert_eq!(serde_json::from_value::<RecordEvent>(line).unwrap(), event);
            let asked = !["alert", "session-ended"].contains(&event.name());
            assert_eq!(EVENT_NAMES.contains(&event.name()), asked);
        }
    }
}
