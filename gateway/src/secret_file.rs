//! Files that hold secrets: private, or refused.
//!
//! Invariant: a secret is read only from a regular file that nobody but its owner can read, and
//! written only to a file that did not exist before, or in place of one in a single step.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

/// Longest secret file, in bytes; keys are far smaller.
const MAX_SIZE: u64 = 64 * 1024;

/// Why a secret was not read or written.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// The file can be read by others.
    #[error("{path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is something else than a small regular file.
    #[error("{path} is no secret of this gateway: it must be a regular file of at most 64 KiB")]
    NotASecret {
        /// The file.
        path: PathBuf,
    },
    /// The file to write exists.
    #[error("{path} exists already and is kept; move it away first if you mean to replace it")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Reads a secret.
///
/// # Errors
/// [`SecretFileError::Exposed`] when group or others have any permission on it.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let failed = |source| SecretFileError::Io { action: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_SIZE {
        return Err(SecretFileError::NotASecret { path: path.to_owned() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_SIZE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Writes a secret to a new file of mode 0600, and syncs it and its name.
///
/// # Errors
/// [`SecretFileError::Exists`] when there is a file already; it is not touched. After any other error
/// there is none.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), SecretFileError> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            SecretFileError::Exists { path: path.to_owned() }
        } else {
            SecretFileError::Io { action: "write", path: path.to_owned(), source }
        }
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| sync_name(path));
    written.map_err(|error| {
        // Half a secret would stand in the way of the next try; that error comes first.
        std::fs::remove_file(path).ok();
        failed(error)
    })
}

/// Writes a secret as [`write_new`] does, in place of what is there, in one step.
///
/// # Errors
/// [`SecretFileError::Io`]; what was there stays then, or the new one is there and may not outlive a loss of power.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), SecretFileError> {
    let failed = |source| SecretFileError::Io { action: "replace", path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let next = path.with_file_name(name);
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        // What a cut has left, or nothing.
        Ok(()) | Err(_) => {}
    }
    write_new(&next, bytes)?;
    std::fs::rename(&next, path).and_then(|()| sync_name(path)).map_err(failed)
}

/// Has the directory of a file on the disk: without that a loss of power takes the file with its name.
fn sync_name(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_exposed_secret_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"secret").unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"secret");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let text = read(&path).unwrap_err().to_string();
        assert!(text.contains("(mode 0640)") && text.contains("chmod 600"), "{text}");
    }

    #[test]
    fn an_existing_secret_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"first").unwrap();
        assert!(matches!(write_new(&path, b"second"), Err(SecretFileError::Exists { .. })));
        assert_eq!(read(&path).unwrap().as_slice(), b"first");
        std::fs::write(dir.path().join("key.new"), "half a").unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"second");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
