//! The channel that a verb is about: a file, or one channel of a session directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use portreeve_core::envelope::{Header, LogName, RecipientPrivateKey, SegmentName};
use portreeve_core::record::ChannelNumber;

use super::location::{BucketArgs, Location};
use super::segments::{Log, logs_in};

/// Arguments that name a channel.
#[derive(Debug, clap::Args)]
pub(super) struct ChannelArgs {
    /// The channel of a session directory, where it has several terminals
    #[arg(long, value_name = "N")]
    channel: Option<u32>,
    #[command(flatten)]
    bucket: BucketArgs,
    /// The directory of a session, or a channel's file; of this machine, or s3://BUCKET/PATH
    #[arg(value_name = "SESSION_DIR|FILE")]
    source: PathBuf,
}

/// A channel's log, and the events of its session where they are at hand.
pub(super) struct Channel {
    pub(super) log: Log,
    pub(super) header: Header,
    pub(super) events: Option<Log>,
    /// Its number, where the file's name says it.
    pub(super) number: Option<ChannelNumber>,
}

impl ChannelArgs {
    /// Finds the channel; of several, the only one with a terminal.
    pub(super) fn find(&self, key: &RecipientPrivateKey) -> anyhow::Result<Channel> {
        let unreadable = || format!("cannot read {}", self.source.display());
        let source = self.bucket.locate(&self.source)?;
        if !source.is_dir().with_context(unreadable)? {
            return self.file(&source, key);
        }
        let mut logs = logs_in(&source, key).with_context(unreadable)?;
        let events = logs.remove(&LogName::Events);
        let number = match self.channel {
            Some(number) => ChannelNumber(number),
            None => only_terminal(&self.source, &logs, key)?,
        };
        let Some(log) = logs.remove(&LogName::Channel(number)) else {
            bail!("{} has no channel {}; it has {}", self.source.display(), number.0, numbers(logs.keys()));
        };
        let header = log.header(key)?;
        Ok(Channel { log, header, events, number: Some(number) })
    }

    fn file(&self, source: &Location, key: &RecipientPrivateKey) -> anyhow::Result<Channel> {
        if self.channel.is_some() {
            bail!("--channel goes with the directory of a session; {} is a file", self.source.display());
        }
        let log = Log::single(source);
        let header = log.header(key)?;
        let name = source.file_name().and_then(|name| name.to_str()?.parse::<SegmentName>().ok());
        let number = name.and_then(|name| match name.log {
            LogName::Channel(number) => Some(number),
            LogName::Events => None,
        });
        let beside = number.map(|_| source.parent());
        // Without the events there are no commands to jump to; the channel can be read all the same.
        let events = beside.and_then(|parent| logs_in(&parent, key).ok()?.remove(&LogName::Events));
        Ok(Channel { log, header, events, number })
    }
}

/// The only log of a terminal, by its number.
pub(super) fn only_terminal(
    source: &Path,
    logs: &BTreeMap<LogName, Log>,
    key: &RecipientPrivateKey,
) -> anyhow::Result<ChannelNumber> {
    let mut terminals = Vec::new();
    let mut unread = None;
    for (name, log) in logs {
        let LogName::Channel(number) = name else { continue };
        match log.header(key) {
            Ok(header) if header.pty.is_some() => terminals.push(*number),
            Ok(_) => {}
            Err(error) => unread = Some(error),
        }
    }
    match (terminals.as_slice(), unread) {
        ([only], _) => Ok(*only),
        ([], Some(error)) => Err(error.into()),
        ([], None) => {
            bail!("{} has no recording of a terminal; it has {}", source.display(), numbers(logs.keys()))
        }
        (several, _) => {
            let names: Vec<LogName> = several.iter().map(|number| LogName::Channel(*number)).collect();
            bail!("{} has several terminals: choose --channel of {}", source.display(), numbers(names.iter()))
        }
    }
}

/// The numbers of channels, for people.
pub(super) fn numbers<'a>(names: impl Iterator<Item = &'a LogName>) -> String {
    let numbers: Vec<String> = names
        .filter_map(|name| match name {
            LogName::Channel(ChannelNumber(number)) => Some(number.to_string()),
            LogName::Events => None,
        })
        .collect();
    if numbers.is_empty() { "no channels".to_owned() } else { format!("channels {}", numbers.join(", ")) }
}
