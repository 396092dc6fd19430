//! Names of the files in a session directory.
//!
//! A log is a series of segments, each a sealed file: `events.log`, `events.1.log`, `events.2.log`, ..., and for
//! each recorded channel `channel-<c>.log`, `channel-<c>.1.log`, .... Each number has one spelling: no sign, no
//! leading zero, and none for segment 0.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::record::ChannelNumber;

/// One log of a session; ordered as they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogName {
    /// The events.
    Events,
    /// The streams of a channel.
    Channel(ChannelNumber),
}

/// One sealed file of a log; ordered by log, then as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentName {
    /// The log that it belongs to.
    pub log: LogName,
    /// Counts from 0.
    pub segment: u32,
}

/// A file name that no segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the name of a recording: events.log, events.1.log, channel-0.log, channel-0.1.log, ...")]
pub struct NotASegment;

impl LogName {
    /// A segment of it.
    pub const fn segment(self, segment: u32) -> SegmentName {
        SegmentName { log: self, segment }
    }
}

impl fmt::Display for LogName {
    /// `events`, `channel-0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events => f.write_str("events"),
            Self::Channel(ChannelNumber(number)) => write!(f, "channel-{number}"),
        }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.segment {
            0 => write!(f, "{}.log", self.log),
            segment => write!(f, "{}.{segment}.log", self.log),
        }
    }
}

impl FromStr for LogName {
    type Err = NotASegment;

    fn from_str(text: &str) -> Result<Self, NotASegment> {
        match text.strip_prefix("channel-") {
            Some(text) => number(text).map(|number| Self::Channel(ChannelNumber(number))),
            None if text == "events" => Ok(Self::Events),
            None => Err(NotASegment),
        }
    }
}

impl FromStr for SegmentName {
    type Err = NotASegment;

    fn from_str(text: &str) -> Result<Self, NotASegment> {
        let stem = text.strip_suffix(".log").ok_or(NotASegment)?;
        let (log, segment) = match stem.split_once('.') {
            None => (stem, 0),
            Some((log, text)) => (log, number(text).ok().filter(|segment| *segment > 0).ok_or(NotASegment)?),
        };
        Ok(Self { log: log.parse()?, segment })
    }
}

fn number(text: &str) -> Result<u32, NotASegment> {
    let number: u32 = text.parse().map_err(|_| NotASegment)?;
    if number.to_string() == text { Ok(number) } else { Err(NotASegment) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_spelling() {
        for (text, log, segment) in [
            ("events.log", LogName::Events, 0),
            ("events.1.log", LogName::Events, 1),
            ("channel-0.log", LogName::Channel(ChannelNumber(0)), 0),
            ("channel-12.304.log", LogName::Channel(ChannelNumber(12)), 304),
            ("channel-4294967295.4294967295.log", LogName::Channel(ChannelNumber(u32::MAX)), u32::MAX),
        ] {
            assert_eq!(text.parse(), Ok(log.segment(segment)), "{text}");
            assert_eq!(log.segment(segment).to_string(), text);
        }
        for text in [
            "",
            "events",
            "log",
            ".log",
            "events.0.log",
            "events.01.log",
            "events.+1.log",
            "events.1.2.log",
            "event.log",
            "events.log.1",
            "channel-.log",
            "channel--1.log",
            "channel-00.log",
            "channel-0..log",
            "channel-4294967296.log",
            "Events.log",
            "events.log/",
            "../events.log",
        ] {
            assert_eq!(text.parse::<SegmentName>(), Err(NotASegment), "{text}");
        }
    }

    #[test]
    fn order_is_that_of_reading() {
        let names = [
            "events.log",
            "events.2.log",
            "events.10.log",
            "channel-2.log",
            "channel-2.1.log",
            "channel-10.log",
        ];
        let parsed: Vec<SegmentName> = names.iter().map(|name| name.parse().unwrap()).collect();
        assert!(parsed.is_sorted(), "{parsed:?}");
    }
}
