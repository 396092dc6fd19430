//! Bounds on connections: in all, per source, and per source before the log-in is decided.
//!
//! A source is an IPv4 address or an IPv6 /64, which is what one host can choose addresses from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portreeve_core::config::daemon::Limits;
use portreeve_core::net::ClientAddr;

use crate::metrics::Metrics;

/// Counts connections against the limits.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    metrics: Metrics,
    counts: Mutex<Counts>,
}

/// One admitted connection; dropping it gives its place back.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    source: IpAddr,
    in_handshake: bool,
}

#[derive(Debug, Default)]
struct Counts {
    connections: u32,
    by_source: HashMap<IpAddr, SourceCounts>,
}

#[derive(Debug, Default)]
struct SourceCounts {
    connections: u32,
    handshakes: u32,
}

impl Admission {
    /// Starts with no connection.
    pub fn new(limits: Limits, metrics: Metrics) -> Self {
        metrics.connections_limit.set(limits.connections.into());
        Self { limits, metrics, counts: Mutex::default() }
    }

    /// A permit, or `None` when a limit is reached.
    pub fn admit(self: &Arc<Self>, client: ClientAddr) -> Option<Permit> {
        let source = source_of(client.ip());
        let mut counts = self.counts();
        if counts.connections >= self.limits.connections {
            return None;
        }
        let of_source = counts.by_source.entry(source).or_default();
        if of_source.connections >= self.limits.connections_per_source
            || of_source.handshakes >= self.limits.handshakes_per_source
        {
            if of_source.connections == 0 {
                counts.by_source.remove(&source);
            }
            return None;
        }
        of_source.connections += 1;
        of_source.handshakes += 1;
        counts.connections += 1;
        self.metrics.connections_open.set(counts.connections.into());
        Some(Permit { admission: Arc::clone(self), source, in_handshake: true })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// What it was asked of.
    pub fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission)
    }

    /// The log-in is decided: the connection no longer counts against the handshakes of its source.
    pub fn logged_in(&mut self) {
        if std::mem::take(&mut self.in_handshake)
            && let Some(source) = self.admission.counts().by_source.get_mut(&self.source)
        {
            source.handshakes = source.handshakes.saturating_sub(1);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.logged_in();
        let mut counts = self.admission.counts();
        counts.connections = counts.connections.saturating_sub(1);
        self.admission.metrics.connections_open.set(counts.connections.into());
        if let Some(source) = counts.by_source.get_mut(&self.source) {
            source.connections = source.connections.saturating_sub(1);
            if source.connections == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

fn source_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admission() -> Arc<Admission> {
        let limits = Limits {
            handshake_timeout: Duration::from_secs(30),
            handshakes_per_source: 2,
            connections_per_source: 3,
            connections: 4,
            drain_timeout: Duration::from_secs(1),
        };
        Arc::new(Admission::new(limits, Metrics::default()))
    }

    fn client(addr: &str) -> ClientAddr {
        ClientAddr::new(addr.parse().unwrap())
    }

    #[test]
    fn a_source_is_held_to_its_handshakes_and_connections() {
        let admission = admission();
        let mut first = admission.admit(client("10.0.0.1:1")).unwrap();
        let mut second = admission.admit(client("10.0.0.1:2")).unwrap();
        assert!(admission.admit(client("10.0.0.1:3")).is_none(), "two handshakes at once");
        assert!(admission.admit(client("10.0.0.2:3")).is_some(), "another source goes on");
        first.logged_in();
        second.logged_in();
        let third = admission.admit(client("10.0.0.1:3")).unwrap();
        assert!(admission.admit(client("10.0.0.1:4")).is_none(), "three connections in all");
        drop((first, third));
        assert!(admission.admit(client("10.0.0.1:4")).is_some());
    }

    #[test]
    fn all_sources_together_are_held_to_the_total() {
        let admission = admission();
        let permits: Vec<_> =
            (0..6).filter_map(|n| admission.admit(client(&format!("10.0.0.{n}:1")))).collect();
        assert_eq!(permits.len(), 4);
        let metrics = admission.metrics.clone();
        assert_eq!((metrics.connections_open.get(), metrics.connections_limit.get()), (4, 4));
        drop(permits);
        assert_eq!((admission.counts().connections, metrics.connections_open.get()), (0, 0));
        assert!(admission.counts().by_source.is_empty(), "nothing is kept of sources that left");
    }

    #[test]
    fn an_ipv6_source_is_its_64() {
        let admission = admission();
        let _held = [
            admission.admit(client("[2001:db8::1]:1")).unwrap(),
            admission.admit(client("[2001:db8::2]:1")).unwrap(),
        ];
        assert!(admission.admit(client("[2001:db8::3]:1")).is_none());
        assert!(admission.admit(client("[2001:db8:0:1::3]:1")).is_some());
    }
}
