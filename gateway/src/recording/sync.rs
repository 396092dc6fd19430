//! Bringing what was written to the disk, so that it outlives a loss of power.
//!
//! Invariants: with `second`, what was written is on the disk [`SYNC_AFTER`] later, as long as the disk keeps up;
//! one round at a time runs for the whole spool, so that many sessions cost few syncs; what cannot be synced is
//! told to the next writer of that file, since the kernel forgets the error and the data (fsync(2)). While nothing is
//! written nothing runs.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use portreeve_core::config::daemon::Fsync;
use tokio::runtime::Handle;
use tracing::error;

/// The longest that anything written waits for its sync to begin; with what it waits to be sealed below a second.
const SYNC_AFTER: Duration = Duration::from_millis(400);

/// From so many files on, one sync of the whole file system costs less than one of each.
const MANY: usize = 32;

/// How what is written gets to the disk; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Durability {
    fsync: Fsync,
    rounds: Arc<Rounds>,
}

/// A file or directory that is written to.
#[derive(Debug)]
pub(super) struct SyncedFile {
    pub(super) file: File,
    waits: AtomicBool,
    failed: OnceLock<io::Error>,
}

#[derive(Debug)]
struct Rounds {
    /// On the file system of the spool.
    root: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Arc<SyncedFile>>,
    /// Whether a task looks after what waits.
    running: bool,
}

impl SyncedFile {
    pub(super) fn new(file: File) -> Arc<Self> {
        Arc::new(Self { file, waits: AtomicBool::new(false), failed: OnceLock::new() })
    }

    fn check(&self) -> io::Result<()> {
        let again = |error: &io::Error| {
            error.raw_os_error().map_or(error.kind().into(), io::Error::from_raw_os_error)
        };
        self.failed.get().map_or(Ok(()), |error| Err(again(error)))
    }

    fn sync(&self) {
        self.waits.store(false, Ordering::Release);
        if let Err(error) = self.file.sync_data() {
            self.fail(error);
        }
    }

    fn fail(&self, error: io::Error) {
        error!(%error, "what was recorded last cannot be brought to the disk");
        // Only the first one counts.
        self.failed.set(error).ok();
    }
}

impl Durability {
    /// For the spool at `root`.
    ///
    /// # Errors
    /// Those of opening it.
    pub(super) fn new(root: &Path, fsync: Fsync) -> io::Result<Self> {
        let rounds = Rounds { root: File::open(root)?, state: Mutex::default() };
        Ok(Self { fsync, rounds: Arc::new(rounds) })
    }

    pub(super) fn of(&self, fsync: Fsync) -> Self {
        Self { fsync, rounds: Arc::clone(&self.rounds) }
    }

    /// `file` was written to.
    ///
    /// # Errors
    /// When what was written to it earlier did not get to the disk.
    pub(super) fn written(&self, file: &Arc<SyncedFile>) -> io::Result<()> {
        if self.fsync == Fsync::Second && !file.waits.swap(true, Ordering::AcqRel) {
            self.rounds.add(Arc::clone(file));
        }
        file.check()
    }

    /// The last of `file` was written.
    ///
    /// # Errors
    /// When not all of it got to the disk.
    pub(super) fn finished(&self, file: &SyncedFile) -> io::Result<()> {
        match self.fsync {
            Fsync::Never => Ok(()),
            Fsync::Segment | Fsync::Second => file.check().and_then(|()| file.file.sync_data()),
        }
    }

    /// Something was created or renamed in `directory`.
    ///
    /// # Errors
    /// Those of opening and syncing it.
    pub(super) fn changed(&self, directory: &Path) -> io::Result<()> {
        match self.fsync {
            Fsync::Never => Ok(()),
            Fsync::Segment => File::open(directory)?.sync_data(),
            Fsync::Second => self.written(&SyncedFile::new(File::open(directory)?)),
        }
    }
}

impl Rounds {
    fn add(self: &Arc<Self>, file: Arc<SyncedFile>) {
        let mut state = self.lock();
        state.waiting.push(file);
        if state.running {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            state.running = true;
            runtime.spawn(Arc::clone(self).run());
        } else {
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            self.sync(&waiting);
        }
    }

    /// Syncs until nothing waits.
    async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SYNC_AFTER).await;
            let waiting = {
                let mut state = self.lock();
                state.running = !state.waiting.is_empty();
                std::mem::take(&mut state.waiting)
            };
            if waiting.is_empty() {
                return;
            }
            let rounds = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || rounds.sync(&waiting)).await.is_err() {
                self.lock().running = false;
                return;
            }
        }
    }

    fn sync(&self, files: &[Arc<SyncedFile>]) {
        if files.len() < MANY {
            return files.iter().for_each(|file| file.sync());
        }
        files.iter().for_each(|file| file.waits.store(false, Ordering::Release));
        if let Err(error) = nix::unistd::syncfs(&self.root) {
            files.iter().for_each(|file| file.fail(error.into()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    async fn settled(file: &SyncedFile) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while file.waits.load(Ordering::Acquire) {
            assert!(std::time::Instant::now() < deadline, "it still waits");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn files_are_synced_in_rounds_and_a_failure_is_told_to_the_next_writer() {
        let scratch = tempfile::tempdir().unwrap();
        for count in [1, MANY] {
            let durability = Durability::new(scratch.path(), Fsync::Second).unwrap();
            let create = |number: usize| File::create(scratch.path().join(number.to_string())).unwrap();
            let files: Vec<_> = (0..count).map(|number| SyncedFile::new(create(number))).collect();
            // It takes what is written and cannot be synced.
            let bad = SyncedFile::new(OpenOptions::new().write(true).open("/dev/null").unwrap());
            let begun = std::time::Instant::now();
            for file in files.iter().chain([&bad]) {
                durability.written(file).unwrap();
                durability.written(file).unwrap();
            }
            assert_eq!(durability.rounds.lock().waiting.len(), count + 1, "each waits once");
            for file in files.iter().chain([&bad]) {
                settled(file).await;
            }
            assert!(begun.elapsed() >= SYNC_AFTER);
            files.iter().for_each(|file| durability.written(file).unwrap());
            // With many, all at once are synced, and that goes well.
            assert_eq!(durability.written(&bad).is_err(), count == 1);
            assert_eq!(durability.finished(&bad).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[tokio::test]
    async fn what_is_not_asked_for_is_not_synced() {
        let scratch = tempfile::tempdir().unwrap();
        let never = Durability::new(scratch.path(), Fsync::Never).unwrap();
        let bad = SyncedFile::new(OpenOptions::new().write(true).open("/dev/null").unwrap());
        never.written(&bad).unwrap();
        never.finished(&bad).unwrap();
        never.changed(Path::new("/there/is/none")).unwrap();
        let segment = never.of(Fsync::Segment);
        segment.written(&bad).unwrap();
        assert!(never.rounds.lock().waiting.is_empty());
        segment.finished(&bad).unwrap_err();
        segment.changed(scratch.path()).unwrap();
    }

    #[test]
    fn without_a_runtime_a_file_is_synced_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let durability = Durability::new(scratch.path(), Fsync::Second).unwrap();
        let bad = SyncedFile::new(OpenOptions::new().write(true).open("/dev/null").unwrap());
        assert!(durability.written(&bad).is_err() && !bad.waits.load(Ordering::Acquire));
    }
}
