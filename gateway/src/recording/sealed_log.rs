//! One log of a session on disk: its segments, each sealed once for each recipient. All of this blocks the thread.
//!
//! Invariants: a segment is finished before the next one is begun, so only the newest one can be damaged by a crash;
//! each of its files opens by itself; all segments count time from the start of the session. Where sessions go on
//! without a recording, a log that cannot be written leaves out what comes, tries again once a second, and goes on in
//! a new segment; how much is missing is then an event.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portreeve_core::config::daemon::OnRecordingFailure;
use portreeve_core::envelope::{Batch, ExitHeader, LogName, Packer, Packet, PtyHeader};
use portreeve_core::record::{ChannelNumber, EventLine, RecordEvent, Source};
use tracing::{error, warn};

use super::budget::Budget;
use super::error::RecordingError;
use super::segment::Segment;
use super::session_files::SessionFiles;

/// How long a log that cannot be written waits before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A log that is being written.
pub(super) struct SealedLog {
    session: Arc<SessionFiles>,
    name: LogName,
    state: State,
    pty: Option<PtyHeader>,
}

enum State {
    Writing(Segment),
    Broken(Gap),
}

/// What is left out since something failed.
struct Gap {
    /// When the first of it happened, in microseconds since the session started.
    from_us: u64,
    lost_bytes: u64,
    error: RecordingError,
    /// Number of the segment in which the log will go on.
    next: u32,
    retry: Instant,
}

/// What became of a batch.
#[derive(Default)]
pub(super) struct Appended {
    /// A buffer for reuse.
    pub(super) spare: Vec<u8>,
    /// A gap before it, to be told in the events.
    pub(super) gap: Option<RecordEvent>,
    /// Why the session must end, though this was written.
    pub(super) ending: Option<RecordingError>,
}

/// What became of a log that ended.
pub(super) struct Finished {
    /// A gap before its end, or up to it, to be told in the events.
    pub(super) gap: Option<RecordEvent>,
    /// Whether it has its end.
    pub(super) written: Result<(), RecordingError>,
}

impl SealedLog {
    /// Creates the first segment; fails if it exists.
    pub(super) fn create(session: Arc<SessionFiles>, name: LogName) -> Result<Self, RecordingError> {
        let state = State::Writing(Segment::create(&session, name, 0)?);
        Ok(Self { session, name, state, pty: None })
    }

    /// The same in a session that began; where it goes on without a recording, the log may begin with a gap. `now` is
    /// in microseconds since the session started.
    pub(super) fn add(session: Arc<SessionFiles>, name: LogName, now: u64) -> Result<Self, RecordingError> {
        match Segment::create(&session, name, 0) {
            Ok(segment) => Ok(Self { session, name, state: State::Writing(segment), pty: None }),
            Err(error) if session.terms.on_failure == OnRecordingFailure::Continue => {
                let state = State::Broken(Gap::begin(&session, error, now, 0));
                Ok(Self { session, name, state, pty: None })
            }
            Err(error) => Err(error),
        }
    }

    /// What all streams may hold in memory.
    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.session.budget
    }

    /// The newest segment's first file, or where it would be.
    pub(super) fn path(&self) -> &Path {
        match &self.state {
            State::Writing(segment) => segment.path().unwrap_or(&self.session.directory),
            State::Broken(_) => &self.session.directory,
        }
    }

    /// Seals a batch and appends it, to a new segment if it is time for one. `now` is in microseconds since the
    /// session started.
    pub(super) fn append(&mut self, batch: Batch, now: u64) -> Result<Appended, RecordingError> {
        if batch.is_empty() {
            return Ok(Appended::default());
        }
        let at = batch.packets().next().map_or(now, |packet| packet.elapsed);
        let lost_bytes = batch.data_bytes();
        let gap = self.resume(at, false);
        let spare = match &mut self.state {
            State::Writing(_) => match self.write(batch) {
                Ok((spare, ending)) => return Ok(Appended { spare, gap, ending }),
                Err(error) => self.broken(error, at)?,
            },
            State::Broken(_) => Vec::new(),
        };
        if let State::Broken(gap) = &mut self.state {
            gap.lost_bytes = gap.lost_bytes.saturating_add(lost_bytes);
            self.session.lost(lost_bytes);
        }
        Ok(Appended { spare, gap, ending: None })
    }

    /// Puts the terminal into the header.
    pub(super) fn set_pty(&mut self, pty: PtyHeader, now: u64) -> Result<(), RecordingError> {
        let set = match &mut self.state {
            State::Writing(segment) => segment.set_pty(&pty),
            State::Broken(_) => Ok(()),
        };
        self.pty = Some(pty);
        set.or_else(|error| self.broken(error, now).map(drop))
    }

    /// Writes the final header: the log ends here.
    pub(super) fn finish(&mut self, exit: Option<&ExitHeader>, now: u64) -> Finished {
        let gap = self.resume(now, true);
        match &mut self.state {
            State::Writing(segment) => Finished { gap, written: segment.finish(&self.session, exit, true) },
            State::Broken(gap) => Finished { gap: gap.event(self.name), written: Err(gap.error.clone()) },
        }
    }

    fn write(&mut self, batch: Batch) -> Result<(Vec<u8>, Option<RecordingError>), RecordingError> {
        let ending = self.session.check_space(self.name)?;
        let State::Writing(segment) = &mut self.state else { return Ok((Vec::new(), ending)) };
        if segment.is_full(&self.session.config, batch.data_bytes()) {
            segment.finish(&self.session, None, false)?;
            *segment = Segment::begin(&self.session, self.name, segment.next(), self.pty.as_ref())?;
        }
        segment.append(batch).map(|spare| (spare, ending))
    }

    /// From now on what comes is left out, if the session goes on all the same.
    fn broken(&mut self, error: RecordingError, now: u64) -> Result<Vec<u8>, RecordingError> {
        if self.session.terms.on_failure == OnRecordingFailure::End {
            return Err(error);
        }
        let next = match &mut self.state {
            State::Writing(segment) => {
                // What is whole in it stays; the first error is the one to tell.
                segment.finish(&self.session, None, false).ok();
                segment.next()
            }
            State::Broken(gap) => gap.next,
        };
        self.state = State::Broken(Gap::begin(&self.session, error, now, next));
        Ok(Vec::new())
    }

    /// Goes on in a new segment after a gap, if it is time to try and that works; says then what is missing. The
    /// events log says so itself.
    fn resume(&mut self, at: u64, last_chance: bool) -> Option<RecordEvent> {
        let State::Broken(gap) = &mut self.state else { return None };
        if !last_chance && Instant::now() < gap.retry {
            return None;
        }
        let told_elsewhere = gap.event(self.name);
        let begun = self.session.check_space(self.name).and_then(|_| {
            let mut segment = Segment::begin(&self.session, self.name, gap.next, self.pty.as_ref())?;
            if told_elsewhere.is_none() {
                let line = gap_line(gap, &self.session, at)?;
                segment.append(line).inspect_err(|_| segment.discard())?;
            }
            Ok(segment)
        });
        match begun {
            Ok(segment) => {
                let path = self.session.directory.display();
                warn!(%path, log = %self.name, lost_bytes = gap.lost_bytes, "the recording goes on after a gap");
                self.state = State::Writing(segment);
                told_elsewhere
            }
            Err(error) => {
                gap.error = error;
                gap.retry = Instant::now() + RETRY_AFTER;
                None
            }
        }
    }
}

impl Gap {
    fn begin(session: &SessionFiles, error: RecordingError, from_us: u64, next: u32) -> Self {
        let path = session.directory.display();
        let reason = crate::telemetry::with_causes(&error);
        error!(%path, error = %reason, "the recording has a gap from here on; the session goes on as configured");
        session.lost(0);
        Self { from_us, lost_bytes: 0, error, next, retry: Instant::now() + RETRY_AFTER }
    }

    /// What the events are told of a gap in another log than theirs.
    fn event(&self, log: LogName) -> Option<RecordEvent> {
        match log {
            LogName::Events => None,
            LogName::Channel(channel) => Some(self.of(Some(channel))),
        }
    }

    const fn of(&self, channel: Option<ChannelNumber>) -> RecordEvent {
        RecordEvent::Gap { channel, from_us: self.from_us, lost_bytes: self.lost_bytes }
    }
}

/// The line of a gap in the events, as the batch that holds it.
fn gap_line(gap: &Gap, session: &SessionFiles, at: u64) -> Result<Batch, RecordingError> {
    let line = EventLine::new(gap.of(None), session.started, Duration::from_micros(at));
    let data = line.to_json().map_err(|error| RecordingError::Event(Arc::new(error)))?;
    let mut packer = Packer::default();
    packer.push(Packet { source: Source::Client, code: 0, elapsed: at, data: &data });
    Ok(packer.take(Vec::new()))
}

#[cfg(test)]
impl SealedLog {
    /// A log of one file that never goes on in another.
    pub(super) fn single(file: super::file::SealedFile, session: SessionFiles) -> Self {
        let state = State::Writing(Segment::of(file));
        Self { session: Arc::new(session), name: LogName::Events, state, pty: None }
    }
}
