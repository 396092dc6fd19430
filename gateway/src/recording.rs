//! The recorder of one session: events and streams, sealed as they happen.
//!
//! A recording starts as a [`Reservation`], which has its directory and its events file on disk before
//! anything is dialled, so that a session that cannot be recorded never begins. It becomes a
//! [`Recorder`], which writes one sealed log of events and one for each session channel.
//!
//! Invariants: what was recorded is sealed and written within half a second (a crash of the process loses
//! no more than that), and on the disk half a second later where the configuration says so; a file that cannot be written is told to the next caller; a slow disk makes the
//! caller of the slow file wait, with bounded memory, and nobody else.
//!
//! Deliberately absent: what to do when a recording fails (the session decides), and shipping.

pub mod activity;
mod budget;
mod channels;
mod error;
mod events;
mod file;
mod holding;
mod inspector;
mod ledger;
mod lookout;
pub mod recipient;
mod sealed_log;
mod segment;
mod session_files;
mod space;
pub mod spool;
mod stream;
mod sync;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use portreeve_core::command::InputRules;
use portreeve_core::config::daemon::OnRecordingFailure;
use portreeve_core::envelope::{ExitHeader, LogName, Packer, Packet};
use portreeve_core::id::SessionId;
use portreeve_core::infrastructure::TransferRights;
use portreeve_core::manifest::Ended;
use portreeve_core::record::{ChannelKind, ChannelNumber, Exit, RecordEvent, Source};
use portreeve_core::utc::UtcTime;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::warn;

use activity::Activity;
use channels::Channels;
pub use error::RecordingError;
use events::{EventsFile, event_line};
use inspector::Inspector;
pub use lookout::Lookout;
use lookout::Watched;
use sealed_log::SealedLog;
use session_files::SessionFiles;
pub use session_files::Terms;
use spool::{CreateError, SessionDirectory, Spool};
use stream::{LogStream, SessionFailure, micros};
use writer::Inspection;

/// A recording that is sure to have its files, and holds nothing yet; or none, of a session that may go on without.
/// Dropping it removes them.
pub struct Reservation {
    reserved: Option<Reserved>,
    watched: Watched,
}

struct Reserved {
    events: SealedLog,
    directory: SessionDirectory,
    files: Arc<SessionFiles>,
    input: Arc<InputRules>,
    start: Start,
}

/// Records one session; cheap to clone.
///
/// A recorder that is dropped without [`Recorder::finish`] closes its files in the background, without
/// a last event.
#[derive(Clone)]
pub struct Recorder {
    /// Absent where the session goes on without a recording.
    session: Option<Arc<Recording>>,
    activity: Arc<Activity>,
    watched: Watched,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

struct Recording {
    directory: SessionDirectory,
    files: Arc<SessionFiles>,
    start: Start,
    command_logging: bool,
    rights: TransferRights,
    input: Arc<InputRules>,
    events: EventsFile,
    channels: Channels,
    failure: SessionFailure,
    finished: AtomicBool,
}

/// The start of the session by both clocks.
#[derive(Clone, Copy)]
struct Start {
    wall: UtcTime,
    monotonic: Instant,
}

impl Recorder {
    /// Creates the session's directory and its events file, unless too little space is left.
    ///
    /// # Errors
    /// [`RecordingError`]: the session must not begin.
    pub async fn reserve(
        spool: &Spool,
        terms: Terms,
        session: SessionId,
        started: SystemTime,
    ) -> Result<Reservation, RecordingError> {
        let start = Start { wall: started.into(), monotonic: Instant::now() };
        let spool = spool.clone();
        let stopped = RecordingError::WriterStopped { path: spool.root().to_owned() };
        let reserved = tokio::task::spawn_blocking(move || {
            let failed = |error: CreateError| RecordingError::create(&error.path, error.source);
            spool.space().check(terms.break_glass)?;
            let _creating = spool.creating().map_err(failed)?;
            let directory =
                SessionDirectory::create(&spool, session, start.wall, &terms.recipients).map_err(failed)?;
            let files = Arc::new(spool.session_files(directory.path(), start.wall, terms));
            let events = SealedLog::create(Arc::clone(&files), LogName::Events)?;
            directory.lock().map_err(failed)?;
            let input = Arc::clone(spool.input());
            let reserved = Some(Reserved { events, directory, files, input, start });
            Ok(Reservation { reserved, watched: Watched::default() })
        });
        reserved.await.unwrap_or(Err(stopped))
    }

    /// Records an event; opens the channel's file on `ChannelOpen` of a session channel, and closes it on
    /// `ChannelClosed`.
    ///
    /// # Errors
    /// [`RecordingError`] of this event, or of anything in the session that was recorded before.
    pub async fn event(&self, event: &RecordEvent) -> Result<(), RecordingError> {
        let Some(session) = &self.session else {
            self.activity.event(event);
            self.watched.event(event);
            self.watched.forget();
            return Ok(());
        };
        let kept = session.input.masks.apply_event(event);
        self.watched.event(&kept);
        session.check().inspect_err(|_| self.watched.forget())?;
        session.events.add(&kept).await?;
        session.events.add_raised().await?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "the other events change no channel's file")]
        match event {
            RecordEvent::ChannelOpen { channel, kind, .. } => session.open_channel(*channel, kind).await,
            RecordEvent::Exit { channel, exit } => session.set_exit(*channel, exit),
            RecordEvent::ChannelClosed { channel, .. } => session.channels.close(*channel),
            RecordEvent::Pty { channel, .. }
            | RecordEvent::WindowChange { channel, .. }
            | RecordEvent::Shell { channel }
            | RecordEvent::Exec { channel, .. }
            | RecordEvent::Subsystem { channel, .. }
            | RecordEvent::Signal { channel, .. } => session.request(*channel, event),
            _ => Ok(()),
        }
    }

    /// Records data of a channel; `code` is 0 for data, else the extended-data type (RFC 4254 section 5.2).
    /// Data of a channel that is no session channel is not kept. Waits while the channel's file is behind.
    ///
    /// # Errors
    /// [`RecordingError`] of this data, or of anything in the session that was recorded before.
    pub async fn data(
        &self,
        channel: ChannelNumber,
        source: Source,
        code: u32,
        data: &[u8],
    ) -> Result<(), RecordingError> {
        let kept = match &self.session {
            Some(session) => session.keep(channel, source, code, data).await,
            None => Ok(()),
        };
        // Nothing is waited for after this: who drops this future has not been counted.
        self.activity.data(source, data.len());
        self.watched.data(channel, source, data.len());
        if self.session.is_none() || kept.is_err() {
            self.watched.forget();
        }
        kept
    }

    /// What the session does, while it lives.
    pub fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Where it is written until it is finished; `None` where there is no recording.
    pub fn directory(&self) -> Option<&Path> {
        self.session.as_ref().map(|session| session.directory.path())
    }

    /// Waits for the first failure of a file, which may strike while nothing is recorded.
    pub async fn failed(&self) -> RecordingError {
        match &self.session {
            Some(session) => session.failure.wait().await.clone(),
            None => std::future::pending().await,
        }
    }

    /// Of a session that goes on without a recording; its activity tells no commands, since what policy lets
    /// be kept of them is not known here.
    pub fn unrecorded() -> Self {
        Self { session: None, activity: Arc::new(Activity::new(false)), watched: Watched::default() }
    }

    /// The same, looked at by `lookout` from now on.
    #[must_use]
    pub fn unrecorded_watched_by(lookout: Arc<dyn Lookout>) -> Self {
        Self { watched: Watched::by(lookout), ..Self::unrecorded() }
    }

    /// What happens to the session when its recording fails.
    pub fn on_failure(&self) -> OnRecordingFailure {
        let terms = self.session.as_ref().map(|session| session.files.terms.on_failure);
        terms.unwrap_or(OnRecordingFailure::Continue)
    }

    /// Whether something is known to be missing in it.
    pub fn has_gap(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.files.has_gap.load(Ordering::Relaxed))
    }

    /// Waits until the channel's file is not behind any more; what is not kept never is.
    pub async fn keeps_up(&self, channel: ChannelNumber) {
        let stream = self.session.as_ref().map(|session| session.channels.stream(channel));
        if let Some(Ok(Some(stream))) = stream {
            stream.keeps_up().await;
        }
    }

    /// Records the last event, closes all files, signs their manifest and gives the directory its final name.
    ///
    /// # Errors
    /// The first [`RecordingError`]; what could be closed is closed all the same.
    pub async fn finish(self, last: RecordEvent) -> Result<(), RecordingError> {
        let Some(session) = &self.session else { return Ok(()) };
        // What was found in the channels comes before the last event.
        let closed = close_all(session.channels.streams()).await;
        let written = session.events.add_raised().await;
        let written = written.and(session.events.add(&last).await);
        let events_closed = session.events.close().await;
        let complete = session.check().and(closed).and(written).and(events_closed);
        let ended = if complete.is_ok() { Ended::Finished } else { Ended::Abandoned };
        let signed = session.directory.finish(Arc::clone(&session.files), ended).await;
        session.finished.store(true, Ordering::Release);
        complete.and(signed)
    }
}

impl Reservation {
    /// Of a session that may go on without a recording.
    pub fn unrecorded() -> Self {
        Self { reserved: None, watched: Watched::default() }
    }

    /// Lets `lookout` see what the session does, from its first event on.
    #[must_use]
    pub fn watched_by(self, lookout: Arc<dyn Lookout>) -> Self {
        Self { watched: Watched::by(lookout), ..self }
    }

    /// Starts the recording with its first event, which is on disk when this returns. Without
    /// `command_logging` no streams are kept, and commands and values of variables are withheld from the
    /// events. `rights` are what the session may do with files, which tells what of it is refused.
    ///
    /// # Errors
    /// [`RecordingError`]: the session must not begin; nothing of the recording stays.
    pub async fn begin(
        self,
        first: RecordEvent,
        command_logging: bool,
        rights: TransferRights,
    ) -> Result<Recorder, RecordingError> {
        let Self { reserved, watched } = self;
        let Some(Reserved { mut events, mut directory, files, input, start }) = reserved else {
            watched.event(&first);
            watched.forget();
            return Ok(Recorder { watched, ..Recorder::unrecorded() });
        };
        let mut packer = Packer::default();
        let elapsed = start.monotonic.elapsed();
        let data = event_line(&first, start, command_logging, elapsed)?;
        packer.push(Packet { source: Source::Client, code: 0, elapsed: micros(elapsed), data: &data });
        let batch = packer.take(Vec::new());
        let path = events.path().to_owned();
        let written =
            tokio::task::spawn_blocking(move || events.append(batch, micros(elapsed)).map(|_| events)).await;
        let events = written.unwrap_or(Err(RecordingError::WriterStopped { path }))?;
        directory.keep();
        watched.event(&first);
        let failure = SessionFailure::default();
        let activity = Arc::new(Activity::new(command_logging));
        let recording = Recording {
            directory,
            files,
            start,
            command_logging,
            rights,
            input,
            events: EventsFile::new(
                LogStream::start(events, packer, start.monotonic, Arc::clone(&failure), None),
                start,
                command_logging,
                (Arc::clone(&activity), watched.clone()),
            ),
            channels: Channels::default(),
            failure,
            finished: AtomicBool::new(false),
        };
        Ok(Recorder { session: Some(Arc::new(recording)), activity, watched })
    }
}

impl Recording {
    /// Adds data to the channel's file, if it has one.
    async fn keep(
        &self,
        channel: ChannelNumber,
        source: Source,
        code: u32,
        data: &[u8],
    ) -> Result<(), RecordingError> {
        self.check()?;
        match self.channels.stream(channel)? {
            Some(stream) => stream.data(source, code, data).await,
            None => Ok(()),
        }
    }

    async fn open_channel(&self, channel: ChannelNumber, kind: &ChannelKind) -> Result<(), RecordingError> {
        self.channels.check_new(channel)?;
        let stream = if self.command_logging && matches!(kind, ChannelKind::Session) {
            self.channels.room().await?;
            Some(Arc::new(self.create_stream(channel).await?))
        } else {
            None
        };
        self.channels.insert(channel, stream);
        Ok(())
    }

    async fn create_stream(&self, channel: ChannelNumber) -> Result<LogStream, RecordingError> {
        let (files, now) = (Arc::clone(&self.files), micros(self.start.monotonic.elapsed()));
        let stopped = RecordingError::WriterStopped { path: files.directory.clone() };
        let created =
            tokio::task::spawn_blocking(move || SealedLog::add(files, LogName::Channel(channel), now));
        let log = created.await.unwrap_or(Err(stopped))?;
        let inspector = Inspector::new(self.rights, Arc::clone(&self.input));
        let inspection = Inspection { inspector, found: self.events.clone() };
        let failure = Arc::clone(&self.failure);
        Ok(LogStream::start(log, Packer::default(), self.start.monotonic, failure, Some(inspection)))
    }

    fn request(&self, channel: ChannelNumber, event: &RecordEvent) -> Result<(), RecordingError> {
        let Some(stream) = self.channels.stream(channel)? else { return Ok(()) };
        if let RecordEvent::Pty { pty, .. } = event {
            stream.set_pty(pty.into())?;
        }
        stream.request(event)
    }

    fn set_exit(&self, channel: ChannelNumber, exit: &Exit) -> Result<(), RecordingError> {
        let ended = self.start.wall.after(self.start.monotonic.elapsed());
        let exit = ExitHeader::new(exit, ended.unix_seconds());
        self.channels.stream(channel)?.map_or(Ok(()), |stream| stream.set_exit(exit))
    }

    fn check(&self) -> Result<(), RecordingError> {
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.finished.load(Ordering::Acquire) {
            return;
        }
        let streams = self.channels.streams();
        let (events, path) = (self.events.clone(), self.directory.path().to_owned());
        if let Ok(runtime) = Handle::try_current() {
            let sign = self.directory.finish(Arc::clone(&self.files), Ended::Abandoned);
            runtime.spawn(async move {
                let closed = close_all(streams).await.and(events.close().await);
                if let Err(error) = closed.and(sign.await) {
                    warn!(path = %path.display(), %error, "an abandoned recording could not be closed");
                }
            });
        }
    }
}

async fn close_all(streams: Vec<Arc<LogStream>>) -> Result<(), RecordingError> {
    let mut outcome = Ok(());
    for stream in &streams {
        stream.begin_close();
    }
    for stream in &streams {
        outcome = outcome.and(stream.close().await);
    }
    outcome
}

#[cfg(test)]
mod tests;
