//! Metrics of shipping, by kind of destination.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Label set with one kind of destination: `s3`, `directory`, `http`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct KindLabel {
    kind: &'static str,
}

/// Metrics of shipping; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ShipMetrics {
    files: Family<KindLabel, Counter>,
    bytes: Family<KindLabel, Counter>,
    failures: Family<KindLabel, Counter>,
    backlog: Family<KindLabel, Gauge>,
    aside: Family<KindLabel, Gauge>,
    oldest: Family<KindLabel, Gauge>,
    /// Sessions that were deleted from the spool.
    pub deleted: Counter,
}

/// What waits for the destinations of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Sessions and heads that are not confirmed.
    pub backlog: u64,
    /// Those that are set aside.
    pub aside: u64,
    /// Time since the start of the oldest session that is not confirmed, in seconds.
    pub oldest: u64,
}

impl ShipMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("ship_files", "Files that destinations have confirmed, by kind", self.files.clone());
        let help = "Size of files that destinations have confirmed, by kind";
        r.register_with_unit("ship", help, Unit::Bytes, self.bytes.clone());
        let help = "Times that a session or head was not shipped and is tried again, by kind";
        r.register("ship_failures", help, self.failures.clone());
        let help = "Sessions and heads that are not shipped yet, by kind";
        r.register("ship_backlog", help, self.backlog.clone());
        let help = "Sessions and heads that are set aside, since they cannot be shipped, by kind";
        r.register("ship_aside", help, self.aside.clone());
        let help = "Time since the start of the oldest session that is not shipped, by kind";
        r.register_with_unit("ship_oldest", help, Unit::Seconds, self.oldest.clone());
        let help = "Sessions that were deleted from the spool";
        r.register("spool_deleted_sessions", help, self.deleted.clone());
    }

    /// Counts a file that a destination of `kind` has confirmed, of `bytes`.
    pub fn shipped(&self, kind: &'static str, bytes: u64) {
        self.files.get_or_create(&KindLabel { kind }).inc();
        self.bytes.get_or_create(&KindLabel { kind }).inc_by(bytes);
    }

    /// Counts a session or head that was not shipped.
    pub fn failed(&self, kind: &'static str) {
        self.failures.get_or_create(&KindLabel { kind }).inc();
    }

    /// Shows what waits.
    pub fn waiting(&self, kind: &'static str, waiting: Waiting) {
        let show = |gauge: &Family<KindLabel, Gauge>, value| {
            gauge.get_or_create(&KindLabel { kind }).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        show(&self.backlog, waiting.backlog);
        show(&self.aside, waiting.aside);
        show(&self.oldest, waiting.oldest);
        // From 0 on, so that the first failure is an increase.
        for counters in [&self.files, &self.failures] {
            drop(counters.get_or_create(&KindLabel { kind }));
        }
    }
}
