//! What comes by other ways than the straight one: from the wrong side, from a target, and from routers
//! on the way.

use std::io::{self, Write as _};
use std::net::IpAddr;

use portreeve_tests::wire::{Deferred, Wire, hardware_address};

use crate::frames::{DESTINATION_OPTIONS, ETHERNET, SYN, TCP, segment, tcp, v6, with_checksums};
use crate::network::{APPLY, CLIENTS, Network, OPEN, ROUTER, TARGETS, first_line, wait_for};
use crate::steering::BOTH;
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "source_of_another_interface_does_not_reach_targets",
        source_of_another_interface_does_not_reach_targets,
    ),
    ("sources_that_are_behind_no_interface_are_dropped", sources_that_are_behind_no_interface_are_dropped),
    ("reverse_path_off_lets_any_source_in", reverse_path_off_lets_any_source_in),
    ("forwarding_off_leaves_targets_closed", forwarding_off_leaves_targets_closed),
    ("answers_to_a_borrowed_address_come_back", answers_to_a_borrowed_address_come_back),
    ("answers_of_a_target_come_by_any_interface", answers_of_a_target_come_by_any_interface),
    ("router_on_the_way_lowers_the_mtu_of_a_user", router_on_the_way_lowers_the_mtu_of_a_user),
    ("headers_in_any_piece_of_a_packet_lead_to_the_gateway", headers_in_any_piece_lead_to_the_gateway),
];

/// Addresses of the server's link, which the client takes for its own.
const OF_THE_SERVER: [&str; 2] = ["10.77.2.77", "fd77:2::77"];

fn source_of_another_interface_does_not_reach_targets() -> Outcome {
    let network = Network::new();
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    borrow(&network);
    for (to, from) in TARGETS.into_iter().zip(OF_THE_SERVER) {
        let error = network.connect_as("c", from, to, 22).expect_err(to);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{to} from {from}: {error}");
    }
    assert!(gateway.counter("dropped_reverse_path") >= 2);
    network.assert_targets_intercepted();
    Ok(())
}

fn reverse_path_off_lets_any_source_in() -> Outcome {
    let network = Network::new();
    let mut gateway = network.gateway(BOTH, "any-source")?;
    gateway.command(APPLY)?;
    borrow(&network);
    // Answers leave by the other interface, so only the first segment is seen.
    for (to, from) in TARGETS.into_iter().zip(OF_THE_SERVER) {
        assert!(network.connect_as("c", from, to, 22).is_err());
    }
    assert!(gateway.counter("steered_new") >= 2);
    assert_eq!(gateway.counter("dropped_reverse_path"), 0);
    Ok(())
}

fn borrow(network: &Network) {
    let [v4, v6] = OF_THE_SERVER;
    network.ip("c", &format!("addr add {v4}/32 dev lo"));
    network.ip("c", &format!("addr add {v6}/128 dev lo nodad"));
}

fn sources_that_are_behind_no_interface_are_dropped() -> Outcome {
    let network = Network::new();
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    let wire = Wire::open(&network.side("c"), "eth0")?;
    let router = hardware_address(&network.side("g"), "lan.10")?;
    let [v4, v6] = TARGETS.map(|to| to.parse::<IpAddr>().unwrap());
    let sources = [
        (
            v4,
            &["127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1", ROUTER[0], TARGETS[0]][..],
        ),
        (v6, &["::1", "::", "ff02::1", "2001:db8::1", "fe80::1", "::ffff:10.77.1.2", ROUTER[1], TARGETS[1]]),
    ];
    let mut sent = 0;
    for (to, sources) in sources {
        for source in sources {
            let mut frame = segment(to, 22, SYN);
            frame[..6].copy_from_slice(&router);
            match source.parse::<IpAddr>().unwrap() {
                IpAddr::V4(source) => frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&source.octets()),
                IpAddr::V6(source) => frame[ETHERNET + 8..ETHERNET + 24].copy_from_slice(&source.octets()),
            }
            wire.send(&with_checksums(frame))?;
            sent += 1;
            wait_for(|| gateway.counter("dropped_reverse_path") == sent, source);
        }
    }
    assert_eq!(gateway.counter("steered_new"), 0);
    Ok(())
}

/// The kernel does not say where a source is behind an interface that does not forward.
fn forwarding_off_leaves_targets_closed() -> Outcome {
    let network = Network::new();
    network.shell("g", "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
    let mut gateway = network.gateway(BOTH, "tcx")?;
    assert!(gateway.ready.starts_with("ready 2 "), "a warning for each family: {}", gateway.ready);
    gateway.command(APPLY)?;
    network.assert_targets_closed();
    Ok(())
}

fn answers_to_a_borrowed_address_come_back() -> Outcome {
    let network = Network::new();
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    let said = gateway.command(&format!("dial {} {}:22", CLIENTS[0], TARGETS[0]))?;
    assert_eq!(said, "server");
    assert!(gateway.counter("steered_return") >= 3, "SYN-ACK, the greeting, and its end");
    network.assert_rest_open();
    Ok(())
}

/// Two links to the target, of which one leads there and the other back; unless the host wants it otherwise.
fn answers_of_a_target_come_by_any_interface() -> Outcome {
    let network = Network::new();
    let server = network.side("s");
    network.ip("g", &format!("link add wan1 type veth peer name eth1 netns {}", server.name()));
    for (side, device, address) in [("g", "wan1", "10.77.3.1"), ("s", "eth1", "10.77.3.2")] {
        network.ip(side, &format!("addr add {address}/24 dev {device}"));
        network.shell(side, &format!("ethtool -K {device} tx off gro on >/dev/null"));
        network.ip(side, &format!("link set {device} up"));
    }
    network.ip("s", &format!("route add {}/32 via 10.77.3.1", CLIENTS[0]));
    network.shell("g", "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.wan1.rp_filter=0");
    let mut gateway = network.gateway("lan.10,wan0,wan1", "tcx")?;
    gateway.command(APPLY)?;
    let dial = format!("dial {} {}:22", CLIENTS[0], TARGETS[0]);
    assert_eq!(gateway.command(&dial)?, "server");
    assert!(gateway.counter("steered_return") >= 3, "SYN-ACK, the greeting, and its end");
    assert_eq!(gateway.counter("dropped_reverse_path"), 0);
    network.shell("g", "sysctl -qw net.ipv4.conf.wan1.rp_filter=1");
    assert_ne!(gateway.command(&dial)?, "server");
    Ok(())
}

/// A host behind the client, whose last link takes smaller packets than the host believes: the client
/// reports those that do not fit to the target's address, in whose name the gateway sent them.
fn router_on_the_way_lowers_the_mtu_of_a_user() -> Outcome {
    let network = Network::new();
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    network.add_host_behind_client(1300);
    for to in TARGETS {
        let mut stream = network.connect("d", to, 22)?;
        assert!(first_line(&stream)?.starts_with("intercepted "));
        let line = "x".repeat(100_000);
        writeln!(stream, "{line}")?;
        assert_eq!(first_line(&stream)?.len(), line.len(), "{to}");
    }
    assert!(gateway.counter("steered_error") >= 2);
    // A report about a connection that is not ours goes where it is addressed to.
    let stream = network.connect("d", OPEN[0], 2222)?;
    assert_eq!(first_line(&stream)?, "server");
    Ok(())
}

/// A packet's first piece may end anywhere behind the hardware addresses.
fn headers_in_any_piece_lead_to_the_gateway() -> Outcome {
    /// Smaller frames are put together before they are sent.
    const LONG: usize = 6000;
    let network = Network::new();
    for (side, device) in [("c", "eth0"), ("g", "lan.10")] {
        network.ip(side, &format!("link set {device} mtu 9000"));
        // Otherwise the headers are put into the first piece on their way.
        network.shell(side, &format!("ethtool -K {device} sg on gro off"));
    }
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    let wire = Wire::open(&network.side("c"), "eth0")?;
    let router = hardware_address(&network.side("g"), "lan.10")?;
    let [v4, v6_target] = TARGETS.map(|to| to.parse::<IpAddr>().unwrap());
    let IpAddr::V6(behind_options) = v6_target else { unreachable!() };
    let syn = tcp(22, SYN);
    let kinds = [
        (segment(v4, 22, SYN), [14, 16, 33, 34, 47, 53]),
        (segment(v6_target, 22, SYN), [14, 30, 53, 54, 67, 73]),
        (v6(behind_options, &[DESTINATION_OPTIONS], TCP, &syn), [14, 53, 54, 57, 61, 75]),
    ];
    let mut sent = 0;
    for (mut frame, ends) in kinds {
        frame[..6].copy_from_slice(&router);
        frame.resize(LONG, 0);
        let (at, length) = if frame[12] == 8 { (16, LONG - ETHERNET) } else { (18, LONG - ETHERNET - 40) };
        frame[at..at + 2].copy_from_slice(&u16::try_from(length)?.to_be_bytes());
        for end in ends {
            // No kind of segments, and headers of so many bytes.
            wire.send_deferred(&frame, Deferred { checksum: None, segments: Some((0, end, 0)) })?;
            sent += 1;
            wait_for(|| gateway.counter("steered_new") == sent, &format!("a first piece of {end} bytes"));
        }
    }
    Ok(())
}
