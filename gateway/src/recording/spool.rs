//! The spool: the directory that sealed recordings are written to and shipped from.
//!
//! Owns the directory format (docs/log-format.md, "A session"). Each session has one directory,
//! `<started>-<session id>.part` while it is written and `<started>-<session id>` when it is finished, where
//! `<started>` is in milliseconds since 1970. In it are the logs, and in a directory for each further recipient
//! the same again. Directories are 0700, files 0600. A finished directory never changes again. The writer of a
//! `.part` directory holds a lock (flock) on its `events.log`; one without a lock was left by a crash. While a directory is made, up to
//! the lock on its `events.log`, its writer holds a shared lock on the spool directory, and who closes a
//! leftover an exclusive one: a gateway that takes over closes nothing that the other one has just begun.
//!
//! Deliberately absent: what the files hold (see [`super`]), and when anything is deleted.

mod leftovers;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use portreeve_core::command::InputRules;
use portreeve_core::config::daemon::SpoolConfig;
use portreeve_core::id::SessionId;
use portreeve_core::manifest::{Ended, Manifest};
use portreeve_core::utc::UtcTime;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{SetOnce, watch};
use tracing::warn;

use super::budget::Budget;
use super::error::RecordingError;
use super::ledger::{self, Ledger};
use super::recipient::Recipients;
use super::session_files::{SessionFiles, Terms};
use super::space::Space;
use super::sync::Durability;
use crate::audit::{AuditChain, Closing};
use crate::metrics::{ActiveSession, Metrics};
use leftovers::close_leftovers;

/// How often the free space is looked up for its metric.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Ends the name of a session directory that is still written.
const PART: &str = "part";

/// Name of the events file in a session directory.
pub const EVENTS_FILE: &str = "events.log";

/// An open spool; cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool {
    root: Arc<Path>,
    config: Arc<SpoolConfig>,
    durability: Durability,
    space: Arc<Space>,
    budget: Arc<Budget>,
    metrics: Metrics,
    chain: Arc<AuditChain>,
    closed_leftovers: usize,
    /// Each session directory that is still written holds a receiver.
    writing: watch::Sender<()>,
    input: Arc<InputRules>,
}

/// Why a spool cannot be used.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// The directory is not there and cannot be made.
    #[error("cannot create the spool directory {}", path.display())]
    Create {
        /// The spool directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory cannot be listed.
    #[error("cannot read the spool directory {}", path.display())]
    Read {
        /// The spool directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing can be created in the directory.
    #[error("cannot write to the spool directory {}", path.display())]
    NotWritable {
        /// The spool directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Spool {
    /// Opens the spool at `dir`, creating it (0700) where it is missing, and closes what a crash left:
    /// half-written blocks are cut off, and the directories get a manifest and their final name. `chain` signs
    /// the manifests. Blocks the thread.
    ///
    /// # Errors
    /// [`SpoolError`]. A leftover that cannot be closed is no error: it is logged and stays.
    pub fn open_signed(dir: &Path, chain: Arc<AuditChain>) -> Result<Self, SpoolError> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        created.map_err(|source| SpoolError::Create { path: dir.into(), source })?;
        check_writable(dir).map_err(|source| SpoolError::NotWritable { path: dir.into(), source })?;
        let unreadable = |source| SpoolError::Read { path: dir.into(), source };
        let config = SpoolConfig::default();
        let durability = Durability::new(dir, config.fsync).map_err(unreadable)?;
        let closed_leftovers = close_leftovers(dir, &chain).map_err(unreadable)?;
        Ok(Self {
            root: dir.into(),
            space: Arc::new(Space::new(dir, config.reserve, Metrics::default())),
            budget: Arc::new(Budget::new(config.memory)),
            config: Arc::new(config),
            durability,
            metrics: Metrics::default(),
            input: Arc::default(),
            chain,
            closed_leftovers,
            writing: watch::Sender::default(),
        })
    }

    /// Opens a spool whose manifests a key of the tests signs.
    #[cfg(test)]
    pub(crate) fn open(dir: &Path) -> Result<Self, SpoolError> {
        let state_dir = std::env::temp_dir().join(format!("portreeve-test-audit-{}", std::process::id()));
        Self::open_signed(dir, Arc::new(AuditChain::open(&state_dir).expect("a chain for tests")))
    }

    /// The same spool, written to as `config` says and counted in `metrics`.
    #[must_use]
    pub fn with(self, config: SpoolConfig, metrics: Metrics) -> Self {
        let space = Arc::new(Space::new(&self.root, config.reserve, metrics.clone()));
        let durability = self.durability.of(config.fsync);
        let budget = Arc::new(Budget::new(config.memory));
        Self { durability, space, budget, metrics, config: Arc::new(config), ..self }
    }

    /// Keeps the metric of its free space true; never returns.
    pub async fn watch_space(self) {
        loop {
            let space = Arc::clone(&self.space);
            // A look that fails is seen by who writes.
            tokio::task::spawn_blocking(move || space.free()).await.ok();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The same spool, which keeps of input what `rules` say.
    #[must_use]
    pub fn keeping(self, rules: InputRules) -> Self {
        Self { input: Arc::new(rules), ..self }
    }

    pub(super) const fn input(&self) -> &Arc<InputRules> {
        &self.input
    }

    /// What the logs of a session in `directory` have in common.
    pub(super) fn session_files(&self, directory: &Path, started: UtcTime, terms: Terms) -> SessionFiles {
        SessionFiles {
            directory: directory.into(),
            terms,
            started,
            config: Arc::clone(&self.config),
            durability: self.durability.clone(),
            space: Arc::clone(&self.space),
            budget: Arc::clone(&self.budget),
            metrics: self.metrics.clone(),
            has_gap: AtomicBool::new(false),
            ledger: Ledger::default(),
        }
    }

    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    /// The spool directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keeps other processes from taking a session directory that is being made for a leftover, as long
    /// as the handle lives. Blocks the thread while one is closed.
    pub(super) fn creating(&self) -> Result<File, CreateError> {
        let lock = || File::open(&self.root).and_then(|root| root.lock_shared().map(|()| root));
        lock().map_err(|source| CreateError { path: self.root.to_path_buf(), source })
    }

    /// Session directories that a crash had left and that were closed by [`Spool::open_signed`].
    pub const fn closed_leftovers(&self) -> usize {
        self.closed_leftovers
    }

    /// Waits until all recordings are closed, those whose session is gone too, for `limit` at the longest;
    /// returns how many are left.
    pub async fn closed(&self, limit: Duration) -> usize {
        match tokio::time::timeout(limit, self.writing.closed()).await {
            Ok(()) => 0,
            Err(_) => self.writing.receiver_count(),
        }
    }
}

/// The directory of a session that is being written. Removed when dropped, unless it was kept.
#[derive(Debug)]
pub(super) struct SessionDirectory {
    part: PathBuf,
    kept: bool,
    /// Shared with what gives it its final name.
    writing: Arc<Writing>,
}

/// That a directory is being written: the spool waits for it, and other processes leave it alone.
#[derive(Debug)]
struct Writing {
    _spool: watch::Receiver<()>,
    _counted: ActiveSession,
    durability: Durability,
    chain: Arc<AuditChain>,
    /// Closing it has begun; that happens once.
    closing: AtomicBool,
    closed: SetOnce<Result<(), RecordingError>>,
    /// The locked events file.
    lock: OnceLock<File>,
}

impl SessionDirectory {
    /// Creates the directory of a new session, with one in it for each further recipient.
    pub(super) fn create(
        spool: &Spool,
        session: SessionId,
        started: UtcTime,
        recipients: &Recipients,
    ) -> Result<Self, CreateError> {
        let part = spool.root.join(format!("{}-{session}.{PART}", started.unix_millis()));
        let create = |path: PathBuf| match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(CreateError { path, source }),
        };
        let part = create(part)?;
        let writing = Writing {
            _spool: spool.writing.subscribe(),
            _counted: spool.metrics.recording_begins(),
            durability: spool.durability.clone(),
            chain: Arc::clone(&spool.chain),
            closing: AtomicBool::new(false),
            closed: SetOnce::new(),
            lock: OnceLock::new(),
        };
        let directory = Self { part, kept: false, writing: Arc::new(writing) };
        for further in recipients.iter().skip(1) {
            create(directory.part.join(further.id()))?;
        }
        let changed = spool.durability.changed(&spool.root);
        changed.map_err(|source| CreateError { path: spool.root.to_path_buf(), source })?;
        Ok(directory)
    }

    /// Locks the events file, which is there by now, until the directory has its final name.
    pub(super) fn lock(&self) -> Result<(), CreateError> {
        let path = self.part.join(EVENTS_FILE);
        let locked =
            File::open(&path).and_then(|file| file.try_lock().map(|()| file).map_err(io::Error::from));
        // A directory is locked once.
        locked
            .map(|file| self.writing.lock.set(file).unwrap_or_default())
            .map_err(|source| CreateError { path, source })
    }

    /// The path while it is written.
    pub(super) fn path(&self) -> &Path {
        &self.part
    }

    /// From now on it stays, whatever happens.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    /// Signs its manifest and gives it its final name; another process that starts just now may have done so.
    /// Until that is done, or given up, the spool waits for it. It happens once, and goes on if the caller
    /// goes away.
    pub(super) fn finish(
        &self,
        files: Arc<SessionFiles>,
        ended: Ended,
    ) -> impl Future<Output = Result<(), RecordingError>> + Send + 'static {
        let (part, writing) = (self.part.clone(), Arc::clone(&self.writing));
        async move {
            if !writing.closing.swap(true, Ordering::AcqRel) {
                let writing = Arc::clone(&writing);
                tokio::spawn(async move {
                    let closed = writing.close(part, files, ended).await;
                    // It is set here only.
                    writing.closed.set(closed).ok();
                });
            }
            writing.closed.wait().await.clone()
        }
    }
}

impl Writing {
    async fn close(
        &self,
        part: PathBuf,
        files: Arc<SessionFiles>,
        ended: Ended,
    ) -> Result<(), RecordingError> {
        let started = files.started;
        let stopped = RecordingError::WriterStopped { path: part.clone() };
        let known = files.ledger.settled().await;
        let walked = tokio::task::spawn_blocking(move || match ledger::entries(known, &files.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_finished(&files.directory) => {
                Ok(None)
            }
            Err(error) => Err(RecordingError::read(&files.directory, error)),
            Ok(files) => Ok(Some(files)),
        });
        let Some(files) = walked.await.unwrap_or(Err(stopped.clone()))? else { return Ok(()) };
        let closing = Closing { part: part.clone(), started, closed: SystemTime::now().into(), ended, files };
        let signed = self.chain.close(closing).await;
        signed.map_err(|source| RecordingError::Manifest { path: part.clone(), source })?;
        let durability = self.durability.clone();
        let synced = tokio::task::spawn_blocking(move || {
            let root = part.parent().unwrap_or(&part);
            durability.changed(root).map_err(|error| RecordingError::write(root, error))
        });
        synced.await.unwrap_or(Err(stopped))
    }
}

impl Drop for SessionDirectory {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let part = std::mem::take(&mut self.part);
        let remove = move || {
            if let Err(error) = fs::remove_dir_all(&part) {
                warn!(path = %part.display(), %error, "cannot remove an unused session directory");
            }
        };
        // A worker of the async runtime must not wait for the disk.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Whether another process has closed it already.
fn is_finished(part: &Path) -> bool {
    part.with_extension("").join(Manifest::FILE).exists()
}

/// A session directory cannot be created.
#[derive(Debug)]
pub(super) struct CreateError {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

fn check_writable(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&probe)?;
    fs::remove_file(probe)
}

#[cfg(test)]
mod tests {
    use portreeve_core::envelope::RecipientPrivateKey;

    use super::*;

    fn session() -> SessionId {
        SessionId::from_random_bytes([3; 16])
    }

    fn create(spool: &Spool, started: UtcTime) -> SessionDirectory {
        let recipients = RecipientPrivateKey::from_bytes([7; 32]).recipient_key().into();
        SessionDirectory::create(spool, session(), started, &recipients).unwrap()
    }

    async fn finish(spool: &Spool, directory: &SessionDirectory) -> Result<(), RecordingError> {
        let recipients: Recipients = RecipientPrivateKey::from_bytes([7; 32]).recipient_key().into();
        let started = UtcTime::from_unix_seconds(0);
        let files = spool.session_files(directory.path(), started, recipients.into());
        directory.finish(Arc::new(files), Ended::Finished).await
    }

    fn events_file(directory: &SessionDirectory) -> PathBuf {
        directory.path().join(EVENTS_FILE)
    }

    #[test]
    fn creates_a_private_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("a/spool");
        let spool = Spool::open(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(spool.root()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_its_place_is_an_error_that_names_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("spool");
        fs::write(&path, "x").unwrap();
        let error = Spool::open(&path).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }

    #[tokio::test]
    async fn name_tells_start_and_session() {
        let scratch = tempfile::tempdir().unwrap();
        let spool = Spool::open(scratch.path()).unwrap();
        let started = UtcTime::from_unix_seconds(1_700_000_000);
        let mut directory = create(&spool, started);
        directory.keep();
        let name = format!("1700000000000-{}", session());
        assert_eq!(directory.path(), scratch.path().join(format!("{name}.part")));
        finish(&spool, &directory).await.unwrap();
        assert!(scratch.path().join(name).is_dir());
    }

    #[test]
    fn unused_directory_goes_away() {
        let scratch = tempfile::tempdir().unwrap();
        let spool = Spool::open(scratch.path()).unwrap();
        let directory = create(&spool, UtcTime::from_unix_seconds(0));
        fs::write(events_file(&directory), "x").unwrap();
        drop(directory);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn leftovers_are_cut_and_renamed_and_bad_ones_do_not_stop_the_others() {
        let scratch = tempfile::tempdir().unwrap();
        let (whole, empty, bad) = (
            scratch.path().join("1-a.part"),
            scratch.path().join("2-b.part"),
            scratch.path().join("3-c.part"),
        );
        for dir in [&whole, &empty, &bad] {
            fs::create_dir(dir).unwrap();
        }
        // A header of 2 bytes, a block of 3, and the start of another.
        fs::write(whole.join("channel-0.log"), b"\0\0\0\x02{}\0\0\0\x03abc\0\0\0\x09ab").unwrap();
        fs::write(whole.join(EVENTS_FILE), b"\0\0\0\x02{").unwrap();
        fs::create_dir(bad.join("directory")).unwrap();
        let spool = Spool::open(scratch.path()).unwrap();
        assert_eq!(spool.closed_leftovers(), 2);
        let kept = fs::read(scratch.path().join("1-a/channel-0.log")).unwrap();
        assert_eq!(kept, b"\0\0\0\x02{}\0\0\0\x03abc");
        assert!(!scratch.path().join("1-a").join(EVENTS_FILE).exists());
        assert!(!empty.exists() && !scratch.path().join("2-b").exists());
        assert!(bad.exists());
    }

    #[test]
    fn a_directory_in_use_is_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let part = scratch.path().join("1-a.part");
        fs::create_dir(&part).unwrap();
        let events = File::create(part.join(EVENTS_FILE)).unwrap();
        events.try_lock().unwrap();
        assert_eq!(Spool::open(scratch.path()).unwrap().closed_leftovers(), 0);
        assert!(part.exists());
        drop(events);
        assert_eq!(Spool::open(scratch.path()).unwrap().closed_leftovers(), 1);
    }

    #[tokio::test]
    async fn a_directory_that_is_being_made_is_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let spool = Spool::open(scratch.path()).unwrap();
        let creating = spool.creating().unwrap();
        let directory = create(&spool, UtcTime::from_unix_seconds(0));
        let other = scratch.path().to_owned();
        let other = std::thread::spawn(move || Spool::open(&other).unwrap().closed_leftovers());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(directory.path().exists() && !other.is_finished(), "it was taken for a leftover");
        let events = File::create(events_file(&directory)).unwrap();
        events.try_lock().unwrap();
        drop(creating);
        assert_eq!(other.join().unwrap(), 0);
        assert!(directory.path().exists());
    }

    #[tokio::test]
    async fn a_directory_that_another_process_finished_is_finished() {
        let scratch = tempfile::tempdir().unwrap();
        let spool = Spool::open(scratch.path()).unwrap();
        let mut directory = create(&spool, UtcTime::from_unix_seconds(0));
        directory.keep();
        fs::write(events_file(&directory), b"\0\0\0\x02{}").unwrap();
        assert_eq!(Spool::open(scratch.path()).unwrap().closed_leftovers(), 1);
        finish(&spool, &directory).await.unwrap();
        assert!(finish(&spool, &directory).await.is_ok() && !directory.path().exists());
    }
}
