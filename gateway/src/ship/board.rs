//! What waits for each destination, summed up for the gauges, which are by kind.

use std::sync::{Mutex, PoisonError};

use portreeve_core::config::shipping::Destination;

use crate::metrics::{ShipMetrics, Waiting};

/// What waits for every destination.
#[derive(Debug)]
pub(super) struct Board {
    waiting: Mutex<Vec<(&'static str, Waiting)>>,
    pub(super) metrics: ShipMetrics,
}

impl Board {
    pub(super) fn new(destinations: &[Destination], metrics: ShipMetrics) -> Self {
        let waiting = destinations.iter().map(|destination| (destination.kind_name(), Waiting::default()));
        Self { waiting: Mutex::new(waiting.collect()), metrics }
    }

    /// What waits for the destination of that number now.
    pub(super) fn show(&self, number: usize, waiting: Waiting) {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((kind, entry)) = all.get_mut(number) else { return };
        let kind = *kind;
        *entry = waiting;
        let same = all.iter().filter(|(other, _)| *other == kind).map(|(_, waiting)| waiting);
        let sum = same.fold(Waiting::default(), |sum, waiting| Waiting {
            backlog: sum.backlog + waiting.backlog,
            aside: sum.aside + waiting.aside,
            oldest: sum.oldest.max(waiting.oldest),
        });
        self.metrics.waiting(kind, sum);
    }
}
