//! What the manifest of a session says of its files.
//!
//! A file is walked over once, when its segment is finished and still in the kernel's memory: some 40 ms for
//! 64 MiB, in which the log goes on. What was not finished then, after a failure or a crash, is walked over when
//! the session is closed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use portreeve_core::envelope::SegmentName;
use portreeve_core::manifest::FileEntry;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::audit::scan_file;

/// Entries of files that are finished, by path.
pub(super) type Known = HashMap<PathBuf, FileEntry>;

/// Walks over the files that are finished. Dropping it gives up those that wait for a thread.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<JoinSet<Option<(PathBuf, FileEntry)>>>);

impl Ledger {
    /// Has a finished file of the session at `directory` walked over, on a thread for such.
    pub(super) fn add(&self, directory: &Path, path: &Path) {
        // Without a runtime, as in tests, it is done when the session is closed.
        let Ok(runtime) = Handle::try_current() else { return };
        let (directory, path) = (directory.to_owned(), path.to_owned());
        // One that cannot be read now is tried again when the session is closed, which fails then.
        let walk = move || entry(&directory, &path).ok().map(|entry| (path, entry));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn_blocking_on(walk, &runtime);
    }

    /// What is known when all that was added is walked over.
    pub(super) async fn settled(&self) -> Known {
        let mut walks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut known = Known::new();
        while let Some(walked) = walks.join_next().await {
            known.extend(walked.ok().flatten());
        }
        known
    }
}

/// The entries of all files of the session at `directory`; blocks the thread.
///
/// # Errors
/// Those of listing them, and of reading those that are not known yet.
pub(super) fn entries(mut known: Known, directory: &Path) -> io::Result<Vec<FileEntry>> {
    let paths = paths(directory)?.into_iter();
    paths.map(|path| known.remove(&path).map_or_else(|| entry(directory, &path), Ok)).collect()
}

/// Every file of a recording in the directory and in those of further recipients.
fn paths(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            for inner in fs::read_dir(entry.path())? {
                paths.push(inner?.path());
            }
        } else {
            paths.push(entry.path());
        }
    }
    paths.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.parse::<SegmentName>().is_ok())
    });
    Ok(paths)
}

fn entry(directory: &Path, path: &Path) -> io::Result<FileEntry> {
    let below = path.strip_prefix(directory).unwrap_or(path).to_string_lossy().into_owned();
    Ok(FileEntry::new(below, &scan_file(&mut File::open(path)?)?))
}
