//! The fast path beside plain forwarding: the same frames in, the same frames out.

mod corpus;
mod routing;
mod switching;
mod vlans;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use portreeve_tests::wire::{Wire, hardware_address};

use self::corpus::{Case, corpus};
use crate::frames::{ETHERNET, datagram, is_between, with_header_checksum};
use crate::network::{APPLY, CLIENTS, Gateway, Network, OPEN, PATIENCE, ROUTER, frames_until};
use crate::steering::BOTH;
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("fast_path_treats_frames_as_the_stack_does", treats_frames_as_the_stack_does),
    ("fast_path_generic_treats_frames_as_the_stack_does", generic_treats_frames_as_the_stack_does),
    ("fast_path_keeps_to_strict_reverse_path", keeps_to_strict_reverse_path),
    ("fast_path_waits_for_cold_neighbours", waits_for_cold_neighbours),
    ("fast_path_leaves_targets_intercepted_and_closed", switching::leaves_targets_intercepted_and_closed),
    ("fast_path_carries_bulk_both_ways", switching::carries_bulk_both_ways),
    ("fast_path_between_modes_goes_through_the_stack", switching::between_modes_goes_through_the_stack),
    ("fast_path_is_refused_beside_a_firewall", switching::is_refused_beside_a_firewall),
    ("fast_path_is_refused_beside_ipsec_policies", switching::is_refused_beside_ipsec_policies),
    ("fast_path_is_off_while_a_firewall_is_there", switching::is_off_while_a_firewall_is_there),
    ("fast_path_is_refused_on_devices_that_mislead", switching::is_refused_on_devices_that_mislead),
    ("fast_path_is_refused_where_two_interfaces_share_a_slot", switching::is_refused_where_two_share_a_slot),
    ("fast_path_survives_restart_and_is_switched_off", switching::survives_restart_and_is_switched_off),
    ("fast_path_follows_interfaces_made_anew", switching::follows_interfaces_made_anew),
    ("fast_path_leaves_new_addresses_to_the_stack", routing::leaves_new_addresses_to_the_stack),
    ("fast_path_obeys_new_rules", routing::obeys_new_rules),
    ("fast_path_obeys_rp_filter_at_once", routing::obeys_rp_filter_at_once),
    ("fast_path_takes_tags_off_and_puts_them_on", vlans::takes_tags_off_and_puts_them_on),
    ("fast_path_asks_for_sources_behind_the_vlan", vlans::asks_for_sources_behind_the_vlan),
    ("fast_path_carries_tagged_frames", vlans::carries_tagged_frames),
    ("fast_path_generic_carries_tagged_frames", vlans::generic_carries_tagged_frames),
    ("fast_path_wants_a_veth_to_leave_tags_in_its_frames", vlans::wants_a_veth_to_leave_tags_in_its_frames),
    ("fast_path_asks_all_rules_without_a_gateway", routing::asks_all_rules_without_a_gateway),
];

/// Both interfaces in the fast path.
pub(crate) const NATIVE: &str = "lan.10:native,wan0:native";
/// Both, in the other mode.
pub(crate) const GENERIC: &str = "lan.10:generic,wan0:generic";

/// A network whose devices leave VLAN tags in the frame.
pub(crate) fn network() -> Network {
    let network = Network::new();
    leave_tags(&network);
    network.shell("g", "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0");
    network
}

pub(crate) fn leave_tags(network: &Network) {
    for device in ["lan.10", "wan0"] {
        network.shell("g", &format!("ethtool -K {device} rxvlan off rx-vlan-stag-hw-parse off"));
    }
}

fn treats_frames_as_the_stack_does() -> Outcome {
    compare(&network(), NATIVE, &[])
}

fn generic_treats_frames_as_the_stack_does() -> Outcome {
    compare(&network(), GENERIC, &[])
}

/// Also that what the stack drops with `rp_filter` is not forwarded past it.
fn keeps_to_strict_reverse_path() -> Outcome {
    let network = network();
    network.shell("g", "sysctl -qw net.ipv4.conf.all.rp_filter=1");
    let unchecked = ["source behind another interface", "from where no route leads"];
    compare(&network, NATIVE, &unchecked.map(|name| (name, "passed_source")))
}

/// Sends every case through the stack and through the fast path; `other` says which cases count otherwise.
fn compare(network: &Network, interfaces: &str, other: &[(&str, &str)]) -> Outcome {
    network.shell("g", "ip link set wan0 mtu 1400");
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    let probe = Probe::new(network);
    let expected: Vec<_> = corpus().iter().map(|case| probe.run(case)).collect();
    gateway.stop();

    let mut gateway = network.gateway(interfaces, "tcx")?;
    gateway.command(APPLY)?;
    for (case, expected) in corpus().iter().zip(expected) {
        let before = counters(&mut gateway);
        let mut found = probe.run(case);
        let deadline = Instant::now() + PATIENCE;
        // The kernel limits how often it says that there is no route (`ip_error`), and nothing switches that off.
        while found.client.is_empty() && !expected.client.is_empty() && Instant::now() < deadline {
            found = probe.run(case);
        }
        assert_eq!(found, expected, "{}", case.name);
        let reason =
            other.iter().find(|(name, _)| *name == case.name).map_or(case.reason, |(_, reason)| reason);
        let grown = counters(&mut gateway)[reason] - before[reason];
        assert!(
            grown > u64::from(reason == "forwarded") * MARKERS,
            "{}: {reason} grew by {grown}",
            case.name
        );
    }
    Ok(())
}

pub(crate) fn counters(gateway: &mut Gateway) -> BTreeMap<String, u64> {
    let text = gateway.command("fast").unwrap();
    let pairs = text.split(' ').map(|word| word.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// Frames that [`Probe::run`] sends to know the end; they are forwarded, too.
const MARKERS: u64 = 1;

/// Wires on both sides of the gateway.
struct Probe {
    client: Wire,
    server: Wire,
    gateway: [u8; 6],
    host: [u8; 6],
}

/// What a case came to, without what differs from run to run.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Frames at the server, up to the end of their packets: what fills short frames is no part of them.
    server: Vec<Vec<u8>>,
    /// ICMP from the router to the client, from the type on.
    client: Vec<Vec<u8>>,
}

impl Probe {
    fn new(network: &Network) -> Self {
        Self {
            client: Wire::open(&network.side("c"), "eth0").unwrap(),
            server: Wire::open(&network.side("s"), "eth0").unwrap(),
            gateway: hardware_address(&network.side("g"), "lan.10").unwrap(),
            host: hardware_address(&network.side("c"), "eth0").unwrap(),
        }
    }

    fn run(&self, case: &Case) -> Seen {
        let frame = case.frame(self.gateway, self.host);
        self.client.send(&frame).unwrap();
        // Whatever the frame leads to is there before the marker is, and the answer to an echo after it.
        let marker = self.addressed(datagram(OPEN[0].parse().unwrap(), 9));
        self.client.send(&marker).unwrap();
        let server = frames_until(&self.server, "marker", |seen| is_marker(seen, &marker)).unwrap();
        let mut ping = corpus::echo(ROUTER[0].parse().unwrap(), 0x7072);
        ping = self.addressed(ping);
        self.client.send(&ping).unwrap();
        let client = frames_until(&self.client, "answer of the router", is_answer).unwrap();
        Seen {
            server: server
                .into_iter()
                .filter(|seen| !is_marker(seen, &marker) && is_of_case(seen))
                .map(packet)
                .collect(),
            client: client
                .iter()
                .filter(|seen| !is_answer(seen))
                .filter_map(|seen| router_icmp(seen))
                .collect(),
        }
    }

    fn addressed(&self, frame: Vec<u8>) -> Vec<u8> {
        let mut frame = with_header_checksum(frame);
        frame[..6].copy_from_slice(&self.gateway);
        frame[6..12].copy_from_slice(&self.host);
        frame
    }
}

/// The frame without what fills it.
fn packet(mut frame: Vec<u8>) -> Vec<u8> {
    if frame[12..14] == [8, 0] {
        frame.truncate(ETHERNET + usize::from(u16::from_be_bytes([frame[16], frame[17]])));
    }
    frame
}

/// The same UDP datagram with another TTL.
fn is_marker(seen: &[u8], marker: &[u8]) -> bool {
    seen.get(ETHERNET + 12..marker.len()) == marker.get(ETHERNET + 12..) && seen[12..14] == marker[12..14]
}

fn is_answer(seen: &[u8]) -> bool {
    let (router, client) = (ROUTER[0].parse().unwrap(), CLIENTS[0].parse().unwrap());
    is_between(seen, router, client)
        && seen.get(ETHERNET + 20) == Some(&0)
        && seen.ends_with(&0x7072_u16.to_be_bytes())
}

/// Cases have one of a few sources and a mark of their own where IP headers have none.
fn is_of_case(seen: &[u8]) -> bool {
    corpus::SOURCES.iter().any(|source| match source.parse::<IpAddr>().unwrap() {
        IpAddr::V4(source) => seen[12..14] == [8, 0] && seen.get(26..30) == Some(&source.octets()),
        IpAddr::V6(source) => {
            // Not neighbour discovery of the client's own stack.
            seen[12..14] == [0x86, 0xdd] && seen.get(22..38) == Some(&source.octets()) && !is_discovery(seen)
        }
    })
}

fn is_discovery(seen: &[u8]) -> bool {
    seen.get(20) == Some(&58) && matches!(seen.get(54), Some(133..=137))
}

fn router_icmp(seen: &[u8]) -> Option<Vec<u8>> {
    let between = |at: usize| is_between(seen, ROUTER[at].parse().unwrap(), CLIENTS[at].parse().unwrap());
    if between(0) && seen.get(23) == Some(&1) {
        return seen.get(ETHERNET + 20..).map(<[u8]>::to_vec);
    }
    let message =
        (between(1) && seen.get(20) == Some(&58) && !is_discovery(seen)).then(|| &seen[ETHERNET + 40..])?;
    // That a neighbour does not answer is said seconds later, whatever case is on by then.
    (!message.starts_with(&[1, 3])).then(|| message.to_vec())
}

/// The first packets to neighbours that are not known go through the stack, which asks for them; the others
/// do not.
fn waits_for_cold_neighbours() -> Outcome {
    let network = network();
    let mut gateway = network.gateway(NATIVE, "tcx")?;
    for to in OPEN {
        network.ip("g", "neigh flush all");
        let before = counters(&mut gateway);
        assert_eq!(network.greeting(to, 22)?, "server", "{to}");
        let after = counters(&mut gateway);
        let grown = |reason: &str| after[reason] - before[reason];
        assert!(grown("passed_neighbour") >= 1, "{to}: {after:?}");
        assert!(grown("forwarded") >= 3, "{to}: {after:?}");
    }
    Ok(())
}
