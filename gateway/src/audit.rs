//! The proof of the record on this gateway: its audit key, and its chain of signed manifests.
//!
//! Owns `STATE/audit_key` and `STATE/audit_chain/`, and what is signed with the key: manifests of
//! sessions, heads of the chain, successions of keys, deletions after shipping. What these say and how
//! they are checked is [`portreeve_core::manifest`]'s.
//!
//! Invariants: each number of the chain is given once and to one manifest, whatever process gives it and
//! wherever it is killed: who gives one holds a lock (flock) on `STATE/audit_chain/lock`, and a number is
//! given when the journal has it on disk. The private key is read from its file for each use, so that
//! another key is used from the moment that it is there.
//!
//! Deliberately absent: what is in a session's directory (the recording says it), and shipping.

mod chain;
mod deletions;
mod files;
mod heads;
mod journal;
mod keys;
mod scan;

use std::io;
use std::path::PathBuf;

use portreeve_core::manifest::{AuditKeyError, DocumentError};
use thiserror::Error;

pub use chain::{AuditChain, Closing, discard_uncounted};
pub use keys::{is_made, public_keys, rotate};
pub use scan::scan_file;

use crate::secret_file::SecretFileError;

/// Why something cannot be signed, or the chain not be used.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The key's file cannot be read or written, or is exposed.
    #[error(transparent)]
    KeyFile(#[from] SecretFileError),
    /// The key's file holds something else.
    #[error("{} holds no audit key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        source: AuditKeyError,
    },
    /// There is a chain, and no key to go on with.
    #[error("{} is missing, but there is a chain that it signed: put it back, or move {} away to begin another chain", key.display(), chain.display())]
    KeyMissing {
        /// The file of the key.
        key: PathBuf,
        /// The directory of the chain.
        chain: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The journal holds something else than a journal.
    #[error("{} was altered or damaged in line {line}: move its directory away to begin another chain", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A document cannot be made, or is none.
    #[error("{}: it is no document of this gateway", path.display())]
    Document {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: DocumentError,
    },
    /// The numbers of the chain are used up.
    #[error("the chain has no number left")]
    Exhausted,
}

#[cfg(test)]
mod tests;
