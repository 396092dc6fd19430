//! Metrics of the machine's clock.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is known of the clock.
#[derive(Clone, Debug, Default)]
pub struct ClockMetrics {
    /// Whether something has a later time than the clock, which must have been before.
    pub doubted: Gauge,
    /// Times that the clock was set while the gateway ran, by more than certificates bear.
    pub steps: Counter,
}

impl ClockMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("clock_doubted", "1 while the clock is known to be wrong", self.doubted.clone());
        let steps = "Times that the clock was set by more than certificates bear";
        r.register("clock_steps", steps, self.steps.clone());
    }
}
