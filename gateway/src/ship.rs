//! Shipping: finished recordings, and finished files of those that run for long, are copied to destinations; recordings
//! are deleted when those have confirmed them.
//!
//! Runs apart from sessions, on threads of its own, and finds by itself what is in the spool: nothing waits for it,
//! and a destination that stalls costs its own tasks alone. Of several processes on one spool one ships, the one
//! that has the lock. Deliberately absent: what files hold.

mod board;
mod bucket;
mod connection;
mod failure;
mod http;
mod keeper;
mod report;
mod shipper;
mod source;
mod state;
mod store;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portreeve_core::config::shipping::{Destination, DestinationKind, Retention};
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::board::Board;
pub use self::bucket::{Bucket, BucketEntry, BucketFile};
use self::connection::{Connection, Slot};
pub use self::failure::{ConnectError, ShipError};
use self::keeper::Keeper;
pub use self::report::{DestinationReport, Pending, report};
use self::shipper::{Ground, Shipper};
pub use self::state::StateDir;
use self::store::blocking;
use crate::audit::AuditChain;
use crate::metrics::ShipMetrics;
use crate::telemetry::with_causes;

/// How often it is tried to have the lock that another process has.
const LOCK_AGAIN: Duration = Duration::from_secs(1);

/// Threads for what blocks: reading and hashing files.
const BLOCKING_THREADS: usize = 8;

/// Why shipping cannot begin.
#[derive(Debug, Error)]
pub enum ShipConfigError {
    /// A destination cannot be used.
    #[error("cannot ship to {name:?}")]
    Destination {
        /// Its name.
        name: String,
        /// Why.
        source: ConnectError,
    },
    /// The operating system gives no threads.
    #[error("cannot start the threads that ship recordings")]
    Threads(#[source] io::Error),
}

/// Everything that ships and deletes; nothing is done before [`Shipping::run`].
#[derive(Debug)]
pub struct Shipping {
    ground: Ground,
    destinations: Vec<Destination>,
    retention: Retention,
    runtime: Apart,
}

impl Shipping {
    /// Reads the files that the destinations name; `chain` signs what is deleted.
    ///
    /// # Errors
    /// [`ShipConfigError`]. A directory that is not there is none: it may be mounted later.
    pub fn open(
        spool: &Path,
        destinations: Vec<Destination>,
        retention: Retention,
        metrics: ShipMetrics,
        chain: Arc<AuditChain>,
    ) -> Result<Self, ShipConfigError> {
        check(&destinations)?;
        let mut threads = Builder::new_multi_thread();
        threads.worker_threads(1).max_blocking_threads(BLOCKING_THREADS).thread_name("ship").enable_all();
        let runtime = Apart(Some(threads.build().map_err(ShipConfigError::Threads)?));
        let board = Arc::new(Board::new(&destinations, metrics));
        let ground = Ground { spool: spool.to_owned(), state: StateDir::of(spool), chain, board };
        Ok(Self { ground, destinations, retention, runtime })
    }

    /// Ships until it is dropped.
    pub async fn run(self) {
        if self.destinations.is_empty() && self.retention == Retention::default() {
            return std::future::pending().await;
        }
        let Self { ground, destinations, retention, runtime } = self;
        let mut tasks = JoinSet::new();
        if let Some(handle) = runtime.0.as_ref().map(Runtime::handle) {
            tasks.spawn_on(ship(ground, destinations, retention), handle);
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "shipping ended by an error of the gateway");
            }
        }
        // The threads stay as long as anything may run on them.
        drop(runtime);
    }
}

/// Checks that destinations can be used as they are configured; speaks to none.
///
/// # Errors
/// [`ShipConfigError`] of the first that cannot. A directory that is not there is none: it may be mounted later.
pub fn check(destinations: &[Destination]) -> Result<(), ShipConfigError> {
    for destination in destinations {
        if !matches!(destination.kind, DestinationKind::Directory { .. }) {
            let failed = |source| ShipConfigError::Destination { name: destination.name.clone(), source };
            Connection::open(&destination.kind).map_err(failed)?;
        }
    }
    Ok(())
}

/// Asks a destination for something that it does not have, as shipping does before it sends: whether it answers, and
/// accepts the credentials. Nothing is written.
///
/// # Errors
/// [`ShipError`].
pub async fn reach(destination: &Destination) -> Result<(), ShipError> {
    Slot::new(destination).connection().await?.reach().await
}

async fn ship(ground: Ground, destinations: Vec<Destination>, retention: Retention) {
    let _lock = loop {
        let (state, names) = (ground.state.clone(), names(&destinations));
        let lock = blocking(move || {
            state.create(names.iter().map(String::as_str))?;
            state.try_lock()
        });
        match lock.await {
            Ok(Some(lock)) => break lock,
            Ok(None) => {}
            Err(error) => tracing::error!(
                error = with_causes(&error),
                "cannot keep state in the spool: nothing is shipped"
            ),
        }
        sleep(LOCK_AGAIN).await;
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(Keeper::new(ground.clone(), &destinations, retention).run());
    for (number, destination) in destinations.into_iter().enumerate() {
        tracing::info!(destination = destination.name, kind = destination.kind_name(), "shipping recordings");
        tasks.spawn(Shipper::new(ground.clone(), number, destination).run());
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "shipping to a destination ended by an error of the gateway");
        }
    }
}

fn names(destinations: &[Destination]) -> Vec<String> {
    destinations.iter().map(|destination| destination.name.clone()).collect()
}

/// Threads of its own, which are left behind rather than waited for.
#[derive(Debug)]
struct Apart(Option<Runtime>);

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;
