//! The policy in force: loaded from the policy file, published as immutable snapshots.
//!
//! Invariant: what is published was valid as a whole. A file with an error changes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use portreeve_core::config::policy::{self, LoadedPolicy};
use portreeve_core::config::{ConfigErrors, Format};
use portreeve_core::id::Generation;
use portreeve_core::snapshot::PolicySnapshot;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use crate::fips;

/// Quiet time after a change before the file is read, so that a file that is being written is not
/// read half.
const SETTLE: Duration = Duration::from_millis(250);
/// Longest wait for quiet: other files of the directory may change all the time.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// Why a policy file was not loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read the policy file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It has errors.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
    /// It asks a FIPS build for what no FIPS build has.
    #[error("{path}: the target {hostname:?} says `legacy = true`: legacy is not possible in a FIPS build")]
    LegacyInFipsBuild {
        /// The file.
        path: PathBuf,
        /// The first such target.
        hostname: String,
    },
}

/// The policy file cannot be watched.
#[derive(Debug, Error)]
#[error("cannot watch {path} for changes")]
pub struct WatchError {
    path: PathBuf,
    source: notify::Error,
}

/// Publishes snapshots.
#[derive(Debug)]
pub struct PolicyStore {
    current: watch::Sender<Arc<PolicySnapshot>>,
}

/// Tells when the contents of the policy file have changed.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    /// What the file held when it was last looked at; `None` when it could not be read.
    seen: Option<String>,
    touched: mpsc::Receiver<()>,
    /// Stops watching when dropped.
    _watcher: notify::RecommendedWatcher,
}

/// Reads and checks a policy file; `.json` is read as JSON, anything else as TOML.
///
/// # Errors
/// [`LoadError`] with every problem of the file.
pub fn load(path: &Path, generation: Generation) -> Result<LoadedPolicy, LoadError> {
    let text =
        fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let name = path.to_string_lossy();
    let loaded = policy::load(&text, Format::of_file(&name), &name, generation)?;
    if fips::BUILD {
        refuse_legacy(path, &loaded.snapshot)?;
    }
    Ok(loaded)
}

/// A FIPS build would not open what the author of the policy relies on.
fn refuse_legacy(path: &Path, policy: &PolicySnapshot) -> Result<(), LoadError> {
    match policy.infrastructure.targets().iter().find(|target| target.legacy) {
        None => Ok(()),
        Some(target) => Err(LoadError::LegacyInFipsBuild {
            path: path.to_owned(),
            hostname: target.hostname.as_str().to_owned(),
        }),
    }
}

impl PolicyStore {
    /// Starts with a first snapshot.
    pub fn new(first: PolicySnapshot) -> Self {
        Self { current: watch::Sender::new(Arc::new(first)) }
    }

    /// The snapshot in force.
    pub fn current(&self) -> Arc<PolicySnapshot> {
        Arc::clone(&self.current.borrow())
    }

    /// Follows the snapshot in force.
    pub fn follow(&self) -> watch::Receiver<Arc<PolicySnapshot>> {
        self.current.subscribe()
    }

    /// Puts a snapshot in force.
    pub fn publish(&self, snapshot: PolicySnapshot) -> Arc<PolicySnapshot> {
        let snapshot = Arc::new(snapshot);
        self.current.send_replace(Arc::clone(&snapshot));
        snapshot
    }
}

impl FileWatch {
    /// Watches the directory of `path`, so that a file that is replaced by a rename is seen too.
    ///
    /// # Errors
    /// [`WatchError`] when the directory cannot be watched.
    pub fn new(path: &Path) -> Result<Self, WatchError> {
        let (sender, touched) = mpsc::channel(1);
        let failed = |source| WatchError { path: path.to_owned(), source };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| !event.kind.is_access()) {
                // A full queue already says that there was a change.
                sender.try_send(()).ok();
            }
        })
        .map_err(failed)?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        watcher.watch(directory, RecursiveMode::NonRecursive).map_err(failed)?;
        let seen = fs::read_to_string(path).ok();
        Ok(Self { path: path.to_owned(), seen, touched, _watcher: watcher })
    }

    /// Reports each change on `changes`, once the file was quiet for a quarter of a second or after
    /// one second of changes; never returns.
    ///
    /// To be run as a task of its own: a change that is waited out would be forgotten if this future
    /// were dropped.
    pub async fn report(mut self, changes: mpsc::Sender<()>) {
        while self.touched.recv().await.is_some() {
            let quiet =
                async { while let Ok(Some(())) = tokio::time::timeout(SETTLE, self.touched.recv()).await {} };
            // Quiet or not, the file is looked at now.
            tokio::time::timeout(SETTLE_LIMIT, quiet).await.ok();
            let now = fs::read_to_string(&self.path).ok();
            if now != self.seen {
                self.seen = now;
                // A full queue already asks for a reload of what is on disk.
                changes.try_send(()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fips_build_refuses_a_policy_with_a_legacy_target() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        let text = "[[targets]]\nhostname = \"pdu\"\nip.ipv4.ip_addr = \"10.0.0.1\"\n";
        fs::write(&path, text).unwrap();
        let modern = load(&path, Generation(1)).unwrap();
        assert!(refuse_legacy(&path, &modern.snapshot).is_ok());
        let text = format!("{text}legacy = true\n");
        fs::write(&path, &text).unwrap();
        assert_eq!(load(&path, Generation(1)).is_err(), fips::BUILD);
        let loaded = policy::load(&text, Format::Toml, "policy.toml", Generation(1)).unwrap();
        let told = refuse_legacy(&path, &loaded.snapshot).unwrap_err().to_string();
        assert_eq!(
            told.strip_prefix(path.to_str().unwrap()).unwrap(),
            ": the target \"pdu\" says `legacy = true`: legacy is not possible in a FIPS build"
        );
    }

    #[tokio::test]
    async fn a_rename_over_the_file_is_a_change_and_a_neighbour_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        fs::write(&path, "old").unwrap();
        let (sender, mut changes) = mpsc::channel(1);
        let task = tokio::spawn(FileWatch::new(&path).unwrap().report(sender));

        fs::write(dir.path().join("neighbour"), "x").unwrap();
        fs::write(&path, "old").unwrap();
        let unchanged = tokio::time::timeout(Duration::from_millis(1500), changes.recv()).await;
        assert!(unchanged.is_err(), "the same contents are no change");

        let new = dir.path().join("policy.toml.new");
        fs::write(&new, "new").unwrap();
        fs::rename(&new, &path).unwrap();
        tokio::time::timeout(Duration::from_secs(5), changes.recv()).await.unwrap().unwrap();
        task.abort();
    }

    #[tokio::test]
    async fn a_change_that_nobody_waited_for_yet_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        fs::write(&path, "old").unwrap();
        let watch = FileWatch::new(&path).unwrap();
        fs::write(&path, "new").unwrap();
        tokio::time::sleep(SETTLE).await;
        let (sender, mut changes) = mpsc::channel(1);
        let task = tokio::spawn(watch.report(sender));
        tokio::time::timeout(Duration::from_secs(5), changes.recv()).await.unwrap().unwrap();
        task.abort();
    }
}
