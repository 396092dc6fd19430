//! The memory that all recordings together may hold while they wait for the disk.
//!
//! Each stream holds a first amount of its own, so that none is starved by others; what exceeds that is drawn from here.
//! A stream that gets nothing waits for its own disk, never for another stream.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that may still be drawn.
#[derive(Debug)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) const fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    /// Draws all of `bytes`, or nothing.
    pub(super) fn draw(&self, bytes: u64) -> bool {
        let left = |left: u64| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, left).is_ok()
    }

    /// Gives back what was drawn.
    pub(super) fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn left(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
