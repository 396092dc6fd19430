//! The section `[recording]`.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Section, absolute};
use crate::command::{InputRules, Mask, Masks, UnechoedInput};
use crate::config::shipping::{self, Retention};
use crate::config::size;
use crate::config::tree::Node;

const KEYS: &[&str] = &[
    "recipient_key_file",
    "recipient_key_files",
    "spool_dir",
    "on_failure",
    "segment_size",
    "segment_time",
    "fsync",
    "reserve",
    "memory",
    "break_glass_unrecorded",
    "unechoed_input",
    "mask",
    "keep",
    "keep_bytes",
    "delete_unshipped",
    "chain_head_interval",
];

/// Sizes of a segment: room for some blocks, and what a reader can hold.
const SEGMENT_SIZES: RangeInclusive<u64> = 1 << 20..=1 << 40;

/// Recipients that one gateway may have: each costs the sealing and writing of every recorded byte.
const MOST_RECIPIENTS: usize = 8;

/// Recording of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingConfig {
    /// Files with the recipients' public keys; at least one, each once.
    pub recipient_key_files: Vec<PathBuf>,
    /// Where sealed files are written (default `STATE_DIR/spool`).
    pub spool_dir: PathBuf,
    /// What happens to a session whose recording fails after it started.
    pub on_failure: OnRecordingFailure,
    /// Whether sessions of break-glass identities go on without a recording (default false).
    pub break_glass_unrecorded: bool,
    /// How often a head of the audit chain is signed, if that has grown (default 1 min).
    pub chain_head_interval: Duration,
    /// How the spool writes.
    pub spool: SpoolConfig,
    /// What is kept of what users type.
    pub input: InputRules,
    /// When finished recordings are deleted.
    pub retention: Retention,
}

/// How the spool writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Bytes of data after which a log goes on in a new segment (default 64 MiB).
    pub segment_size: u64,
    /// Age at which a log goes on in a new segment, when more comes (default 1 h).
    pub segment_time: Duration,
    /// When what was written is brought to the disk (default within a second).
    pub fsync: Fsync,
    /// Free bytes of the file system that only break-glass identities may use (default 256 MiB).
    pub reserve: u64,
    /// Bytes that all recordings together may hold in memory beside a first 256 KiB of each log (default 256 MiB).
    pub memory: u64,
}

/// When what was written is brought to the disk, so that it outlives a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// When the kernel does it.
    Never,
    /// When a segment is finished.
    Segment,
    /// Within a second of its arrival.
    Second,
}

/// What happens to a session whose recording fails after it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRecordingFailure {
    /// The session ends (default).
    End,
    /// The session goes on; the gap is logged and counted.
    Continue,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            segment_time: Duration::from_hours(1),
            fsync: Fsync::Second,
            reserve: 256 << 20,
            memory: 256 << 20,
        }
    }
}

pub(super) fn read(root: Section<'_>, state_dir: &Path) -> Option<RecordingConfig> {
    let section = root.section("recording", KEYS);
    let recipient_key_files = read_recipients(root, section);
    let spool_dir = section.find("spool_dir").and_then(|node| section.problems.parsed(node, absolute));
    let words = [("end", OnRecordingFailure::End), ("continue", OnRecordingFailure::Continue)];
    let on_failure = section.find("on_failure").and_then(|node| section.problems.word(node, &words));
    let words = [("never", Fsync::Never), ("segment", Fsync::Segment), ("second", Fsync::Second)];
    let fsync = section.find("fsync").and_then(|node| section.problems.word(node, &words));
    let default = SpoolConfig::default();
    let spool = SpoolConfig {
        segment_size: read_segment_size(section, default.segment_size),
        segment_time: section.duration("segment_time", default.segment_time),
        fsync: fsync.unwrap_or(default.fsync),
        reserve: read_size(section, "reserve", default.reserve),
        memory: read_size(section, "memory", default.memory),
    };
    Some(RecordingConfig {
        recipient_key_files: recipient_key_files?,
        spool_dir: spool_dir.unwrap_or_else(|| state_dir.join("spool")),
        on_failure: on_failure.unwrap_or(OnRecordingFailure::End),
        break_glass_unrecorded: section.flag("break_glass_unrecorded"),
        chain_head_interval: section.duration("chain_head_interval", Duration::from_mins(1)),
        spool,
        input: read_input(section),
        retention: section.table.map_or_else(Retention::default, |table| {
            shipping::read_retention(&table, section.problems, root.find("ship").is_some())
        }),
    })
}

fn read_input(section: Section<'_>) -> InputRules {
    let words = [("omit", UnechoedInput::Omit), ("keep", UnechoedInput::Keep)];
    let unechoed = section.find("unechoed_input").and_then(|node| section.problems.word(node, &words));
    let masks = section.find("mask").map_or(&[][..], |node| section.problems.list(node));
    let masks = masks.iter().filter_map(|node| section.problems.parsed(node, Mask::new));
    InputRules { unechoed: unechoed.unwrap_or_default(), masks: Masks::new(masks.collect()) }
}

/// One of the two keys, and each file once.
fn read_recipients(root: Section<'_>, section: Section<'_>) -> Option<Vec<PathBuf>> {
    let problems = section.problems;
    let Some(list) = section.find("recipient_key_files") else {
        let example = "recipient_key_file = \"/etc/portreeve/recipient.pub\"";
        let node = section.need("recipient_key_file", root, "recording", example)?;
        return problems.parsed(node, absolute).map(|file| vec![file]);
    };
    if let Some(one) = section.find("recipient_key_file") {
        problems.error(one, "recipient_key_files is there too: write all files there and take this out");
    }
    let nodes = problems.list(list);
    if nodes.is_empty() || nodes.len() > MOST_RECIPIENTS {
        problems.error(list, format_args!("name 1 to {MOST_RECIPIENTS} files of recipients' public keys"));
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut unique = |node: &Node<'_>| {
        let file = problems.parsed(node, absolute)?;
        if !seen.insert(file.clone()) {
            problems.error(node, "this file is named twice: take one out");
        }
        Some(file)
    };
    nodes.iter().map(&mut unique).collect()
}

fn read_size(section: Section<'_>, key: &str, default: u64) -> u64 {
    section.find(key).and_then(|node| section.problems.parsed(node, size::parse)).unwrap_or(default)
}

fn read_segment_size(section: Section<'_>, default: u64) -> u64 {
    let node = section.find("segment_size");
    let read = node.and_then(|node| section.problems.parsed(node, size::parse).map(|size| (node, size)));
    let Some((node, size)) = read else { return default };
    if !SEGMENT_SIZES.contains(&size) {
        section.problems.error(node, "write a size from \"1MiB\" to \"1TiB\"");
    }
    size
}
