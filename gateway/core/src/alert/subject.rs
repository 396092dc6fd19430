//! What a rule looks at, and when that meets it.

use std::collections::BTreeSet;

use regex::bytes::Regex;

use crate::infrastructure::forwarding::{Forward, ForwardKind};
use crate::inspection::FileProgress;
use crate::record::{Change, FileChange, RecordEvent, Source, Text};

/// Most bytes of a text that matched which the record repeats; what stands before it has the whole.
pub const MATCHED: usize = 256;

/// What a rule looks at.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Commands, asked for or typed, that match.
    Command(Regex),
    /// Files whose path matches: when they are asked for or changed, or once so many of their bytes have crossed.
    File {
        /// The expression for paths.
        path: Regex,
        /// How many bytes; 0: as soon as it is asked for.
        size: u64,
    },
    /// Forwards whose destination, as `HOST:PORT` or the path of a socket, matches; for remote ones where the target
    /// listens.
    Forward(Regex),
    /// Whatever the session asked for and was refused, if it matches.
    Refused(Regex),
    /// Events of these names.
    Event(BTreeSet<String>),
    /// So many bytes from the user's side, in a session.
    Upload(u64),
    /// So many bytes from the target's side, in a session.
    Download(u64),
}

/// Bytes of channel data in a session so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// From the user's side.
    pub client: u64,
    /// From the target's side.
    pub target: u64,
}

impl Volume {
    /// So many bytes from one side.
    pub const fn of(source: Source, bytes: u64) -> Self {
        match source {
            Source::Client => Self { client: bytes, target: 0 },
            Source::Target => Self { client: 0, target: bytes },
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        Self {
            client: self.client.saturating_add(more.client),
            target: self.target.saturating_add(more.target),
        }
    }

    /// What is there beyond `counted`.
    #[must_use]
    pub const fn beyond(self, counted: Self) -> Self {
        Self {
            client: self.client.saturating_sub(counted.client),
            target: self.target.saturating_sub(counted.target),
        }
    }
}

impl Subject {
    /// Whether an event meets it, and the text that matched where there is one.
    pub(super) fn met_by_event(&self, event: &RecordEvent) -> Option<Option<Text>> {
        let found = match (self, event) {
            (Self::Event(names), event) => return names.contains(event.name()).then_some(None),
            (
                Self::Command(pattern),
                RecordEvent::Exec { command, .. } | RecordEvent::Command { command, .. },
            ) => find(pattern, &command.0),
            (Self::File { path, size: 0 }, RecordEvent::FileChange { change, .. }) => changed(path, change),
            (Self::Forward(pattern), RecordEvent::ChannelOpen { kind, .. }) => {
                find(pattern, &destination(kind.forward()?))
            }
            (Self::Forward(pattern), RecordEvent::RemoteForward { listen, port }) => {
                find(pattern, &address(&listen.0, *port))
            }
            (Self::Refused(pattern), RecordEvent::Refused { what, .. }) => find(pattern, what.as_bytes()),
            _ => None,
        };
        found.map(Some)
    }

    /// The text that matched, if a file meets it now and did not before.
    pub(super) fn met_by_file(&self, file: &FileProgress) -> Option<Text> {
        let Self::File { path, size } = self else { return None };
        let reached = |bytes: Option<u64>| bytes.is_some_and(|bytes| bytes >= *size);
        if reached(file.told) || !reached(Some(file.bytes)) {
            return None;
        }
        find(path, &file.path.0).or_else(|| {
            let name = file.name.as_ref()?;
            find(path, &[&*file.path.0, b"/", &name.0].concat())
        })
    }

    /// Which way it was, and how many bytes it is now, if a volume meets it now and did not before.
    pub(super) const fn met_by_volume(&self, before: Volume, now: Volume) -> Option<(&'static str, u64)> {
        let (way, limit, before, now) = match self {
            Self::Upload(limit) => ("upload", *limit, before.client, now.client),
            Self::Download(limit) => ("download", *limit, before.target, now.target),
            Self::Command(_) | Self::File { .. } | Self::Forward(_) | Self::Refused(_) | Self::Event(_) => {
                return None;
            }
        };
        if before < limit && limit <= now { Some((way, now)) } else { None }
    }
}

/// The part that matches, cut.
fn find(pattern: &Regex, text: &[u8]) -> Option<Text> {
    let matched = pattern.find(text)?.as_bytes();
    Some(matched.get(..MATCHED).unwrap_or(matched).into())
}

fn changed(pattern: &Regex, file: &FileChange) -> Option<Text> {
    let further = match &file.change {
        Change::Rename { to }
        | Change::Symlink { to }
        | Change::Hardlink { to }
        | Change::CopyData { to } => Some(to),
        Change::Remove | Change::Mkdir | Change::Rmdir | Change::Setstat | Change::Extended { .. } => None,
    };
    [Some(&file.path), further].into_iter().flatten().find_map(|path| find(pattern, &path.0))
}

/// Where a forward from the user leads. Where the target listens was told when that was asked for.
fn destination(forward: Forward<'_>) -> Vec<u8> {
    let port = (forward.kind == ForwardKind::Local).then_some(forward.port);
    address(forward.destination, port)
}

fn address(host: &[u8], port: Option<u32>) -> Vec<u8> {
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    [host, port.as_bytes()].concat()
}
