//! What a session does just now: for those who run the gateway, while it lives.
//!
//! Goes by the events that are recorded, so that what policy withholds from the record is not here either. Kept in memory
//! alone; invariants: a command is cut to [`COMMAND`] bytes, and there is one entry for each open channel.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use portreeve_core::record::{ChannelKind, ChannelNumber, RecordEvent, Source, WITHHELD};

/// Bytes of a command that are kept.
const COMMAND: usize = 256;

/// What a session does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Channels that are open, of all kinds.
    pub channels: usize,
    /// The last command, requested or typed.
    pub command: Option<String>,
    /// Bytes from the user's side; those of forwards count when they close.
    pub client_bytes: u64,
    /// Bytes from the target's side, likewise.
    pub target_bytes: u64,
}

/// Gathers it.
#[derive(Debug)]
pub struct Activity {
    /// Whether commands are told.
    command_logging: bool,
    state: Mutex<State>,
    client_bytes: AtomicU64,
    target_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Open channels, and whether they are session channels, whose data is told.
    open: HashMap<ChannelNumber, bool>,
    command: Option<String>,
}

impl Activity {
    /// Of a session that does nothing yet; without `command_logging` commands are withheld.
    pub(super) fn new(command_logging: bool) -> Self {
        let (client_bytes, target_bytes) = Default::default();
        Self { command_logging, state: Mutex::default(), client_bytes, target_bytes }
    }

    /// What it does now.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        Snapshot {
            channels: state.open.len(),
            command: state.command.clone(),
            client_bytes: self.client_bytes.load(Ordering::Relaxed),
            target_bytes: self.target_bytes.load(Ordering::Relaxed),
        }
    }

    /// An event was recorded.
    pub(super) fn event(&self, event: &RecordEvent) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "other events are not shown")]
        match event {
            RecordEvent::ChannelOpen { channel, kind, .. } => {
                self.lock().open.insert(*channel, matches!(kind, ChannelKind::Session));
            }
            RecordEvent::ChannelClosed { channel, client_bytes, target_bytes } => {
                // What a session channel carried is counted already.
                let counted = self.lock().open.remove(channel) != Some(false);
                if !counted {
                    self.client_bytes.fetch_add(*client_bytes, Ordering::Relaxed);
                    self.target_bytes.fetch_add(*target_bytes, Ordering::Relaxed);
                }
            }
            RecordEvent::Exec { command, .. } | RecordEvent::Command { command, .. } => {
                let text = if self.command_logging { shortened(&command.0) } else { WITHHELD.to_owned() };
                self.lock().command = Some(text);
            }
            _ => {}
        }
    }

    /// So many bytes came on a session channel.
    pub(super) fn data(&self, source: Source, bytes: usize) {
        let total = match source {
            Source::Client => &self.client_bytes,
            Source::Target => &self.target_bytes,
        };
        total.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shortened(command: &[u8]) -> String {
    let start = command.get(..COMMAND).unwrap_or(command);
    let mut text = String::from_utf8_lossy(start).into_owned();
    text.truncate(text.floor_char_boundary(COMMAND));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ChannelNumber = ChannelNumber(0);

    fn opened(kind: ChannelKind, command_logging: bool) -> Activity {
        let activity = Activity::new(command_logging);
        activity.event(&RecordEvent::ChannelOpen { channel: CHANNEL, source: Source::Client, kind });
        activity
    }

    #[test]
    fn it_tells_the_last_command_unless_policy_withholds_it() {
        for (command_logging, shown) in [(true, "id"), (false, WITHHELD)] {
            let activity = opened(ChannelKind::Session, command_logging);
            activity.event(&RecordEvent::Exec { channel: CHANNEL, command: "id".into() });
            activity.data(Source::Target, 7);
            let expected =
                Snapshot { channels: 1, command: Some(shown.into()), client_bytes: 0, target_bytes: 7 };
            assert_eq!(activity.snapshot(), expected);
            activity.event(&RecordEvent::ChannelClosed {
                channel: CHANNEL,
                client_bytes: 3,
                target_bytes: 7,
            });
            assert_eq!(activity.snapshot(), Snapshot { channels: 0, ..expected }, "counted once");
        }
    }

    #[test]
    fn bytes_of_a_forward_count_when_it_closes() {
        let activity = opened(ChannelKind::Agent, true);
        activity.event(&RecordEvent::ChannelClosed { channel: CHANNEL, client_bytes: 3, target_bytes: 7 });
        let counted = Snapshot { channels: 0, command: None, client_bytes: 3, target_bytes: 7 };
        assert_eq!(activity.snapshot(), counted);
    }

    #[test]
    fn a_long_command_is_cut_between_characters() {
        assert_eq!(shortened("é".repeat(COMMAND).as_bytes()), "é".repeat(COMMAND / 2));
        assert!(shortened(&[0xff; 1000]).len() <= COMMAND);
    }
}
