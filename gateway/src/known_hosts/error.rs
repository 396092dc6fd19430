//! Why pinned host keys cannot be used.

use std::io;
use std::path::PathBuf;

use portreeve_core::net::OriginalDst;
use thiserror::Error;

/// Why pinned host keys cannot be used.
#[derive(Debug, Error)]
pub enum KnownHostsError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may write here, so a pin proves nothing.
    #[error("{} can be written by others; run: chmod 0700 {}", path.display(), path.display())]
    WritableByOthers {
        /// The directory.
        path: PathBuf,
    },
    /// A line is no OpenSSH public key.
    #[error("{} line {line} is no OpenSSH public key", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: ssh_key::Error,
    },
    /// A file without a key.
    #[error("{} holds no host key; restore it, or remove it to pin again", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file whose name is no address and port.
    #[error("{} is not named after an address and port", path.display())]
    BadName {
        /// The file.
        path: PathBuf,
    },
    /// Another connection pinned another key of this target in the meantime.
    #[error("another host key of {dst} was pinned first ({})", pinned.join(", "))]
    PinnedOtherwise {
        /// The target.
        dst: OriginalDst,
        /// Fingerprints of what is pinned.
        pinned: Vec<String>,
    },
    /// The key cannot be written in OpenSSH's format.
    #[error("the host key of {dst} has no OpenSSH text form")]
    Unwritable {
        /// The target.
        dst: OriginalDst,
        /// Why.
        source: ssh_key::Error,
    },
}
