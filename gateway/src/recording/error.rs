//! Why a recording cannot start or go on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portreeve_core::envelope::{HeaderError, SealError};
use portreeve_core::record::ChannelNumber;
use thiserror::Error;

use crate::audit::AuditError;

/// Why a recording cannot start or go on. Whoever sees it must treat what follows as not recorded.
#[derive(Clone, Debug, Error)]
pub enum RecordingError {
    /// A file or directory cannot be created.
    #[error("cannot create {}", path.display())]
    Create {
        /// What was to be created.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// Too little space is left for sessions that may not use the reserve.
    #[error("{} has {} MiB free, {} MiB are kept in reserve", path.display(), free >> 20, reserve >> 20)]
    Reserve {
        /// The spool.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes kept.
        reserve: u64,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The session has no manifest: its directory keeps the name of one that is written.
    #[error("cannot sign the manifest of {}", path.display())]
    Manifest {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Arc<AuditError>,
    },
    /// Sealing failed.
    #[error("cannot seal {}", path.display())]
    Seal {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SealError,
    },
    /// The header cannot be made.
    #[error("cannot make the header of {}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<HeaderError>,
    },
    /// The event cannot be written as JSON.
    #[error("cannot write an event as JSON")]
    Event(#[source] Arc<serde_json::Error>),
    /// The channel was never opened, or is closed.
    #[error("channel {} is not open in the recording", .0.0)]
    UnknownChannel(ChannelNumber),
    /// The channel is open already.
    #[error("channel {} is opened twice in the recording", .0.0)]
    ChannelReused(ChannelNumber),
    /// The recording was finished.
    #[error("the recording is finished")]
    Finished,
    /// The writer of the file stopped before its time.
    #[error("the writer of {} stopped", path.display())]
    WriterStopped {
        /// The file.
        path: PathBuf,
    },
}

impl RecordingError {
    pub(super) fn create(path: &Path, source: io::Error) -> Self {
        Self::Create { path: path.into(), source: Arc::new(source) }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.into(), source: Arc::new(source) }
    }

    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.into(), source: Arc::new(source) }
    }

    pub(super) fn seal(path: &Path, source: SealError) -> Self {
        Self::Seal { path: path.into(), source }
    }

    pub(super) fn header(path: &Path, source: HeaderError) -> Self {
        Self::Header { path: path.into(), source: Arc::new(source) }
    }
}
