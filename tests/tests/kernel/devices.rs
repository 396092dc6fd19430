//! Real VLAN devices, WireGuard and network cards; only in virtual machines, as other kernels need not have them.
//!
//! `tags` and `fast_path` send what such devices would, byte by byte; here the stacks of client and server tag.

use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use crate::fast_path::{GENERIC, NATIVE, counters, leave_tags};
use crate::network::{APPLY, CLIENTS, Network, OPEN, ROUTER, TARGETS, wait_for};
use crate::steering::{BOTH, status};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("vlan_device_leads_to_the_gateway", vlan_device_leads_to_the_gateway),
    ("vlan_devices_on_vlan_devices_lead_to_the_gateway", vlan_devices_on_vlan_devices_lead_to_the_gateway),
    ("vlan_devices_lead_to_the_gateway_by_clsact", vlan_devices_lead_to_the_gateway_by_clsact),
    ("vlan_device_is_asked_for_its_sources", vlan_device_is_asked_for_its_sources),
    ("vlan_devices_take_part_in_the_fast_path", vlan_devices_take_part_in_the_fast_path),
    ("vlan_devices_take_part_in_the_generic_fast_path", vlan_devices_take_part_in_the_generic_fast_path),
    ("wireguard_packets_without_frames_are_steered", wireguard_leads_to_the_gateway),
    ("network_cards_steer_and_have_a_native_fast_path", network_cards_steer_and_have_a_native_fast_path),
];

/// VLAN devices on each other, the outer tag first: protocol and VID.
type Stack = &'static [(&'static str, u16)];

const ONE: Stack = &[("802.1Q", 5)];
const TWO: [Stack; 2] = [&[("802.1Q", 5), ("802.1Q", 6)], &[("802.1ad", 5), ("802.1Q", 6)]];

/// The client and the gateway behind a stack.
const TAGGED_CLIENT: [&str; 2] = ["10.55.0.2", "fd55::2"];
const TAGGED_GATEWAY: [&str; 2] = ["10.55.0.1", "fd55::1"];
/// The server and the gateway behind VID 7.
const TAGGED_SERVER: [&str; 2] = ["10.57.0.2", "fd57::2"];
const BEHIND_SERVER: [&str; 2] = ["10.57.0.1", "fd57::1"];
const BULK: usize = 1_000_000;

/// The client and the gateway in the tunnel, and an address that is not the client's there.
const TUNNEL_CLIENT: [&str; 2] = ["10.66.0.2", "fd66::2"];
const TUNNEL_GATEWAY: [&str; 2] = ["10.66.0.1", "fd66::1"];
const TUNNEL_OTHER: [&str; 2] = ["10.66.0.3", "fd66::3"];

/// Makes the devices of a stack on an interface, and gives the last one addresses; returns its name.
fn stack(network: &Network, side: &str, interface: &str, tags: Stack, addresses: [&str; 2]) -> String {
    let mut on = interface.to_owned();
    for (protocol, vid) in tags {
        let device = format!("tag{vid}");
        network.ip(side, &format!("link add link {on} name {device} type vlan protocol {protocol} id {vid}"));
        network.ip(side, &format!("link set {device} mtu 1400 up"));
        on = device;
    }
    let [v4, v6] = addresses;
    network.ip(side, &format!("addr add {v4}/24 dev {on}"));
    network.ip(side, &format!("addr add {v6}/64 dev {on} nodad"));
    on
}

/// Leads the client's way to the server through a stack; returns the gateway's device.
fn lead_through(network: &Network, tags: Stack) -> String {
    stack(network, "c", "eth0", tags, TAGGED_CLIENT);
    let device = stack(network, "g", "lan.10", tags, TAGGED_GATEWAY);
    for (servers, gateway) in ["10.77.2.0/24", "fd77:2::/64"].iter().zip(TAGGED_GATEWAY) {
        network.ip("c", &format!("route replace {servers} via {gateway}"));
    }
    wait_for(|| OPEN.iter().all(|to| answers(network, to)), "way through the VLAN");
    device
}

fn answers(network: &Network, to: &str) -> bool {
    network.greeting(to, 22).is_ok_and(|greeting| greeting == "server")
}

fn assert_intercepted(network: &Network) {
    for (to, client) in TARGETS.into_iter().zip(TAGGED_CLIENT) {
        network.assert_intercepted(to, client);
    }
}

fn vlan_device_leads_to_the_gateway() -> Outcome {
    leads_to_the_gateway(ONE, "tcx", &[BOTH, "tag5,wan0"])
}

fn vlan_devices_on_vlan_devices_lead_to_the_gateway() -> Outcome {
    leads_to_the_gateway(TWO[0], "tcx", &[BOTH])?;
    leads_to_the_gateway(TWO[1], "tcx", &["tag6,wan0"])
}

fn vlan_devices_lead_to_the_gateway_by_clsact() -> Outcome {
    leads_to_the_gateway(TWO[1], "clsact", &["lan.10,wan0,tag6"])
}

/// With these interfaces configured, one set after the other.
fn leads_to_the_gateway(tags: Stack, mode: &str, sets: &[&str]) -> Outcome {
    let network = Network::new();
    lead_through(&network, tags);
    for interfaces in sets {
        let mut gateway = network.gateway(interfaces, mode)?;
        gateway.command(APPLY)?;
        assert_intercepted(&network);
        network.assert_rest_open();
        for dropped in ["no_listener", "reverse_path", "unparsable", "assign_failed"] {
            assert_eq!(gateway.counter(&format!("dropped_{dropped}")), 0, "{dropped} on {interfaces}");
        }
        gateway.kill();
        if *interfaces == BOTH {
            network.assert_targets_closed();
            network.assert_rest_open();
        }
        assert!(network.detach());
    }
    Ok(())
}

/// A source is behind the VLAN device or behind the interface, and comes to targets that way only.
fn vlan_device_is_asked_for_its_sources() -> Outcome {
    let network = Network::new();
    let device = lead_through(&network, ONE);
    let mut gateway = network.gateway(&format!("{BOTH},{device}"), "tcx")?;
    gateway.command(APPLY)?;
    assert_intercepted(&network);
    for (from, to) in CLIENTS.into_iter().zip(TARGETS) {
        assert!(network.connect_as("c", from, to, 22).is_err(), "{from} under the tag");
    }
    let under_the_tag = gateway.counter("dropped_reverse_path");
    assert!(under_the_tag >= 2, "{under_the_tag}");
    for (servers, gateway) in ["10.77.2.0/24", "fd77:2::/64"].iter().zip(crate::network::ROUTER) {
        network.ip("c", &format!("route replace {servers} via {gateway}"));
    }
    network.assert_targets_intercepted();
    for (from, to) in TAGGED_CLIENT.into_iter().zip(TARGETS) {
        assert!(network.connect_as("c", from, to, 22).is_err(), "{from} without a tag");
    }
    assert!(gateway.counter("dropped_reverse_path") >= under_the_tag + 2);
    Ok(())
}

fn vlan_devices_take_part_in_the_fast_path() -> Outcome {
    take_part(&Network::new(), NATIVE)
}

fn vlan_devices_take_part_in_the_generic_fast_path() -> Outcome {
    take_part(&Network::new(), GENERIC)
}

fn network_cards_steer_and_have_a_native_fast_path() -> Outcome {
    let network = Network::with_cards();
    let mut gateway = network.gateway(NATIVE, "tcx")?;
    gateway.command(APPLY)?;
    network.assert_targets_intercepted();
    network.assert_rest_open();
    assert!(gateway.fast("forwarded") > 0);
    assert_eq!(status(&network).unwrap().fast_path, ["lan.10", "wan0"]);
    gateway.stop();
    take_part(&network, NATIVE)
}

/// From VID 5 of the client's link to VID 7 of the server's, whose address only that has.
fn take_part(network: &Network, interfaces: &str) -> Outcome {
    leave_tags(network);
    for side in ["c", "s"] {
        network.shell(side, "ethtool -K eth0 txvlan off tx-vlan-stag-hw-insert off");
    }
    lead_through(network, ONE);
    let seven: Stack = &[("802.1Q", 7)];
    let far = stack(network, "s", "eth0", seven, TAGGED_SERVER);
    stack(network, "g", "wan0", seven, BEHIND_SERVER);
    for (nets, gateways) in
        [(["10.57.0.0/24", "fd57::/64"], TAGGED_GATEWAY), (["10.55.0.0/24", "fd55::/64"], BEHIND_SERVER)]
    {
        let side = if gateways == TAGGED_GATEWAY { "c" } else { "s" };
        for (net, gateway) in nets.into_iter().zip(gateways) {
            network.ip(side, &format!("route add {net} via {gateway}"));
        }
    }
    wait_for(|| TAGGED_SERVER.iter().all(|to| answers(network, to)), "way between the VLANs");
    let mut gateway = network.gateway(interfaces, "tcx")?;
    gateway.command(APPLY)?;
    for (to, bound) in TAGGED_SERVER.into_iter().zip(["0.0.0.0:4444", "[::]:4444"]) {
        let before = (counters(&mut gateway)["forwarded"], received(network, "s", &far));
        echo(network, to, bound)?;
        let forwarded = counters(&mut gateway)["forwarded"] - before.0;
        let tagged = received(network, "s", &far) - before.1;
        assert!(forwarded > 500, "{to}: {forwarded} frames took the fast path");
        assert!(tagged > BULK as u64, "{to}: {tagged} bytes came with the tag");
    }
    assert_intercepted(network);
    gateway.kill();
    for to in TARGETS {
        assert!(network.greeting(to, 22).is_err(), "{to} answers without a gateway");
    }
    for to in TAGGED_SERVER {
        assert!(answers(network, to), "{to} does not answer without a gateway");
    }
    Ok(())
}

/// The kernel's own WireGuard decides which addresses a peer has; the gateway sees what comes out of it.
fn wireguard_leads_to_the_gateway() -> Outcome {
    let network = Network::new();
    lead_through_wireguard(&network);
    let mut gateway = network.gateway("wg0,wan0", "tcx")?;
    gateway.command(APPLY)?;
    for (to, client) in TARGETS.into_iter().zip(TUNNEL_CLIENT) {
        network.assert_intercepted(to, client);
    }
    network.assert_rest_open();
    let steered = gateway.counter("steered_new");
    for (to, other) in TARGETS.into_iter().zip(TUNNEL_OTHER) {
        let error = network.connect_as("c", other, to, 22).expect_err(to);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{to} from {other}: {error}");
    }
    assert_eq!(gateway.counter("steered_new"), steered);
    gateway.kill();
    network.assert_targets_closed();
    network.assert_rest_open();
    Ok(())
}

/// Leads the client's way to the server through a tunnel to the gateway, of which it is a peer.
fn lead_through_wireguard(network: &Network) {
    let key = |side: &str| network.log().with_file_name(format!("{side}.key"));
    let public = |side: &str| {
        let file = key(side).display().to_string();
        network.ip(side, "link add wg0 type wireguard");
        network.shell(side, &format!("umask 077; wg genkey >{file}; wg pubkey <{file}")).trim().to_owned()
    };
    let (client, gateway) = (public("c"), public("g"));
    let [v4, v6] = TUNNEL_CLIENT;
    for (side, addresses, peer) in [
        ("g", TUNNEL_GATEWAY, format!("{client} allowed-ips {v4}/32,{v6}/128")),
        ("c", TUNNEL_CLIENT, format!("{gateway} allowed-ips 0.0.0.0/0,::/0 endpoint {}:51820", ROUTER[0])),
    ] {
        let own = key(side).display().to_string();
        network.shell(side, &format!("wg set wg0 listen-port 51820 private-key {own} peer {peer}"));
        let [v4, v6] = addresses;
        network.ip(side, &format!("addr add {v4}/24 dev wg0"));
        network.ip(side, &format!("addr add {v6}/64 dev wg0 nodad"));
        network.ip(side, "link set wg0 up");
    }
    for (servers, client) in ["10.77.2.0/24", "fd77:2::/64"].iter().zip(TUNNEL_CLIENT) {
        network.ip("c", &format!("route replace {servers} dev wg0 src {client}"));
    }
    for other in TUNNEL_OTHER {
        network.ip("c", &format!("addr add {other} dev lo"));
    }
    wait_for(|| OPEN.iter().all(|to| answers(network, to)), "way through the tunnel");
}

/// Sends bulk to the server, which sends it back.
fn echo(network: &Network, to: &str, bound: &'static str) -> Outcome {
    let listener = network.inside("s", move || TcpListener::bind(bound)).unwrap();
    let echo = thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut copy = stream.try_clone()?;
        std::io::copy(&mut stream, &mut copy).map(drop)
    });
    let mut stream = network.connect("c", to, 4444)?;
    let mut copy = stream.try_clone()?;
    let sending = thread::spawn(move || -> std::io::Result<()> {
        copy.write_all(&vec![7; BULK])?;
        copy.shutdown(std::net::Shutdown::Write)
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    assert_eq!(back.len(), BULK, "{to}");
    sending.join().unwrap()?;
    echo.join().unwrap()?;
    Ok(())
}

/// Bytes that a device has received.
fn received(network: &Network, side: &str, device: &str) -> u64 {
    let all = network.shell(side, "cat /proc/net/dev");
    let line =
        all.lines().find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
