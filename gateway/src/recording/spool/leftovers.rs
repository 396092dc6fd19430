//! Closing what a crash left in the spool.
//!
//! Owns what becomes of a `.part` directory that nobody writes: the half-written block at the end of each file is cut
//! off, a file without a whole header holds nothing and is removed, and the directory gets its final name. A
//! directory that holds anything unknown stays as it is.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use portreeve_core::envelope::{SegmentName, whole_blocks};
use tracing::warn;

use super::{EVENTS_FILE, PART};

/// Closes all of them; how many there were. One that cannot be closed is logged and stays.
///
/// # Errors
/// Those of listing and locking the spool.
pub(super) fn close_leftovers(root: &Path) -> io::Result<usize> {
    let lock = File::open(root)?;
    let mut closed = 0;
    for entry in fs::read_dir(root)? {
        let part = entry?.path();
        if part.extension().is_none_or(|extension| extension != PART) {
            continue;
        }
        // For each alone: who makes a directory waits no longer than that.
        lock.lock()?;
        let leftover = close_leftover(&part);
        lock.unlock()?;
        match leftover {
            Ok(Leftover::Closed) => closed += 1,
            Ok(Leftover::InUse) => {}
            Err(error) => warn!(path = %part.display(), %error, "cannot close a recording left by a crash"),
        }
    }
    Ok(closed)
}

/// Characters of a key's id.
const KEY_ID: usize = 16;

enum Leftover {
    Closed,
    InUse,
}

fn close_leftover(part: &Path) -> io::Result<Leftover> {
    let _lock = match File::open(part.join(EVENTS_FILE)) {
        Ok(events) => match events.try_lock() {
            Ok(()) => Some(events),
            Err(TryLockError::WouldBlock) => return Ok(Leftover::InUse),
            Err(TryLockError::Error(error)) => return Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let sets = further_sets(part)?;
    let mut files = 0;
    for set in sets.iter().map(PathBuf::as_path).chain([part]) {
        files += close_files(set)?;
    }
    if files == 0 {
        for set in &sets {
            fs::remove_dir(set)?;
        }
        fs::remove_dir(part)?;
    } else {
        fs::rename(part, part.with_extension(""))?;
    }
    Ok(Leftover::Closed)
}

/// The directories of further recipients, named by the ids of their keys.
fn further_sets(part: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sets = Vec::new();
    for entry in fs::read_dir(part)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && is_key_id(&entry.file_name()) {
            sets.push(entry.path());
        }
    }
    Ok(sets)
}

fn is_key_id(name: &OsStr) -> bool {
    name.len() == KEY_ID && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit)
}

/// Closes the files of one recipient; how many hold anything.
fn close_files(set: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(set)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if name.to_str().is_some_and(|name| name.parse::<SegmentName>().is_ok()) {
            files += usize::from(cut_to_whole_blocks(&path)?);
        } else if !is_key_id(name) {
            let error = format!("{} is not of a recording", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
    Ok(files)
}

/// Cuts off a half-written block; a file without a whole header holds nothing and is removed.
fn cut_to_whole_blocks(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let size = file.metadata()?.len();
    let end = whole_blocks(size, |offset| {
        let mut length = [0; 4];
        file.read_exact_at(&mut length, offset).map(|()| u32::from_be_bytes(length))
    })?;
    match end {
        Some(end) if end < size => file.set_len(end).map(|()| true),
        Some(_) => Ok(true),
        None => fs::remove_file(path).map(|()| false),
    }
}
