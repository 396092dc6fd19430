//! The fast path follows what the host is told of addresses, rules and `rp_filter` while it runs.
//!
//! Destinations are behind a next hop whose hardware address is known, so that only addresses and rules keep
//! them from being forwarded.

use std::thread;
use std::time::{Duration, Instant};

use super::switching::value;
use super::{NATIVE, Probe, network};
use crate::Outcome;
use crate::frames::{ETHERNET, datagram};
use crate::network::{Gateway, Network};
use crate::steering::status;

/// Less than the time between two looks that nothing caused.
const SOON: Duration = Duration::from_secs(3);
/// More than the time for which the last look of a dead gateway holds, fifteen seconds.
const LATER: Duration = Duration::from_secs(25);
/// Behind the server.
const BEHIND: [&str; 2] = ["10.88.0.1", "fd88::1"];

/// A network with more behind the server, and wires.
struct Running {
    network: Network,
    probe: Probe,
}

fn running() -> Result<(Running, Gateway), String> {
    let network = network();
    network.ip("g", "route add 10.88.0.0/16 via 10.77.2.3");
    network.ip("g", "route add fd88::/64 via fd77:2::3");
    let gateway = network.gateway(NATIVE, "tcx")?;
    network.assert_rest_open();
    let probe = Probe::new(&network);
    let running = Running { network, probe };
    // Nobody's source: without `rp_filter` only a look at all rules leaves it to the stack.
    running.becomes(&from([10, 99, 0, 1]), "forwarded", SOON);
    Ok((running, gateway))
}

fn from(source: [u8; 4]) -> Vec<u8> {
    let mut frame = datagram(BEHIND[0].parse().unwrap(), 7);
    frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&source);
    frame
}

impl Running {
    /// Sends a frame until it counts as `reason`.
    fn becomes(&self, frame: &[u8], reason: &str, within: Duration) {
        let frame = self.probe.addressed(frame.to_owned());
        let count = || value(&status(&self.network).unwrap().fast_path_counters, reason);
        let deadline = Instant::now() + within;
        loop {
            let before = count();
            self.probe.client.send(&frame).unwrap();
            thread::sleep(Duration::from_millis(10));
            if count() > before {
                return;
            }
            assert!(Instant::now() < deadline, "not {reason} within {within:?}");
        }
    }

    fn to_each_becomes(&self, reason: &str) {
        for to in BEHIND {
            self.becomes(&datagram(to.parse().unwrap(), 7), reason, SOON);
        }
    }
}

pub(super) fn leaves_new_addresses_to_the_stack() -> Outcome {
    let (running, _gateway) = running()?;
    running.to_each_becomes("forwarded");
    for (to, length) in BEHIND.into_iter().zip([32, 128]) {
        running.network.ip("g", &format!("addr add {to}/{length} dev lo"));
    }
    running.to_each_becomes("passed_route");
    // Nor is a packet forwarded that claims to be from there.
    let mut own = from([10, 88, 0, 1]);
    own[ETHERNET + 16..ETHERNET + 20].copy_from_slice(&[10, 77, 2, 3]);
    running.becomes(&own, "passed_source", SOON);
    for (to, length) in BEHIND.into_iter().zip([32, 128]) {
        running.network.ip("g", &format!("addr del {to}/{length} dev lo"));
    }
    running.to_each_becomes("forwarded");
    running.becomes(&own, "forwarded", SOON);
    // A whole network that is the host's own.
    running.network.ip("g", "route add local 10.88.0.0/24 dev lo");
    running.becomes(&datagram(BEHIND[0].parse().unwrap(), 7), "passed_route", LATER);
    Ok(())
}

pub(super) fn obeys_new_rules() -> Outcome {
    let (running, _gateway) = running()?;
    running.network.ip("g", "route add blackhole default table 7");
    for (rule, reason) in [
        ("to 10.88.0.0/16 prohibit", "passed_route"),
        // The way back to the source is asked for with the same interface.
        ("iif lan.10 blackhole", "passed_source"),
        ("from 10.77.1.0/24 lookup 7", "passed_route"),
    ] {
        running.to_each_becomes("forwarded");
        running.network.ip("g", &format!("rule add {rule} priority 100"));
        running.becomes(&datagram(BEHIND[0].parse().unwrap(), 7), reason, SOON);
        running.network.ip("g", "rule del priority 100");
    }
    running.network.ip("g", "-6 rule add to fd88::/64 prohibit priority 100");
    running.becomes(&datagram(BEHIND[1].parse().unwrap(), 7), "passed_route", SOON);
    running.becomes(&from([10, 99, 0, 1]), "forwarded", SOON);
    running.network.ip("g", "-6 rule del priority 100");
    running.to_each_becomes("forwarded");
    Ok(())
}

pub(super) fn obeys_rp_filter_at_once() -> Outcome {
    let (running, _gateway) = running()?;
    let (nobody, other) = (from([10, 99, 0, 1]), from([10, 77, 2, 77]));
    for (mode, of_nobody, of_other) in [
        ("all.rp_filter=2", "passed_source", "forwarded"),
        ("all.rp_filter=1", "passed_source", "passed_source"),
        ("all.rp_filter=0", "forwarded", "forwarded"),
        ("lan/10.rp_filter=1", "passed_source", "passed_source"),
    ] {
        running.network.shell("g", &format!("sysctl -qw net.ipv4.conf.{mode}"));
        running.becomes(&nobody, of_nobody, SOON);
        running.becomes(&other, of_other, SOON);
        running.to_each_becomes("forwarded");
    }
    Ok(())
}

/// What nobody looks at any more is not relied on.
pub(super) fn asks_all_rules_without_a_gateway() -> Outcome {
    let (running, gateway) = running()?;
    gateway.kill();
    running.to_each_becomes("forwarded");
    running.network.ip("g", "rule add to 10.88.0.0/16 prohibit priority 100");
    running.becomes(&datagram(BEHIND[0].parse().unwrap(), 7), "passed_route", LATER);
    running.becomes(&datagram(BEHIND[1].parse().unwrap(), 7), "forwarded", SOON);
    Ok(())
}
