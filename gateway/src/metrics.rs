//! Counters, gauges and histograms of the gateway, in OpenMetrics text.
//!
//! Labels are closed enums, and names of network policies: never a user, target, session or address. Names and types are held by a
//! golden file, because dashboards depend on them.

mod clock;
mod export;
#[cfg(test)]
mod monitoring;
mod ship;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use portreeve_core::record::Severity;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use clock::ClockMetrics;
pub use export::ExportMetrics;
pub use ship::{ShipMetrics, Waiting};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionOutcome {
    /// Over a limit of its source or of the gateway; reset.
    Limited,
    /// A network policy blocked it; reset.
    Blocked,
    /// Nobody is known at its source address.
    UnknownIdentity,
    /// Its destination is no target (any more).
    NoTarget,
    /// The recording could not start or went on to fail.
    RecordingFailed,
    /// The target did not answer, or its SSH handshake failed.
    TargetUnreachable,
    /// The target's host key is not the pinned one.
    HostKeyChanged,
    /// The user's side broke off, stalled or sent garbage before a log-in was decided.
    ClientFailed,
    /// No infrastructure policy grants it.
    Denied,
    /// The target did not accept the certificate.
    TargetRefusedLogin,
    /// The session ended by either side.
    Closed,
    /// Policy took the grant away from the live session.
    Revoked,
    /// The gateway stopped.
    Shutdown,
    /// An error inside the gateway.
    Failed,
}

impl ConnectionOutcome {
    const ALL: [Self; 14] = [
        Self::Limited,
        Self::Blocked,
        Self::UnknownIdentity,
        Self::NoTarget,
        Self::RecordingFailed,
        Self::TargetUnreachable,
        Self::HostKeyChanged,
        Self::ClientFailed,
        Self::Denied,
        Self::TargetRefusedLogin,
        Self::Closed,
        Self::Revoked,
        Self::Shutdown,
        Self::Failed,
    ];

    /// The spelling in metrics and in the access log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Limited => "limited",
            Self::Blocked => "blocked",
            Self::UnknownIdentity => "unknown_identity",
            Self::NoTarget => "no_target",
            Self::RecordingFailed => "recording_failed",
            Self::TargetUnreachable => "target_unreachable",
            Self::HostKeyChanged => "host_key_changed",
            Self::ClientFailed => "client_failed",
            Self::Denied => "denied",
            Self::TargetRefusedLogin => "target_refused_login",
            Self::Closed => "closed",
            Self::Revoked => "revoked",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
        }
    }
}

impl EncodeLabelValue for ConnectionOutcome {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

/// Label set with one outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    outcome: ConnectionOutcome,
}

/// What became of a changed policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the derive spells label values as the variants")]
pub enum ReloadResult {
    /// In force.
    applied,
    /// Refused; the old one stays in force.
    rejected,
}

/// Label set with one reload result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReloadLabel {
    result: ReloadResult,
}

/// Direction of relayed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the derive spells label values as the variants")]
pub enum Direction {
    /// From the user's side to the target.
    upstream,
    /// From the target to the user's side.
    downstream,
}

/// Label set with one direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DirectionLabel {
    direction: Direction,
}

/// Label set with how grave an alert is, as files spell it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SeverityLabel {
    severity: &'static str,
}

/// All metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    connections: Family<OutcomeLabel, Counter>,
    reloads: Family<ReloadLabel, Counter>,
    relayed: Family<DirectionLabel, Counter>,
    /// Whether the gateway is ready: 1 while the datapath steers all interfaces to a listener.
    pub ready: Gauge,
    /// Connections that count against the limit now.
    pub connections_open: Gauge,
    /// The most of these.
    pub connections_limit: Gauge,
    sessions_active: Gauge,
    /// Target host keys that were not the pinned ones.
    pub host_key_changes: Counter,
    /// Access events that are missing from the access log.
    pub access_log_failures: Counter,
    /// Sessions whose recording failed after they started.
    pub recording_failures: Counter,
    /// Bytes of data that are missing in recordings of sessions that went on.
    pub recording_gap: Counter,
    /// Sessions of break-glass identities that began without a recording.
    pub sessions_unrecorded: Counter,
    recordings_active: Gauge,
    spool_free: Gauge,
    spool_reserve: Gauge,
    /// Times that an interface without the kernel program got it while the gateway ran.
    pub interfaces_reattached: Counter,
    /// Of the machine's clock.
    pub clock: ClockMetrics,
    /// Configured interfaces that are there without the kernel program.
    pub interfaces_open: Gauge,
    /// From accept to the user being let in.
    pub login_duration: Histogram,
    /// From accept to the end, of sessions that were let in.
    pub session_duration: Histogram,
    policy_generation: Gauge,
    policy_rejected: Gauge,
    /// Shipping of recordings.
    pub ship: ShipMetrics,
    /// Exports of access events.
    pub exports: ExportMetrics,
    alerts: Family<SeverityLabel, Counter>,
    /// Exports of notices of alerts.
    pub alert_exports: ExportMetrics,
}

/// One session that is relaying, until it is dropped.
#[derive(Debug)]
pub struct ActiveSession(Gauge);

/// What the kernel programs counted, since their maps were made.
#[derive(Clone, Debug, Default)]
pub struct KernelCounters {
    /// Packets by what steering did with them.
    pub packets: Vec<(&'static str, u64)>,
    /// Frames by what the fast path did with them.
    pub fast_path: Vec<(&'static str, u64)>,
    /// Packets by the network policy that blocked them, since the process began.
    pub policies: BTreeMap<Arc<str>, u64>,
}

/// Asks for the counters of the kernel programs at each scrape.
struct KernelCollector<F>(F);

/// Everything that a scrape shows.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: all_outcomes(),
            reloads: Family::default(),
            relayed: Family::default(),
            ready: Gauge::default(),
            connections_open: Gauge::default(),
            connections_limit: Gauge::default(),
            sessions_active: Gauge::default(),
            host_key_changes: Counter::default(),
            access_log_failures: Counter::default(),
            recording_failures: Counter::default(),
            recording_gap: Counter::default(),
            sessions_unrecorded: Counter::default(),
            recordings_active: Gauge::default(),
            spool_free: Gauge::default(),
            spool_reserve: Gauge::default(),
            interfaces_reattached: Counter::default(),
            clock: ClockMetrics::default(),
            interfaces_open: Gauge::default(),
            login_duration: Histogram::new(exponential_buckets(0.005, 2.0, 14)),
            session_duration: Histogram::new(exponential_buckets(0.1, 4.0, 11)),
            policy_generation: Gauge::default(),
            policy_rejected: Gauge::default(),
            ship: ShipMetrics::default(),
            exports: ExportMetrics::default(),
            alerts: Family::default(),
            alert_exports: ExportMetrics::default(),
        }
    }
}

/// Each outcome from 0 on: of a counter that appears with its first count, nobody sees that count as an increase.
fn all_outcomes() -> Family<OutcomeLabel, Counter> {
    let family = Family::<OutcomeLabel, Counter>::default();
    for outcome in ConnectionOutcome::ALL {
        drop(family.get_or_create(&OutcomeLabel { outcome }));
    }
    family
}

impl Metrics {
    /// Registers everything under its public name; `kernel` yields what the kernel programs counted.
    pub fn exposition<F>(&self, kernel: F) -> Exposition
    where
        F: Fn() -> KernelCounters + Send + Sync + 'static,
    {
        let mut registry = Registry::with_prefix("portreeve");
        self.register(&mut registry);
        self.clock.register(&mut registry);
        registry.register_collector(Box::new(KernelCollector(kernel)));
        Exposition(registry)
    }

    fn register(&self, r: &mut Registry) {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "Version of the gateway", build);
        r.register(
            "connections",
            "Connections that reached the gateway, by outcome",
            self.connections.clone(),
        );
        r.register(
            "ready",
            "1 while the gateway serves on all interfaces, as /readyz says",
            self.ready.clone(),
        );
        let help = "Connections that count against [limits] connections now";
        r.register("connections_open", help, self.connections_open.clone());
        r.register("connections_limit", "[limits] connections", self.connections_limit.clone());
        r.register("sessions_active", "Sessions that are relaying now", self.sessions_active.clone());
        r.register_with_unit(
            "login_duration",
            "Time from accept until the user is let in",
            Unit::Seconds,
            self.login_duration.clone(),
        );
        r.register_with_unit(
            "session_duration",
            "Time from accept until the end of a session",
            Unit::Seconds,
            self.session_duration.clone(),
        );
        r.register_with_unit(
            "relayed",
            "Bytes of channel data relayed, by direction",
            Unit::Bytes,
            self.relayed.clone(),
        );
        r.register(
            "host_key_changes",
            "Target host keys that differ from the pin",
            self.host_key_changes.clone(),
        );
        r.register(
            "recording_failures",
            "Sessions whose recording failed after they started",
            self.recording_failures.clone(),
        );
        let help = "Bytes of data that are missing in recordings of sessions that went on";
        r.register_with_unit("recording_gap", help, Unit::Bytes, self.recording_gap.clone());
        let help = "Sessions of break-glass identities that began without a recording";
        r.register("sessions_unrecorded", help, self.sessions_unrecorded.clone());
        let help = "Recordings that are being written";
        r.register("recordings_active", help, self.recordings_active.clone());
        let help = "Bytes free on the file system of the spool";
        r.register_with_unit("spool_free", help, Unit::Bytes, self.spool_free.clone());
        let help = "Bytes of these that only break-glass identities may use";
        r.register_with_unit("spool_reserve", help, Unit::Bytes, self.spool_reserve.clone());
        r.register(
            "access_log_failures",
            "Access events that are missing from the access log",
            self.access_log_failures.clone(),
        );
        r.register(
            "interfaces_reattached",
            "Configured interfaces that were made anew and attached again",
            self.interfaces_reattached.clone(),
        );
        r.register(
            "interfaces_open",
            "Configured interfaces with open targets",
            self.interfaces_open.clone(),
        );
        r.register("policy_reloads", "Loads of the policy file, by result", self.reloads.clone());
        r.register("policy_generation", "Generation of the policy in force", self.policy_generation.clone());
        r.register(
            "policy_rejected",
            "1 while the policy file on disk was refused and an older one is in force",
            self.policy_rejected.clone(),
        );
        self.ship.register(r);
        self.exports.register(r, "access_events", "Access events");
        r.register("alerts", "Alerts in sessions, by severity", self.alerts.clone());
        self.alert_exports.register(r, "alert_notices", "Notices of alerts");
    }

    /// Counts one connection.
    pub fn connection_ended(&self, outcome: ConnectionOutcome) {
        self.connections.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts a session as relaying until what this returns is dropped.
    pub fn session_begins(&self) -> ActiveSession {
        self.sessions_active.inc();
        ActiveSession(self.sessions_active.clone())
    }

    /// Counts a recording as being written until what this returns is dropped.
    pub fn recording_begins(&self) -> ActiveSession {
        self.recordings_active.inc();
        ActiveSession(self.recordings_active.clone())
    }

    /// Shows the bytes free on the file system of the spool.
    pub fn spool_free(&self, bytes: u64) {
        self.spool_free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Shows the bytes of these that are kept in reserve.
    pub fn spool_reserve(&self, bytes: u64) {
        self.spool_reserve.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts relayed channel data, in bytes.
    pub fn relayed(&self, direction: Direction, bytes: u64) {
        self.relayed.get_or_create(&DirectionLabel { direction }).inc_by(bytes);
    }

    /// Counts an alert.
    pub fn alert(&self, severity: Severity) {
        self.alerts.get_or_create(&SeverityLabel { severity: severity.as_str() }).inc();
    }

    /// Counts a policy that is now in force.
    pub fn policy_applied(&self, generation: u64) {
        self.reloads.get_or_create(&ReloadLabel { result: ReloadResult::applied }).inc();
        self.policy_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.policy_rejected.set(0);
    }

    /// Counts a policy file that was refused.
    pub fn policy_rejected(&self) {
        self.reloads.get_or_create(&ReloadLabel { result: ReloadResult::rejected }).inc();
        self.policy_rejected.set(1);
    }
}

impl Drop for ActiveSession {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Exposition {
    /// Everything, in OpenMetrics text format.
    ///
    /// # Errors
    /// When a collector fails to encode.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

impl<F> fmt::Debug for KernelCollector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KernelCollector(..)")
    }
}

impl<F> Collector for KernelCollector<F>
where
    F: Fn() -> KernelCounters + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let KernelCounters { packets, fast_path, policies } = (self.0)();
        let mut family = |name, help, label, counters: Vec<(&str, u64)>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            counters.into_iter().try_for_each(|(value, count)| {
                ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)
            })
        };
        let help = "Packets seen by the kernel program, by what was done with them";
        family("datapath_packets", help, "reason", packets)?;
        let help = "Frames seen by the fast path, by what was done with them";
        family("fast_path_frames", help, "reason", fast_path)?;
        let help = "Packets that the kernel program dropped for a network policy, by policy";
        let policies = policies.iter().map(|(policy, count)| (&**policy, *count)).collect();
        family("policy_blocked_packets", help, "policy", policies)
    }
}

#[cfg(test)]
mod tests {
    use portreeve_ebpf::stats::Reason;

    use super::*;

    /// Names, types and labels that dashboards depend on.
    const GOLDEN: &str = include_str!("../testdata/metrics.txt");

    #[test]
    fn names_types_and_labels_are_the_golden_ones() {
        let metrics = Metrics::default();
        metrics.connection_ended(ConnectionOutcome::Denied);
        metrics.policy_rejected();
        metrics.relayed(Direction::upstream, 5);
        metrics.login_duration.observe(0.1);
        metrics.ship.shipped("s3", 5);
        metrics.ship.failed("s3");
        metrics.exports.sent("syslog", 1);
        metrics.exports.dropped("syslog", 1);
        metrics.alert(Severity::High);
        metrics.alert_exports.sent("http", 1);
        metrics.alert_exports.dropped("http", 1);
        metrics.ship.waiting("s3", Waiting::default());
        let kernel = || KernelCounters {
            packets: Reason::ALL.map(|reason| (reason.name(), 3)).to_vec(),
            fast_path: vec![("forwarded", 2)],
            policies: BTreeMap::from([("no ssh".into(), 4)]),
        };
        let text = metrics.exposition(kernel).encode().unwrap();
        let mut shape: Vec<(usize, &str)> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with("# HELP") && !line.contains("_bucket{")) {
            let families = shape.last().map_or(0, |(families, _)| *families);
            match line.starts_with('#') {
                true => shape.push((families + 1, line)),
                false => shape.push((families, line.rsplit_once(' ').unwrap().0)),
            }
        }
        // Samples of one family come in any order.
        shape.sort_unstable();
        let shape: String = shape.iter().map(|(_, line)| format!("{line}\n")).collect();
        assert_eq!(shape, GOLDEN, "the exposition changed:\n{shape}");
    }
}
