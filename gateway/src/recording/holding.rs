//! What one stream holds in memory, and how much of it is drawn from the common budget.
//!
//! Invariant: what is drawn covers what is held beyond [`FIRST`], but for one message.

use std::sync::Arc;

use super::budget::Budget;
use super::stream::BATCH;

/// Bytes that each stream may hold whatever others do: a batch, so that who waits has a writer with work.
const FIRST: usize = BATCH;

/// The holding of one stream.
#[derive(Debug)]
pub(super) struct Holding {
    budget: Arc<Budget>,
    /// Bytes that are being sealed and written.
    in_flight: usize,
    drawn: usize,
}

impl Holding {
    pub(super) const fn new(budget: Arc<Budget>) -> Self {
        Self { budget, in_flight: 0, drawn: 0 }
    }

    /// Makes room for `more` bytes besides `pending` that were gathered; whether there is.
    pub(super) fn admit(&mut self, pending: usize, more: usize) -> bool {
        let held = pending.saturating_add(self.in_flight);
        let missing = held.saturating_add(more).saturating_sub(FIRST).saturating_sub(self.drawn);
        if missing > 0 && self.budget.draw(missing as u64) {
            self.drawn = self.drawn.saturating_add(missing);
            return true;
        }
        missing == 0 || held < FIRST
    }

    /// Whether there is likely room for more.
    pub(super) fn has_room(&self, pending: usize) -> bool {
        pending.saturating_add(self.in_flight) < FIRST || self.budget.left() >= FIRST as u64
    }

    /// `bytes` are on their way to the disk.
    pub(super) const fn sent(&mut self, bytes: usize) {
        self.in_flight = bytes;
    }

    /// What was sent is written; `pending` bytes were gathered since.
    pub(super) fn written(&mut self, pending: usize) {
        self.in_flight = 0;
        let needed = pending.saturating_sub(FIRST).min(self.drawn);
        self.budget.give_back(self.drawn.saturating_sub(needed) as u64);
        self.drawn = needed;
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.budget.give_back(self.drawn as u64);
    }
}
