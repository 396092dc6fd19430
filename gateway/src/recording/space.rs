//! The space that is left on the file system of the spool, and the reserve in it.
//!
//! Owns who may write: ordinary sessions while more than the reserve is free, break-glass sessions always. It is looked
//! up at most once a second, so that by how much the reserve is entered depends on what is written in a second.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use super::error::RecordingError;
use crate::metrics::Metrics;

/// For how long a look is good.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The space of one spool.
#[derive(Debug)]
pub(super) struct Space {
    root: Box<Path>,
    reserve: u64,
    metrics: Metrics,
    /// When it was looked up last, and the bytes that were free.
    seen: Mutex<Option<(Instant, u64)>>,
}

impl Space {
    pub(super) fn new(root: &Path, reserve: u64, metrics: Metrics) -> Self {
        metrics.spool_reserve(reserve);
        Self { root: root.into(), reserve, metrics, seen: Mutex::new(None) }
    }

    /// Whether a session may write; blocks for a look at the file system once a second.
    ///
    /// # Errors
    /// [`RecordingError::Reserve`].
    pub(super) fn check(&self, break_glass: bool) -> Result<(), RecordingError> {
        match self.free() {
            Some(free) if free < self.reserve && !break_glass => {
                Err(RecordingError::Reserve { path: (*self.root).into(), free, reserve: self.reserve })
            }
            // What cannot be looked up can still be written, or says itself why not.
            Some(_) | None => Ok(()),
        }
    }

    /// Bytes that are free for those who are not root, a second ago at most.
    pub(super) fn free(&self) -> Option<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, free)) = seen.filter(|(when, _)| when.elapsed() < GOOD_FOR) {
            return Some(free);
        }
        let space = statvfs(&*self.root).ok()?;
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        *seen = Some((Instant::now(), free));
        self.metrics.spool_free(free);
        Some(free)
    }
}
