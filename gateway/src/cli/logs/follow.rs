//! A log that still grows: what is in it from its start, then what is added.
//!
//! Goes from segment to segment. The directory may get its final name meanwhile: a file that is open stays open, and
//! the next one is found under either name. Nothing is written, and no lock is taken. Invariant: one piece of a file is
//! read at a time, so that a long log can be left on the way.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use portreeve_core::envelope::{LogName, OpenError, Opener, Packet, RecipientPrivateKey};

use super::reading::ReadingError;
use super::segments::set_of;

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// Looks at a header that is just being rewritten, one after the other.
const LOOKS: u32 = 10;

/// How far a log was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more at once.
    More,
    /// That is all for now.
    CaughtUp,
    /// The log has ended.
    Over,
}

/// Follows one log.
pub(super) struct Follower<'k> {
    /// Where its files are while the session is written.
    set: PathBuf,
    /// Where they are then.
    finished: PathBuf,
    log: LogName,
    key: &'k RecipientPrivateKey,
    number: u32,
    segment: Option<Segment<'k>>,
    piece: Vec<u8>,
}

struct Segment<'k> {
    path: PathBuf,
    file: File,
    opener: Opener<'k>,
    /// All was read at the last look.
    idle: bool,
    looks: u32,
}

/// What comes after all that was read of a segment.
enum After {
    Unknown,
    Next,
    Nothing,
}

impl<'k> Follower<'k> {
    /// Follows a log of the session that is written in `directory`.
    pub(super) fn new(directory: &Path, log: LogName, key: &'k RecipientPrivateKey) -> Self {
        let set = set_of(directory, key);
        let below = set.strip_prefix(directory).map(Path::to_owned).unwrap_or_default();
        let finished = directory.with_extension("").join(below);
        Self { set, finished, log, key, number: 0, segment: None, piece: vec![0; PIECE] }
    }

    /// Passes on the packets of the next piece.
    ///
    /// # Errors
    /// [`ReadingError`]; what precedes the damage was passed on.
    pub(super) fn step(
        &mut self,
        mut pass_on: impl FnMut(Packet<'_>) -> io::Result<()>,
    ) -> Result<Step, ReadingError> {
        let Some(mut segment) =
            self.segment.take().map_or_else(|| self.open(self.number), |open| Ok(Some(open)))?
        else {
            return Ok(Step::CaughtUp);
        };
        // Looked up before the last of it is read.
        let after = if segment.idle { self.after(&segment)? } else { After::Unknown };
        let read = segment.read(&mut self.piece)?;
        if read > 0 {
            segment.idle = false;
            segment.opener.feed(self.piece.get(..read).unwrap_or_default());
            match segment.pass_on(&mut pass_on) {
                Ok(()) => self.segment = Some(segment),
                // A header that is just being rewritten: from the start again.
                Err(ReadingError::Open { source: OpenError::Header(_), .. }) if segment.looks < LOOKS => {
                    let looks = segment.looks + 1;
                    self.segment = self.open(self.number)?.map(|segment| Segment { looks, ..segment });
                    return Ok(Step::CaughtUp);
                }
                Err(error) => return Err(error),
            }
            return Ok(Step::More);
        }
        let step = match after {
            After::Unknown if segment.idle => Step::CaughtUp,
            After::Unknown => Step::More,
            After::Next => {
                self.number = self.number.saturating_add(1);
                return Ok(Step::More);
            }
            After::Nothing => Step::Over,
        };
        segment.idle = true;
        self.segment = Some(segment);
        Ok(step)
    }

    /// A segment, if it is there.
    fn open(&self, number: u32) -> Result<Option<Segment<'k>>, ReadingError> {
        let name = self.log.segment(number).to_string();
        for path in [self.set.join(&name), self.finished.join(&name)] {
            match File::open(&path) {
                Ok(file) => {
                    return Ok(Some(Segment {
                        path,
                        file,
                        opener: Opener::new(self.key),
                        idle: false,
                        looks: 0,
                    }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(ReadingError::Read { path, source }),
            }
        }
        Ok(None)
    }

    /// A segment is finished before the next one is begun, and the last one says that it is.
    fn after(&self, segment: &Segment<'_>) -> Result<After, ReadingError> {
        if self.open(self.number.saturating_add(1))?.is_some() {
            return Ok(After::Next);
        }
        let mut start = vec![0; PIECE];
        let read = segment.file.read_at(&mut start, 0);
        let read = read.map_err(|source| ReadingError::Read { path: segment.path.clone(), source })?;
        let mut opener = Opener::new(self.key);
        opener.feed(start.get(..read).unwrap_or_default());
        // What is wrong with it is told by who reads it.
        opener.next_packet().ok();
        let is_last = opener.header().is_some_and(|header| header.last);
        Ok(if is_last { After::Nothing } else { After::Unknown })
    }
}

impl Segment<'_> {
    fn read(&mut self, piece: &mut [u8]) -> Result<usize, ReadingError> {
        self.file.read(piece).map_err(|source| ReadingError::Read { path: self.path.clone(), source })
    }

    fn pass_on(
        &mut self,
        pass_on: &mut impl FnMut(Packet<'_>) -> io::Result<()>,
    ) -> Result<(), ReadingError> {
        loop {
            match self.opener.next_packet() {
                Ok(Some(packet)) => pass_on(packet).map_err(ReadingError::PassOn)?,
                Ok(None) => return Ok(()),
                Err(source) => return Err(ReadingError::Open { path: self.path.clone(), source }),
            }
        }
    }
}
