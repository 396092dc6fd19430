//! A destination that can be spoken to, and what it is made from.
//!
//! It is made anew after each failure, so that changed credentials and certificates count.

use std::sync::Arc;

use portreeve_core::config::shipping::{Destination, DestinationKind};
use portreeve_core::shipping::Sha256Digest;
use tokio::sync::Mutex;

use super::failure::{ConnectError, ShipError};
use super::http::HttpDestination;
use super::source::SourceFile;
use super::store::Store;

/// A destination that can be spoken to.
#[derive(Clone, Debug)]
pub(super) enum Connection {
    /// A bucket or a directory.
    Store(Store),
    /// An HTTP server.
    Http(HttpDestination),
}

/// The connection of a destination, made when it is needed.
#[derive(Debug)]
pub(super) struct Slot {
    kind: DestinationKind,
    connection: Mutex<Option<Connection>>,
}

impl Connection {
    /// Reads the files that the configuration names; blocks the thread.
    pub(super) fn open(kind: &DestinationKind) -> Result<Self, ConnectError> {
        match kind {
            DestinationKind::S3(s3) => Store::s3(s3).map(Self::Store),
            DestinationKind::Directory { path } => Store::directory(path).map(Self::Store),
            DestinationKind::Http(http) => HttpDestination::new(http).map(Self::Http),
        }
    }

    /// Makes sure that the destination has a file, and has it confirmed.
    pub(super) async fn put(&self, file: &SourceFile, digest: &Sha256Digest) -> Result<(), ShipError> {
        match self {
            Self::Store(store) => store.put(file, digest).await,
            Self::Http(http) => http.put(file, digest).await,
        }
    }

    /// Asks for something that is not there.
    pub(super) async fn reach(&self) -> Result<(), ShipError> {
        match self {
            Self::Store(store) => store.reach().await,
            Self::Http(http) => http.reach().await,
        }
    }
}

impl Slot {
    pub(super) fn new(destination: &Destination) -> Self {
        Self { kind: destination.kind.clone(), connection: Mutex::default() }
    }

    /// The one that there is, or a new one.
    pub(super) async fn connection(&self) -> Result<Connection, ShipError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        let kind = self.kind.clone();
        let made = tokio::task::spawn_blocking(move || Connection::open(&kind)).await;
        let connection = made.map_err(|error| ShipError::State(std::io::Error::other(error)))??;
        Ok(slot.insert(connection).clone())
    }

    /// From now on a new one is made.
    pub(super) async fn renew(self: &Arc<Self>) {
        *self.connection.lock().await = None;
    }
}
