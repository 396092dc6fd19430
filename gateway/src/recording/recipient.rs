//! The recipients' public keys, from the files that the configuration names.
//!
//! Invariant: what is in force was read whole. A file that cannot be read later leaves the keys as they were.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use portreeve_core::envelope::RecipientKey;
use thiserror::Error;

/// To whom recordings are sealed, the first one first; never empty, each key once. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipients(Arc<[RecipientKey]>);

/// The recipients of new sessions, from files that may change.
#[derive(Debug)]
pub struct RecipientKeys {
    files: Vec<PathBuf>,
    in_force: RwLock<Recipients>,
}

/// Why there is no recipient key.
#[derive(Debug, Error)]
pub enum RecipientFileError {
    /// The file cannot be read.
    #[error("cannot read the recipient key {path}: make a pair with `portreeve logs generate-key-pair`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} holds no recipient key: it must be the .pub file of `portreeve logs generate-key-pair`")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: portreeve_core::envelope::RecipientKeyError,
    },
    /// Another file holds the same key.
    #[error("{path} holds the same recipient key as another file: take one out")]
    Twice {
        /// The file.
        path: PathBuf,
    },
    /// No file is named.
    #[error("no file of a recipient key is named")]
    None,
}

impl Recipients {
    /// Reads each file: 44 characters of base64, white space around them ignored.
    ///
    /// # Errors
    /// [`RecipientFileError`], which names the file.
    pub fn load(files: &[PathBuf]) -> Result<Self, RecipientFileError> {
        let mut keys: Vec<RecipientKey> = Vec::new();
        for path in files {
            let key = load(path)?;
            if keys.contains(&key) {
                return Err(RecipientFileError::Twice { path: path.clone() });
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(RecipientFileError::None) } else { Ok(Self(keys.into())) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &RecipientKey> {
        self.0.iter()
    }
}

impl From<RecipientKey> for Recipients {
    fn from(key: RecipientKey) -> Self {
        Self([key].into())
    }
}

impl RecipientKeys {
    /// Reads the files.
    ///
    /// # Errors
    /// [`RecipientFileError`].
    pub fn open(files: &[PathBuf]) -> Result<Self, RecipientFileError> {
        Ok(Self { files: files.into(), in_force: RwLock::new(Recipients::load(files)?) })
    }

    /// To whom a new session is sealed.
    pub fn current(&self) -> Recipients {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again; new sessions are sealed to what is in them. The new recipients, if they are others.
    ///
    /// # Errors
    /// [`RecipientFileError`]; the old keys stay in force.
    pub fn reload(&self) -> Result<Option<Recipients>, RecipientFileError> {
        let read = Recipients::load(&self.files)?;
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        if *in_force == read {
            return Ok(None);
        }
        in_force.clone_from(&read);
        Ok(Some(read))
    }
}

impl std::fmt::Display for Recipients {
    /// The ids of the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<String> = self.iter().map(RecipientKey::id).collect();
        f.write_str(&ids.join(" "))
    }
}

fn load(path: &Path) -> Result<RecipientKey, RecipientFileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| RecipientFileError::Read { path: path.to_owned(), source })?;
    text.trim().parse().map_err(|source| RecipientFileError::Malformed { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use portreeve_core::envelope::RecipientPrivateKey;

    use super::*;

    #[test]
    fn changed_files_are_in_force_as_a_whole_or_not_at_all() {
        let scratch = tempfile::tempdir().unwrap();
        let files = ["a.pub", "b.pub"].map(|name| scratch.path().join(name));
        let key = |byte| RecipientPrivateKey::from_bytes([byte; 32]).recipient_key();
        let write = |index: usize, text: String| fs::write(&files[index], text).unwrap();
        write(0, key(1).to_string());
        write(1, format!(" {}\n", key(2)));
        let keys = RecipientKeys::open(&files).unwrap();
        assert_eq!(keys.current().iter().copied().collect::<Vec<_>>(), [key(1), key(2)]);
        assert_eq!(keys.reload().unwrap(), None);

        write(0, key(3).to_string());
        let low_order = format!("{}=", "A".repeat(43));
        for (bad, told) in
            [("x".to_owned(), "holds no"), (low_order, "holds no"), (key(3).to_string(), "same")]
        {
            write(1, bad);
            let error = keys.reload().unwrap_err().to_string();
            assert!(error.contains("b.pub") && error.contains(told), "{error}");
        }
        fs::remove_file(&files[1]).unwrap();
        assert!(matches!(keys.reload(), Err(RecipientFileError::Read { .. })));
        assert_eq!(keys.current().to_string(), format!("{} {}", key(1).id(), key(2).id()));

        write(1, key(4).to_string());
        assert_eq!(keys.reload().unwrap().unwrap(), keys.current());
        assert_eq!(keys.current().to_string(), format!("{} {}", key(3).id(), key(4).id()));
    }
}
