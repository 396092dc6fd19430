//! Who looks at everything that is recorded, as it happens: the contract between a recorder and alert rules.
//!
//! Owns what waits to be recorded of it. Deliberately absent: the rules, and whom they tell.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portreeve_core::inspection::FileProgress;
use portreeve_core::record::{ChannelNumber, RecordEvent, Source};

/// Sees what is recorded, and says what is to be recorded about it. Waits for nothing.
///
/// It sees texts as the record keeps them, masked; and it sees everything even while nothing can be recorded.
pub trait Lookout: Send + Sync {
    /// An event.
    fn event(&self, event: &RecordEvent) -> Vec<RecordEvent>;

    /// So many bytes of data crossed a session channel.
    fn data(&self, channel: ChannelNumber, source: Source, bytes: usize) -> Vec<RecordEvent>;

    /// A file crosses, or is asked for.
    fn file(&self, file: &FileProgress) -> Vec<RecordEvent>;
}

/// Looks for nothing.
struct Nobody;

/// A lookout, and what it said that is not recorded yet: for each thing that it saw at most as much as it has rules.
#[derive(Clone)]
pub(super) struct Watched {
    lookout: Arc<dyn Lookout>,
    raised: Arc<Mutex<VecDeque<RecordEvent>>>,
}

impl Lookout for Nobody {
    fn event(&self, _: &RecordEvent) -> Vec<RecordEvent> {
        Vec::new()
    }

    fn data(&self, _: ChannelNumber, _: Source, _: usize) -> Vec<RecordEvent> {
        Vec::new()
    }

    fn file(&self, _: &FileProgress) -> Vec<RecordEvent> {
        Vec::new()
    }
}

impl Default for Watched {
    fn default() -> Self {
        Self::by(Arc::new(Nobody))
    }
}

impl Watched {
    pub(super) fn by(lookout: Arc<dyn Lookout>) -> Self {
        Self { lookout, raised: Arc::default() }
    }

    pub(super) fn event(&self, event: &RecordEvent) {
        self.raise(self.lookout.event(event));
    }

    pub(super) fn data(&self, channel: ChannelNumber, source: Source, bytes: usize) {
        self.raise(self.lookout.data(channel, source, bytes));
    }

    pub(super) fn file(&self, file: &FileProgress) {
        self.raise(self.lookout.file(file));
    }

    /// What is to be recorded next.
    pub(super) fn next(&self) -> Option<RecordEvent> {
        self.raised().pop_front()
    }

    /// Forgets what was to be recorded, where nothing is.
    pub(super) fn forget(&self) {
        self.raised().clear();
    }

    fn raise(&self, events: Vec<RecordEvent>) {
        if !events.is_empty() {
            self.raised().extend(events);
        }
    }

    fn raised(&self) -> MutexGuard<'_, VecDeque<RecordEvent>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
