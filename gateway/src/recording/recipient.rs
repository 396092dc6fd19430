//! The recipient's public key, from the file that the configuration names.

use std::io;
use std::path::{Path, PathBuf};

use portreeve_core::envelope::RecipientKey;
use thiserror::Error;

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
}

/// Reads a recipient's public key: 44 characters of base64, white space around it ignored.
///
/// # Errors
/// [`RecipientFileError`], which names the file.
pub fn load(path: &Path) -> Result<RecipientKey, RecipientFileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| RecipientFileError::Read { path: path.to_owned(), source })?;
    text.trim().parse().map_err(|source| RecipientFileError::Malformed { path: path.to_owned(), source })
}
