//! What the events of a session say about one channel, in the order of time: commands, sizes, the end.
//!
//! Invariant: at most [`MOST`] marks are kept, each with at most [`NAME`] bytes of text.

use portreeve_core::envelope::RecipientPrivateKey;
use portreeve_core::record::{ChannelNumber, EventLine, Exit, RecordEvent, SessionSummary};

use super::lines::read_events;
use super::reading::ReadingError;
use super::segments::{Damage, Log};

/// Marks that are kept; what comes after is left out.
const MOST: usize = 100_000;

/// Bytes of a command that are kept.
const NAME: usize = 200;

/// The marks of a channel.
#[derive(Default)]
pub(super) struct Timeline {
    pub(super) session: SessionSummary,
    pub(super) marks: Vec<Mark>,
    /// When the channel was opened, in microseconds since the session started.
    pub(super) opened: u64,
    /// What is wrong with the events.
    pub(super) damage: Vec<Damage>,
}

/// Something that happened besides data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Microseconds since the session started.
    pub(super) elapsed: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Command(String),
    Resize(u32, u32),
    Exit(u32),
}

impl Timeline {
    /// Reads the marks of `channel`.
    pub(super) fn read(
        events: &Log,
        channel: ChannelNumber,
        key: &RecipientPrivateKey,
    ) -> Result<Self, ReadingError> {
        let mut timeline = Self::default();
        let reading = read_events(events, key, |line, _| {
            if let Some(line) = line {
                if matches!(&line.event, RecordEvent::ChannelOpen { channel: opened, .. } if *opened == channel)
                {
                    timeline.opened = line.elapsed_us;
                }
                timeline.marks.extend(mark(&line, channel).filter(|_| timeline.marks.len() < MOST));
                timeline.session.add(line);
            }
        })?;
        timeline.damage = reading.damage;
        Ok(timeline)
    }
}

fn mark(line: &EventLine, of: ChannelNumber) -> Option<Mark> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "other events are no marks")]
    let (channel, what) = match &line.event {
        RecordEvent::Exec { channel, command } | RecordEvent::Command { channel, command, .. } => {
            let mut name = String::from_utf8_lossy(&command.0).into_owned();
            name.truncate(name.floor_char_boundary(NAME));
            (channel, What::Command(name))
        }
        RecordEvent::WindowChange { channel, width, height } => (channel, What::Resize(*width, *height)),
        RecordEvent::Exit { channel, exit: Exit::Status(status) } => (channel, What::Exit(*status)),
        _ => return None,
    };
    (*channel == of).then_some(Mark { elapsed: line.elapsed_us, what })
}
