//! Why something is not shipped.

use std::io;
use std::path::PathBuf;

use portreeve_core::shipping::{CredentialsError, Failure};
use thiserror::Error;

use crate::secret_file::SecretFileError;

/// Why a destination cannot be used at all.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// A file with credentials cannot be read, or can be read by others.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// A file with credentials is no text.
    #[error("{0} holds no credentials: it is no UTF-8 text")]
    Text(PathBuf),
    /// A file with credentials holds something else.
    #[error("{path} holds no credentials")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CredentialsError,
    },
    /// The file with certificates cannot be read.
    #[error("cannot read the certificates {path}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The library for object stores refuses what is configured.
    #[error("the destination cannot be used")]
    Store(#[source] Box<object_store::Error>),
    /// The operating system gives no threads.
    #[error("no threads can be had")]
    Threads(#[source] io::Error),
    /// The library for HTTP refuses what is configured.
    #[error("the destination cannot be used")]
    Http(#[source] reqwest::Error),
}

/// Why a session or head was not shipped.
#[derive(Debug, Error)]
pub enum ShipError {
    /// It cannot be read here.
    #[error("it cannot be read in the spool")]
    Unreadable(#[source] io::Error),
    /// The destination cannot be used at all.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The object store refused, or cannot be reached.
    #[error(transparent)]
    Store(Box<object_store::Error>),
    /// The HTTP server cannot be reached, or broke off.
    #[error(transparent)]
    Http(reqwest::Error),
    /// The HTTP server does not let this gateway in.
    #[error("the server answers with status {0}")]
    Refused(String),
    /// The directory refused.
    #[error("the directory refuses")]
    Directory(#[source] io::Error),
    /// The destination took a file and does not confirm it.
    #[error("{file} is not confirmed: the destination tells {found}")]
    NotConfirmed {
        /// The file.
        file: String,
        /// What it tells.
        found: String,
    },
    /// That it is confirmed cannot be written down.
    #[error("its state cannot be written")]
    State(#[source] io::Error),
}

impl From<object_store::Error> for ShipError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

impl ShipError {
    /// Whose fault it is.
    pub(super) const fn failure(&self) -> Failure {
        match self {
            Self::Unreadable(_) => Failure::Unreadable,
            Self::Connect(_)
            | Self::Store(_)
            | Self::Http(_)
            | Self::Refused(_)
            | Self::Directory(_)
            | Self::NotConfirmed { .. }
            | Self::State(_) => Failure::NotTaken,
        }
    }
}
