//! What the manifest of a session says of its files.
//!
//! A file is walked over once, after its segment is finished: while the session runs by the [`Walker`], as far as the
//! processors have time for that, and else when the session is closed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use portreeve_core::envelope::SegmentName;
use portreeve_core::manifest::{FileEntry, FileFacts};

use super::walker::{Walk, Walker};
use crate::audit::scan_file;

/// What is known of files that are finished, by path.
pub(super) type Known = HashMap<PathBuf, FileFacts>;

/// Files that are finished. Dropping it gives up those that were not walked over yet.
#[derive(Debug)]
pub(super) struct Ledger {
    walker: Walker,
    walks: Mutex<Vec<(PathBuf, Walk)>>,
}

impl Ledger {
    /// An empty one.
    pub(super) fn new(walker: Walker) -> Self {
        Self { walker, walks: Mutex::default() }
    }

    /// Enters a finished file.
    pub(super) fn add(&self, path: &Path) {
        let walk = self.walker.walk(path);
        self.walks.lock().unwrap_or_else(PoisonError::into_inner).push((path.into(), walk));
    }

    /// What is known so far; nothing more will be.
    pub(super) fn known(&self) -> Known {
        let walks = std::mem::take(&mut *self.walks.lock().unwrap_or_else(PoisonError::into_inner));
        walks.into_iter().filter_map(|(path, walk)| Some((path, walk.get()?.clone()))).collect()
    }
}

/// The entries of all files of the session at `directory`; blocks the thread.
///
/// # Errors
/// Those of listing them, and of reading those that are not known yet.
pub(super) fn entries(mut known: Known, directory: &Path) -> io::Result<Vec<FileEntry>> {
    let entry = |path: PathBuf| {
        let facts = known.remove(&path).map_or_else(|| scan_file(&mut File::open(&path)?), Ok)?;
        let below = path.strip_prefix(directory).unwrap_or(&path).to_string_lossy().into_owned();
        Ok(FileEntry::new(below, &facts))
    };
    paths(directory)?.into_iter().map(entry).collect()
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
