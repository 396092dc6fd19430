//! Metrics of what is exported, by kind of export.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Label set with one kind of export: `syslog`, `http`, `otlp`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ExportLabel {
    kind: &'static str,
}

/// Metrics of exports; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ExportMetrics {
    sent: Family<ExportLabel, Counter>,
    dropped: Family<ExportLabel, Counter>,
}

impl ExportMetrics {
    /// `name`: as `access_events`; `what`: the same for people.
    pub(super) fn register(&self, r: &mut Registry, name: &str, what: &str) {
        let help = format!("{what} that exports have sent, by kind");
        r.register(format!("{name}_exported"), help, self.sent.clone());
        let help = format!("{what} that exports had no room for, or were refused for good, by kind");
        r.register(format!("{name}_dropped"), help, self.dropped.clone());
    }

    /// Shows a kind of export from before its first event, so that the first one that is lost is an increase.
    pub fn begin(&self, kind: &'static str) {
        self.sent(kind, 0);
        self.dropped(kind, 0);
    }

    /// Counts events that were sent.
    pub fn sent(&self, kind: &'static str, events: usize) {
        self.sent.get_or_create(&ExportLabel { kind }).inc_by(events as u64);
    }

    /// Counts events that are lost to an export.
    pub fn dropped(&self, kind: &'static str, events: usize) {
        self.dropped.get_or_create(&ExportLabel { kind }).inc_by(events as u64);
    }

    /// Events that are lost to exports of a kind.
    pub fn lost(&self, kind: &'static str) -> u64 {
        self.dropped.get_or_create(&ExportLabel { kind }).get()
    }
}
