//! The vocabulary of a recording: what happened in a session, in order.
//!
//! A [`RecordEvent`] with its time is an [`EventLine`], one line of JSON in the sealed events file.
//! Texts of SSH are bytes, not UTF-8 (RFC 4254 section 5), so they are kept as [`Text`].

mod alert;
mod forward;
mod line;
mod naming;
mod summary;
mod transfer;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use alert::{Alert, Severity};
pub use line::{EventLine, WITHHELD};
pub use naming::EVENT_NAMES;
pub use summary::SessionSummary;
pub use transfer::{
    Change, FileChange, FileOutcome, FileTransfer, HashMissing, TransferDirection, TransferProtocol,
};

/// Bytes that are usually UTF-8: a JSON string when they are, `{"base64": "..."}` when not.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text(pub Vec<u8>);

/// Numbers the channels of a session in the order they were opened, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelNumber(pub u32);

/// Which side sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The user's side.
    Client,
    /// The target's side.
    Target,
}

/// What a channel was opened for (RFC 4254 sections 6.1, 6.3.2, 7.2; OpenSSH's PROTOCOL file).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ChannelKind {
    /// `session`: shell, command or subsystem.
    Session,
    /// `direct-tcpip`: -L, -D, -W.
    DirectTcpip {
        /// Where the connection goes.
        destination: Text,
        /// TCP port of the destination.
        destination_port: u32,
        /// Where it came from.
        originator: Text,
        /// TCP port of the originator.
        originator_port: u32,
    },
    /// `forwarded-tcpip`: -R.
    ForwardedTcpip {
        /// The address that was listened on.
        listen: Text,
        /// The port that was listened on.
        listen_port: u32,
        /// Where the connection came from.
        originator: Text,
        /// TCP port of the originator.
        originator_port: u32,
    },
    /// `direct-streamlocal@openssh.com`: -L to a unix socket.
    DirectStreamlocal {
        /// Path of the socket on the target.
        path: Text,
    },
    /// `forwarded-streamlocal@openssh.com`: -R of a unix socket.
    ForwardedStreamlocal {
        /// Path of the socket on the target.
        path: Text,
    },
    /// `auth-agent@openssh.com`.
    Agent,
    /// `x11`.
    X11 {
        /// Where the X client connected from.
        originator: Text,
        /// TCP port of the originator.
        originator_port: u32,
    },
    /// A channel type this version does not know.
    Other {
        /// The type as sent.
        channel_type: Text,
    },
}

/// A terminal (RFC 4254 section 6.2); modes in the order they were sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pty {
    /// The TERM value.
    pub term: Text,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Terminal modes: name (or number in decimal where it has none) and value.
    pub modes: Vec<(String, u32)>,
}

/// How a channel's program ended (RFC 4254 section 6.10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// `exit-status`.
    Status(u32),
    /// `exit-signal`.
    Signal {
        /// Signal name without SIG.
        signal: Text,
        /// Whether a core was dumped.
        core_dumped: bool,
        /// The message that came with it.
        error_msg: Text,
    },
}

/// How sure it is that a typed command was read right out of a terminal's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// A guess, from one piece of evidence, such as the echo of what was typed ahead.
    Low,
    /// Likely: read from the screen behind a prompt that was recognised; the keys alone do not tell it.
    Medium,
    /// As good as known: the screen shows what the keys say, or the shell marked where its line begins.
    High,
}

/// Whose prompt a line was typed at, judged by its look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptKind {
    /// A shell's.
    Shell,
    /// That of another program that reads lines: an interpreter, a database, a question.
    Other,
}

/// One thing that happened in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RecordEvent {
    /// The session was authorised; always the first event.
    SessionStarted {
        /// The session's id.
        session: String,
        /// E-mail of the user.
        email: String,
        /// Unix account on the target.
        login: String,
        /// The user's address and port.
        client: String,
        /// The target's address and port.
        target: String,
        /// Hostname of the target in the policy.
        hostname: String,
        /// `application/policy` of each infrastructure policy that granted it.
        granted_by: Vec<String>,
        /// Id of the session in whose channel this one runs, if it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outer: Option<String>,
    },
    /// A channel was asked for.
    ChannelOpen {
        /// The channel.
        channel: ChannelNumber,
        /// Who opened it.
        source: Source,
        /// What for.
        #[serde(flatten)]
        kind: ChannelKind,
    },
    /// `env`.
    Env {
        /// The channel.
        channel: ChannelNumber,
        /// Variable name.
        name: Text,
        /// Variable value.
        value: Text,
    },
    /// `pty-req`.
    Pty {
        /// The channel.
        channel: ChannelNumber,
        /// The terminal.
        pty: Pty,
    },
    /// `window-change`.
    WindowChange {
        /// The channel.
        channel: ChannelNumber,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// `shell`.
    Shell {
        /// The channel.
        channel: ChannelNumber,
    },
    /// `exec`.
    Exec {
        /// The channel.
        channel: ChannelNumber,
        /// The command as sent.
        command: Text,
    },
    /// A line typed at a prompt, recovered from the terminal's streams.
    Command {
        /// The channel.
        channel: ChannelNumber,
        /// The command as the shell read it.
        command: Text,
        /// The working directory, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        directory: Option<Text>,
        /// How sure it is.
        confidence: Confidence,
        /// Whose prompt it was.
        prompt: PromptKind,
    },
    /// The terminal did not show what was typed, as with a password; it was left out of the channel's stream.
    InputOmitted {
        /// The channel.
        channel: ChannelNumber,
    },
    /// `subsystem`.
    Subsystem {
        /// The channel.
        channel: ChannelNumber,
        /// Its name.
        name: Text,
    },
    /// `auth-agent-req@openssh.com`.
    AgentForward {
        /// The channel.
        channel: ChannelNumber,
    },
    /// `x11-req`.
    X11Forward {
        /// The channel.
        channel: ChannelNumber,
    },
    /// `tcpip-forward` or `streamlocal-forward@openssh.com`.
    RemoteForward {
        /// Address or socket path to listen on at the target.
        listen: Text,
        /// Port, absent for a unix socket; 0 asks the target to choose.
        port: Option<u32>,
    },
    /// `cancel-tcpip-forward` or `cancel-streamlocal-forward@openssh.com`.
    CancelRemoteForward {
        /// Address or socket path that was listened on.
        listen: Text,
        /// Port, absent for a unix socket.
        port: Option<u32>,
    },
    /// `signal`.
    Signal {
        /// The channel.
        channel: ChannelNumber,
        /// Signal name without SIG.
        name: Text,
    },
    /// A file was transferred by sftp, scp or rsync, or could not be; told when it is over.
    FileTransfer {
        /// The channel.
        channel: ChannelNumber,
        /// The file.
        #[serde(flatten)]
        transfer: FileTransfer,
    },
    /// Something at the target was changed by sftp, or could not be.
    FileChange {
        /// The channel.
        channel: ChannelNumber,
        /// What.
        #[serde(flatten)]
        change: FileChange,
    },
    /// What follows on the channel is recorded and not looked into for files.
    InspectionEnded {
        /// The channel.
        channel: ChannelNumber,
        /// Why.
        reason: String,
    },
    /// `exit-status` or `exit-signal`.
    Exit {
        /// The channel.
        channel: ChannelNumber,
        /// How it ended.
        exit: Exit,
    },
    /// A forward leads to a target: the gateway itself answered it, and what runs in it is a session of its own.
    ForwardInspected {
        /// The channel.
        channel: ChannelNumber,
        /// The inner session's id, which it has even if nobody is let in.
        session: String,
        /// The inner target's address and port.
        target: String,
    },
    /// An SSH connection began on a forward to a name or socket; the next event says so if it was refused.
    SshInForward {
        /// The channel.
        channel: ChannelNumber,
    },
    /// Something was asked for that the grant does not hold, or where it would not be recorded; it was refused.
    Refused {
        /// The channel, absent for a request of the whole connection.
        channel: Option<ChannelNumber>,
        /// What was asked for.
        what: String,
    },
    /// A channel is closed.
    ChannelClosed {
        /// The channel.
        channel: ChannelNumber,
        /// Bytes of data that the user's side sent.
        client_bytes: u64,
        /// Bytes of data that the target's side sent.
        target_bytes: u64,
    },
    /// Something is missing in the recording, which could not be written for a while.
    Gap {
        /// The channel whose log has the gap; absent for that of the events.
        channel: Option<ChannelNumber>,
        /// When the first of it happened, microseconds since the session started.
        from_us: u64,
        /// Bytes of data that are missing.
        lost_bytes: u64,
    },
    /// A rule of the policy was met; what met it stands before.
    Alert {
        /// The channel, absent where it is about the whole session.
        channel: Option<ChannelNumber>,
        /// The rule, and what met it.
        #[serde(flatten)]
        alert: Alert,
    },
    /// The session ended; the last event.
    SessionEnded {
        /// Why, as in the access log.
        reason: String,
    },
}

impl RecordEvent {
    /// The channel that is asked for, or that SSH began on.
    pub const fn opened_channel(&self) -> Option<ChannelNumber> {
        if let Self::ChannelOpen { channel, .. } | Self::SshInForward { channel } = self {
            Some(*channel)
        } else {
            None
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TextForm {
    Plain(String),
    Encoded { base64: String },
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => TextForm::Encoded { base64: STANDARD.encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match TextForm::deserialize(deserializer)? {
            TextForm::Plain(text) => Ok(Self(text.into_bytes())),
            TextForm::Encoded { base64 } => {
                STANDARD.decode(base64).map(Self).map_err(serde::de::Error::custom)
            }
        }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf8_survives_json() {
        let event = RecordEvent::Env {
            channel: ChannelNumber(3),
            name: "LANG".into(),
            value: Text(vec![0xff, 0x00]),
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(json, r#"{"event":"env","channel":3,"name":"LANG","value":{"base64":"/wA="}}"#);
        assert_eq!(serde_json::from_str::<RecordEvent>(&json).unwrap(), event);
    }
}
