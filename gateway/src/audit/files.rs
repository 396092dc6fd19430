//! Files that appear whole: written beside their place, synced, and renamed into it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::AuditError;

/// Ends the name of a file that is not whole yet.
const TEMPORARY: &str = ".tmp";

/// Tells files apart that one process writes at the same time.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Whether a file's bytes are on disk before it appears.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// They are, and its name is when this returns.
    Synced,
    /// The kernel writes them when it likes.
    Cached,
}

/// Writes a file of mode 0600, in place of what is there.
pub(super) fn replace(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{number}{TEMPORARY}", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        // The first error is the one to tell.
        drop(fs::remove_file(&temporary));
    })?;
    if durability == Durability::Synced { sync_parent(path) } else { Ok(()) }
}

/// Whether a file of this name was never whole.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(TEMPORARY.as_bytes())
}

/// Makes sure that the name of a file is on disk.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Makes a directory of mode 0700, with its parents, where it is missing.
pub(super) fn make_directory(path: &Path) -> Result<(), AuditError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| AuditError::Io { action: "create", path: path.into(), source })
}
