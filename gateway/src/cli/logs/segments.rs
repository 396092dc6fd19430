//! The logs of a session directory, each read as one though it is kept in segments.
//!
//! Owns which files of a directory belong together (docs/log-format.md, "A session"). Each segment opens by itself,
//! so a damaged or missing one costs what it held and no more.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use portreeve_core::envelope::{Header, LogName, OpenError, Packet, RecipientPrivateKey, SegmentName};

use super::location::{Entry, Kind, Location};
use super::reading::{ReadingError, read_header, read_packets};

/// One log: the paths of its segments, in order.
#[derive(Clone)]
pub(super) struct Log {
    /// Names the log.
    pub(super) path: PathBuf,
    /// Absent of a file that is read alone.
    name: Option<LogName>,
    segments: Vec<Location>,
    /// Segments before the last one that have no file.
    missing: Vec<PathBuf>,
}

/// What was read of a log.
pub(super) struct LogReading {
    pub(super) packets: u64,
    /// What is wrong, in order.
    pub(super) damage: Vec<Damage>,
}

/// What is wrong with a segment.
#[derive(Debug)]
pub(super) enum Damage {
    /// It is not there.
    Missing(PathBuf),
    /// It is damaged after what was delivered of it.
    Broken(PathBuf, OpenError),
    /// Nothing of it opens, or it cannot be read.
    Unreadable(ReadingError),
}

/// The directory of the files that `private_key` opens: a further recipient's is named by the id of the key.
pub(super) fn set_of(directory: &Path, private_key: &RecipientPrivateKey) -> PathBuf {
    let own = directory.join(private_key.recipient_key().id());
    if own.is_dir() { own } else { directory.to_owned() }
}

/// The logs in a session directory that `private_key` opens, events first.
///
/// # Errors
/// Those of listing it.
pub(super) fn logs_in(
    directory: &Location,
    private_key: &RecipientPrivateKey,
) -> io::Result<BTreeMap<LogName, Log>> {
    let (mut set, mut entries) = (directory.clone(), directory.entries()?);
    let id = private_key.recipient_key().id();
    if entries.iter().any(|entry| entry.kind == Kind::Directory && entry.name == *id) {
        set = directory.join(&id);
        entries = set.entries()?;
    }
    let mut found: BTreeMap<LogName, BTreeMap<u32, Location>> = BTreeMap::new();
    for Entry { name, .. } in entries {
        if let Some(Ok(SegmentName { log, segment })) = name.to_str().map(str::parse) {
            found.entry(log).or_default().insert(segment, set.join(&name));
        }
    }
    Ok(found.into_iter().map(|(name, segments)| (name, Log::of(directory, name, segments))).collect())
}

impl Log {
    /// A file that is read alone, whatever its name.
    pub(super) fn single(path: &Location) -> Self {
        Self { path: path.to_path(), name: None, segments: vec![path.clone()], missing: Vec::new() }
    }

    fn of(directory: &Location, name: LogName, segments: BTreeMap<u32, Location>) -> Self {
        let path_of = |number| directory.join(name.segment(number).to_string()).to_path();
        let mut missing = Vec::new();
        let mut next = 0;
        for segment in segments.keys() {
            // File names are anyone's: no more is told missing than there is.
            let gap = (next..*segment).take(segments.len());
            missing.extend(gap.map(path_of));
            next = segment.saturating_add(1);
        }
        let path = path_of(0);
        Self { path, name: Some(name), segments: segments.into_values().collect(), missing }
    }

    /// The header of the whole log: the terminal of the first segment that has one, the end of the last.
    ///
    /// # Errors
    /// [`ReadingError`] of the first segment if none opens.
    pub(super) fn header(&self, private_key: &RecipientPrivateKey) -> Result<Header, ReadingError> {
        let mut whole: Option<Header> = None;
        let mut first_error = None;
        for path in &self.segments {
            match (read_header(path, private_key), &mut whole) {
                (Ok(header), None) => whole = Some(header),
                (Ok(header), Some(whole)) => {
                    whole.pty = whole.pty.take().or(header.pty);
                    whole.exit_data = header.exit_data;
                    whole.data_size = whole.data_size.saturating_add(header.data_size);
                    whole.blocks = header.blocks;
                    whole.last = header.last;
                }
                (Err(error), _) => first_error = first_error.or(Some(error)),
            }
        }
        match (whole, first_error) {
            (Some(header), _) => Ok(header),
            (None, Some(error)) => Err(error),
            (None, None) => {
                Err(ReadingError::Read { path: self.path.clone(), source: io::ErrorKind::NotFound.into() })
            }
        }
    }

    /// Passes on every packet that is intact, of all segments in order.
    ///
    /// # Errors
    /// [`ReadingError`] when packets cannot be passed on, and of the last segment if none opens.
    pub(super) fn read(
        &self,
        private_key: &RecipientPrivateKey,
        mut pass_on: impl FnMut(Packet<'_>) -> io::Result<()>,
    ) -> Result<LogReading, ReadingError> {
        let missing = self.missing.iter().cloned().map(Damage::Missing);
        let mut reading = LogReading { packets: 0, damage: missing.collect() };
        let mut opened = false;
        for path in &self.segments {
            match read_packets(path, private_key, &mut pass_on) {
                Ok(segment) => {
                    opened = true;
                    reading.packets += segment.packets;
                    reading
                        .damage
                        .extend(segment.damage.map(|damage| Damage::Broken(path.to_path(), damage)));
                }
                Err(error @ ReadingError::PassOn(_)) => return Err(error),
                Err(error) => reading.damage.push(Damage::Unreadable(error)),
            }
        }
        let unreadable = |damage| if let Damage::Unreadable(error) = damage { Some(error) } else { None };
        match reading.damage.pop_if(|_| !opened).and_then(unreadable) {
            Some(error) => Err(error),
            None => Ok(reading),
        }
    }

    /// Whether it ends where a gateway stopped writing; `header` is that of the log. Files of other writers do not
    /// say.
    pub(super) fn never_finished(&self, header: &Header) -> bool {
        let in_segments = self.name.is_some() && header.segment.is_some();
        header.kind.is_some() && (header.blocks.is_none() || (in_segments && !header.last))
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "{}: the segment is missing", path.display()),
            Self::Broken(path, damage) => write!(f, "{}: {damage}", path.display()),
            Self::Unreadable(error) => match std::error::Error::source(error) {
                Some(source) => write!(f, "{error}: {source}"),
                None => error.fmt(f),
            },
        }
    }
}
