//! The asynchronous front of one sealed file: callers add, a task of its own seals and writes.
//!
//! Invariants: what was added is on its way to the disk when [`BATCH`] bytes of it are there, or
//! [`SEAL_AFTER`] after it arrived, whichever comes first; at most [`MAX_PENDING`] bytes and one more
//! message wait in memory, and less when all streams together hold too much ([`super::holding`]), then callers wait; a failed write is told to every later caller. While
//! nothing arrives nothing runs. Looking at what arrived, sealing and writing happen on the blocking pool, one
//! batch at a time.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portreeve_core::envelope::{ExitHeader, MAX_BLOCK, Packer, Packet, PtyHeader};
use portreeve_core::record::{RecordEvent, Source};
use tokio::sync::{Notify, SetOnce};
use tokio::time::{Instant, timeout_at};

use super::error::RecordingError;
use super::holding::Holding;
use super::inspector::Inspector;
use super::sealed_log::SealedLog;
use super::writer::{Inspection, Work, Writer};

/// The longest that anything waits to be sealed while the disk keeps up.
pub(super) const SEAL_AFTER: Duration = Duration::from_millis(400);

/// Bytes that are sealed and written at once: several blocks, as each batch costs two changes of threads.
pub(super) const BATCH: usize = 4 * MAX_BLOCK;

/// Bytes that may wait for the disk while the file counts as keeping up.
const KEEPS_UP: usize = 4 * BATCH;

/// Bytes that may wait for the disk before callers wait, too: those of a file that keeps up, and what its
/// channel may still send without more window (2 MiB for OpenSSH's sessions).
pub(super) const MAX_PENDING: usize = KEEPS_UP + 3 * 1024 * 1024;

/// Adds to one file. Dropping it closes the file in the background.
pub(super) struct LogStream {
    shared: Arc<Shared>,
}

/// The first failure in a session, whichever file it struck.
pub(super) type SessionFailure = Arc<SetOnce<RecordingError>>;

struct Shared {
    started: Instant,
    session_failure: SessionFailure,
    state: Mutex<State>,
    /// For the writer: a first packet, a full block, or the end.
    work: Notify,
    /// For callers: there is room again, or the writer has ended.
    progress: Notify,
}

struct State {
    packer: Packer,
    holding: Holding,
    /// When the oldest packet that waits was added.
    oldest: Option<Instant>,
    pty: Option<PtyHeader>,
    exit: Option<ExitHeader>,
    /// What was asked for on the channel since the writer last looked.
    requests: Vec<RecordEvent>,
    /// When the inspector wants to look again though nothing arrives.
    look_again: Option<Instant>,
    phase: Phase,
}

enum Phase {
    Open,
    Closing,
    Closed,
    Failed(RecordingError),
}

impl LogStream {
    /// Starts the writer of `log`, to which `packer` has added all that was written so far; times
    /// count from `started`. Must be called within a tokio runtime.
    pub(super) fn start(
        log: SealedLog,
        packer: Packer,
        started: Instant,
        session_failure: SessionFailure,
        inspection: Option<Inspection>,
    ) -> Self {
        let state = State {
            holding: Holding::new(Arc::clone(log.budget())),
            packer,
            oldest: None,
            pty: None,
            exit: None,
            requests: Vec::new(),
            look_again: None,
            phase: Phase::Open,
        };
        let shared = Arc::new(Shared {
            started,
            session_failure,
            state: Mutex::new(state),
            work: Notify::new(),
            progress: Notify::new(),
        });
        tokio::spawn(write_all(Arc::clone(&shared), log, inspection));
        Self { shared }
    }

    /// Adds data, waiting while there is no room.
    pub(super) async fn data(&self, source: Source, code: u32, data: &[u8]) -> Result<(), RecordingError> {
        let mut state = self.room(data.len()).await?;
        let elapsed = self.shared.elapsed();
        self.shared.add(&mut state, Packet { source, code, elapsed: micros(elapsed), data });
        Ok(())
    }

    /// Waits until no more waits for the disk than while the file keeps up.
    pub(super) async fn keeps_up(&self) {
        loop {
            let progress = self.shared.progress.notified();
            {
                let state = self.shared.lock();
                let pending = state.packer.pending();
                let keeps_up = pending < KEEPS_UP && state.holding.has_room(pending);
                if state.check_open().is_err() || keeps_up {
                    return;
                }
            }
            progress.await;
        }
    }

    /// Adds what `line` makes of the time since the start, as one piece and in the order of times.
    pub(super) async fn line(
        &self,
        line: impl FnOnce(Duration) -> Result<Vec<u8>, RecordingError>,
    ) -> Result<(), RecordingError> {
        // How long the line is depends on when it is added.
        let mut state = self.room(0).await?;
        let elapsed = self.shared.elapsed();
        let data = line(elapsed)?;
        let packet = Packet { source: Source::Client, code: 0, elapsed: micros(elapsed), data: &data };
        self.shared.add(&mut state, packet);
        Ok(())
    }

    /// Puts the terminal into the header, with the next write.
    pub(super) fn set_pty(&self, pty: PtyHeader) -> Result<(), RecordingError> {
        let mut state = self.shared.lock();
        state.check_open()?;
        state.pty = Some(pty);
        state.oldest.get_or_insert_with(Instant::now);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Tells the inspector what was asked for, with the next write.
    pub(super) fn request(&self, event: &RecordEvent) -> Result<(), RecordingError> {
        let mut state = self.shared.lock();
        state.check_open()?;
        state.requests.push(event.clone());
        state.oldest.get_or_insert_with(Instant::now);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Puts the end of the program into the header when the file is closed.
    pub(super) fn set_exit(&self, exit: ExitHeader) -> Result<(), RecordingError> {
        let mut state = self.shared.lock();
        state.check_open()?;
        state.exit = Some(exit);
        Ok(())
    }

    /// Starts closing the file; adding is an error from now on.
    pub(super) fn begin_close(&self) {
        let mut state = self.shared.lock();
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closing;
            self.shared.work.notify_one();
        }
    }

    /// Whether the writer has ended, well or not.
    pub(super) fn is_over(&self) -> bool {
        self.outcome().is_some()
    }

    /// Closes the file and waits until all of it is written.
    pub(super) async fn close(&self) -> Result<(), RecordingError> {
        self.begin_close();
        loop {
            let progress = self.shared.progress.notified();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            progress.await;
        }
    }

    fn outcome(&self) -> Option<Result<(), RecordingError>> {
        match &self.shared.lock().phase {
            Phase::Open | Phase::Closing => None,
            Phase::Closed => Some(Ok(())),
            Phase::Failed(error) => Some(Err(error.clone())),
        }
    }

    async fn room(&self, bytes: usize) -> Result<MutexGuard<'_, State>, RecordingError> {
        loop {
            let progress = self.shared.progress.notified();
            {
                let mut state = self.shared.lock();
                state.check_open()?;
                let pending = state.packer.pending();
                if pending < MAX_PENDING && state.holding.admit(pending, bytes) {
                    return Ok(state);
                }
            }
            progress.await;
        }
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        self.begin_close();
    }
}

impl State {
    fn check_open(&self) -> Result<(), RecordingError> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Closing | Phase::Closed => Err(RecordingError::Finished),
            Phase::Failed(error) => Err(error.clone()),
        }
    }

    /// Whether the writer has something to do now; if not, when at the latest.
    fn due(&self, now: Instant) -> Result<(), Option<Instant>> {
        let sealing = self.oldest.map(|oldest| oldest + SEAL_AFTER);
        let deadline = sealing.into_iter().chain(self.look_again).min();
        let full = self.packer.pending() >= BATCH;
        let closing = matches!(self.phase, Phase::Closing);
        if closing || full || deadline.is_some_and(|deadline| deadline <= now) {
            Ok(())
        } else {
            Err(deadline)
        }
    }

    fn take(&mut self, spare: Vec<u8>) -> Work {
        let busy = self.packer.pending() >= BATCH;
        self.holding.sent(self.packer.pending());
        let batch = self.packer.take(spare);
        self.oldest = None;
        let closing = matches!(self.phase, Phase::Closing);
        let finish = closing.then(|| self.exit.take());
        self.look_again = None;
        Work { batch, pty: self.pty.take(), requests: std::mem::take(&mut self.requests), finish, busy }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn add(&self, state: &mut State, packet: Packet<'_>) {
        let before = state.packer.pending();
        state.packer.push(packet);
        let first = state.oldest.is_none();
        if first {
            state.oldest = Some(Instant::now());
        }
        if first || (before < BATCH && state.packer.pending() >= BATCH) {
            self.work.notify_one();
        }
    }

    async fn next_work(&self, mut spare: Vec<u8>) -> Work {
        loop {
            let work = self.work.notified();
            let deadline = {
                let mut state = self.lock();
                match state.due(Instant::now()) {
                    Ok(()) => return state.take(spare),
                    Err(deadline) => deadline,
                }
            };
            match deadline {
                Some(deadline) => drop(timeout_at(deadline, work).await),
                None => {
                    spare = Vec::new();
                    work.await;
                }
            }
        }
    }

    /// Wakes the writer at `deadline`, in microseconds since the session started.
    fn look_again(&self, deadline: Option<u64>) {
        self.lock().look_again = deadline.map(|micros| self.started + Duration::from_micros(micros));
    }

    /// What the writer took is on the disk.
    fn written(&self) {
        let mut state = self.lock();
        let pending = state.packer.pending();
        state.holding.written(pending);
        drop(state);
        self.progress.notify_waiters();
    }

    fn end(&self, phase: Phase) {
        if let Phase::Failed(error) = &phase {
            // Only the first one counts.
            self.session_failure.set(error.clone()).ok();
        }
        let mut state = self.lock();
        state.phase = phase;
        // What is left will never be written.
        drop(state.packer.take(Vec::new()));
        state.holding.written(0);
        drop(state);
        self.progress.notify_waiters();
    }
}

/// Marks the stream as failed if its writer goes away without a word.
struct Ending {
    shared: Arc<Shared>,
    path: Box<Path>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let over = matches!(self.shared.lock().phase, Phase::Closed | Phase::Failed(_));
        if !over {
            self.shared.end(Phase::Failed(RecordingError::WriterStopped { path: (&*self.path).into() }));
        }
    }
}

async fn write_all(shared: Arc<Shared>, log: SealedLog, inspection: Option<Inspection>) {
    let ending = Ending { shared: Arc::clone(&shared), path: log.path().into() };
    let (inspector, found) = inspection.map(|Inspection { inspector, found }| (inspector, found)).unzip();
    let mut writer = Writer { log, inspector };
    let mut spare = Vec::new();
    loop {
        let work = shared.next_work(spare).await;
        shared.progress.notify_waiters();
        let (last, busy) = (work.finish.is_some(), work.busy);
        let now = micros(shared.elapsed());
        let written = tokio::task::spawn_blocking(move || writer.write(work, now).map(|done| (writer, done)));
        let done = match written.await {
            Ok(Ok((written, done))) => {
                writer = written;
                done
            }
            Ok(Err(error)) => return shared.end(Phase::Failed(error)),
            Err(_) => return drop(ending),
        };
        shared.written();
        if let Some(error) = done.ending {
            // Only the first one counts.
            shared.session_failure.set(error).ok();
        }
        if let Some(found) = &found {
            if let Err(error) = found.add_found(&done.found).await {
                return shared.end(Phase::Failed(error));
            }
            shared.look_again(writer.inspector.as_ref().and_then(Inspector::deadline));
        }
        if last {
            return shared.end(done.closed.map_or_else(Phase::Failed, |()| Phase::Closed));
        }
        spare = if busy { done.spare } else { Vec::new() };
    }
}

/// Whole microseconds.
pub(super) fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
