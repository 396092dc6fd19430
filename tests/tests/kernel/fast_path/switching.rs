//! When the fast path is on, when it is not, and that targets are the same in both.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use portreeve_ebpf::fast_path::MAX_INTERFACES;

use super::{GENERIC, NATIVE, counters, leave_tags, network};
use crate::Outcome;
use crate::network::{APPLY, Network, OPEN, PATIENCE, TARGETS, first_line, wait_for};
use crate::steering::{BOTH, status};

pub(super) fn leaves_targets_intercepted_and_closed() -> Outcome {
    let network = network();
    let mut gateway = network.gateway(NATIVE, "tcx")?;
    gateway.command(APPLY)?;
    network.assert_targets_intercepted();
    network.assert_rest_open();
    assert!(gateway.fast("forwarded") > 0 && gateway.fast("passed_target") > 0);
    assert_eq!(status(&network).unwrap().fast_path, ["lan.10", "wan0"]);
    let mut stream = network.connect("c", TARGETS[0], 22)?;
    first_line(&stream)?;
    writeln!(stream, "{}", "x".repeat(100_000))?;
    assert_eq!(first_line(&stream)?.len(), 100_000, "bulk of an intercepted connection");
    gateway.kill();
    network.assert_targets_closed();
    let forwarded = || value(&status(&network).unwrap().fast_path_counters, "forwarded");
    let before = forwarded();
    network.assert_rest_open();
    assert!(forwarded() > before, "the fast path outlives the gateway");
    let _gateway = network.gateway(NATIVE, "tcx")?;
    network.assert_targets_intercepted();
    Ok(())
}

pub(super) fn value(counters: &[(&'static str, u64)], name: &str) -> u64 {
    counters.iter().find(|(other, _)| *other == name).unwrap().1
}

/// Real connections, whose segments are as large as they get, and their acknowledgements.
pub(super) fn carries_bulk_both_ways() -> Outcome {
    const BYTES: usize = 4_000_000;
    let network = network();
    let mut gateway = network.gateway(NATIVE, "tcx")?;
    gateway.command(APPLY)?;
    for (to, bound) in [(OPEN[0], "0.0.0.0:4444"), (OPEN[1], "[::]:4444")] {
        let listener = network.inside("s", move || std::net::TcpListener::bind(bound)).unwrap();
        let echo = thread::spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut copy = stream.try_clone()?;
            std::io::copy(&mut stream, &mut copy).map(drop)
        });
        let before = counters(&mut gateway);
        let mut stream: TcpStream = network.connect("c", to, 4444)?;
        let mut copy = stream.try_clone()?;
        let sending = thread::spawn(move || -> std::io::Result<()> {
            copy.write_all(&vec![7; BYTES])?;
            copy.shutdown(std::net::Shutdown::Write)
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back)?;
        assert!(back.len() == BYTES && back.iter().all(|byte| *byte == 7), "{to}: {} bytes", back.len());
        sending.join().unwrap()?;
        echo.join().unwrap()?;
        let after = counters(&mut gateway);
        let grown = |reason: &str| after[reason] - before[reason];
        let passed: u64 = after.keys().filter(|name| *name != "forwarded").map(|name| grown(name)).sum();
        assert!(grown("forwarded") > 2 * passed, "{to}: {} forwarded, {passed} passed", grown("forwarded"));
    }
    Ok(())
}

pub(super) fn between_modes_goes_through_the_stack() -> Outcome {
    let network = network();
    for interfaces in ["lan.10:native,wan0:generic", "lan.10:native,wan0", "lan.10:generic,wan0:native"] {
        let mut gateway = network.gateway(interfaces, "tcx")?;
        network.assert_rest_open();
        assert_eq!(gateway.fast("forwarded"), 0, "{interfaces}");
        assert!(gateway.fast("passed_egress") > 0, "{interfaces}");
        gateway.stop();
    }
    Ok(())
}

const FORWARD_CHAIN: &str = "add chain inet filter forward { type filter hook forward priority 0; }";

fn refusal(network: &Network, interfaces: &str) -> String {
    network.gateway(interfaces, "tcx").err().unwrap_or_else(|| "started".to_owned())
}

pub(super) fn is_refused_beside_a_firewall() -> Outcome {
    let network = network();
    let nft = |rules: &str| network.shell("g", &format!("nft '{rules}'"));
    // None of these sees forwarded packets, or does anything with them.
    nft("add table inet filter");
    nft("add chain inet filter input { type filter hook input priority 0; policy drop; }");
    nft("add rule inet filter input accept");
    nft(FORWARD_CHAIN);
    network.gateway(NATIVE, "tcx")?.stop();

    let rules = [
        ("inet filter forward", "add rule inet filter forward tcp dport 80 drop"),
        (
            "ip nat post",
            "add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post masquerade",
        ),
        ("ip6 raw pre", "add chain ip6 raw pre { type filter hook prerouting priority -300; policy drop; }"),
        (
            "netdev early lan",
            "add chain netdev early lan { type filter hook ingress device \"lan.10\" priority 0; }; add rule netdev early lan counter",
        ),
    ];
    for (name, rule) in rules {
        nft("flush ruleset");
        let (family, table) = name.rsplit_once(' ').unwrap().0.split_once(' ').unwrap();
        nft(&format!("add table {family} {table}"));
        if name.starts_with("inet") {
            nft(FORWARD_CHAIN);
        }
        nft(rule);
        let error = refusal(&network, NATIVE);
        assert!(error.contains(&format!("the nftables chain {name} has rules")), "{name}: {error}");
    }
    assert_eq!(status(&network).unwrap().fast_path, [""; 0], "what ran before is off");
    let mut gateway = network.gateway(NATIVE, "ignore")?;
    network.assert_rest_open();
    assert!(gateway.fast("forwarded") > 0);
    Ok(())
}

pub(super) fn is_refused_beside_ipsec_policies() -> Outcome {
    let network = network();
    network.ip("g", "xfrm policy add dir fwd src 10.77.1.0/24 dst 10.77.2.0/24 action block");
    let error = refusal(&network, NATIVE);
    assert!(error.contains("there are IPsec policies"), "{error}");
    Ok(())
}

/// A rule that comes while the gateway runs is not skipped for long.
pub(super) fn is_off_while_a_firewall_is_there() -> Outcome {
    let network = network();
    let gateway = network.gateway(NATIVE, "tcx")?;
    assert_eq!(network.greeting(OPEN[0], 2222)?, "server");
    network.shell(
        "g",
        &format!(
            "nft 'add table inet filter; {FORWARD_CHAIN}; add rule inet filter forward tcp dport 2222 drop'"
        ),
    );
    wait_for(|| status(&network).unwrap().fast_path.is_empty(), "the fast path to be off");
    network.greeting(OPEN[0], 2222).expect_err("dropped by the rule");
    assert_eq!(network.greeting(OPEN[0], 22)?, "server", "through the stack");
    network.shell("g", "nft flush ruleset");
    wait_for(|| status(&network).unwrap().fast_path.len() == 2, "the fast path to be on again");
    gateway.stop();
    Ok(())
}

pub(super) fn is_refused_on_devices_that_mislead() -> Outcome {
    let network = network();
    for tags in ["rxvlan", "rx-vlan-stag-hw-parse"] {
        network.shell("g", &format!("ethtool -K lan.10 {tags} on"));
        let error = refusal(&network, NATIVE);
        assert!(error.contains("lan.10 takes VLAN tags off"), "{error}");
        leave_tags(&network);
    }
    network.shell("g", "ethtool -K wan0 tx on");
    let error = refusal(&network, GENERIC);
    assert!(error.contains("wan0 finishes checksums"), "{error}");
    network.gateway(NATIVE, "tcx")?.stop();
    network.shell("g", "ethtool -K wan0 tx off");
    network.shell("s", "ethtool -K eth0 gro off");
    let error = refusal(&network, NATIVE);
    assert!(error.contains("wan0 cannot send frames"), "{error}");
    wait_for_none_attached(&network);
    network.shell("s", "ethtool -K eth0 gro on");
    network.ip("g", "tuntap add mode tun name tun0");
    let error = refusal(&network, "lan.10:generic,tun0:generic");
    assert!(error.contains("tun0 has no Ethernet frames"), "{error}");
    network.ip("g", "link add br0 type bridge");
    network.ip("g", "link set wan0 master br0");
    let error = refusal(&network, NATIVE);
    assert!(error.contains("wan0 is a port of br0"), "{error}");
    network.ip("g", "link set wan0 nomaster");
    let _gateway = network.gateway(NATIVE, "tcx")?;
    network.ip("g", "link set wan0 master br0");
    wait_for(|| status(&network).unwrap().fast_path == ["lan.10"], "the fast path of a port to be off");
    Ok(())
}

pub(super) fn is_refused_where_two_share_a_slot() -> Outcome {
    let network = network();
    let index: u32 = network.shell("g", "ip -o link show lan.10 | cut -d: -f1").trim().parse()?;
    let add = |index: u32| {
        network.ip("g", &format!("link add other0 index {index} type veth peer name other1"));
        network.shell("g", "ethtool -K other0 rxvlan off rx-vlan-stag-hw-parse off tx off");
    };
    add(index + MAX_INTERFACES);
    let three = "lan.10:generic,other0:generic,wan0:generic";
    let error = network.gateway(three, "tcx").err().unwrap_or_else(|| "started".to_owned());
    assert!(error.contains("of two interfaces differ by a multiple of 1,024"), "{error}");
    network.ip("g", "link del other0");
    add(index + MAX_INTERFACES + 7);
    network.gateway(three, "tcx")?;
    Ok(())
}

/// The kernel lets go of a link that lost its pin a moment later.
fn wait_for_none_attached(network: &Network) {
    wait_for(|| !network.ip("g", "-d link show wan0").contains("xdp"), "nothing to be attached");
}

pub(super) fn survives_restart_and_is_switched_off() -> Outcome {
    let network = network();
    let links = || {
        let pins = network.pin_dir().join("v*/fast_path");
        network.shell("g", &format!("ls {} | xargs", pins.display())).trim_end().to_owned()
    };
    let id = || network.shell("g", "ip -d link show wan0 | grep -o 'prog/xdp id [0-9]*'");
    let mut gateway = network.gateway(NATIVE, "tcx")?;
    network.assert_rest_open();
    let (forwarded, first, pinned) = (gateway.fast("forwarded"), id(), links());
    assert!(pinned.starts_with("native-") && pinned.split(' ').count() == 2, "{pinned}");
    gateway.kill();
    let mut gateway = network.gateway(NATIVE, "tcx")?;
    assert_eq!(links(), pinned, "the same links");
    assert_ne!(id(), first, "with the new program");
    assert!(gateway.fast("forwarded") >= forwarded, "counters go on");
    gateway.stop();
    assert_eq!(status(&network).unwrap().fast_path.len(), 2, "on without a gateway");

    let mut gateway = network.gateway("lan.10:generic,wan0:generic", "tcx")?;
    assert!(links().starts_with("generic-"), "{}", links());
    let before = gateway.fast("forwarded");
    network.assert_rest_open();
    assert!(gateway.fast("forwarded") > before, "in the other mode");
    gateway.kill();

    let mut gateway = network.gateway(BOTH, "tcx")?;
    assert_eq!(links(), "");
    assert_eq!(status(&network).unwrap().fast_path, [""; 0]);
    let before = gateway.fast("forwarded");
    network.assert_rest_open();
    assert_eq!(gateway.fast("forwarded"), before);
    gateway.kill();

    network.gateway(NATIVE, "tcx")?.kill();
    assert!(network.detach());
    wait_for_none_attached(&network);
    network.assert_rest_open();
    Ok(())
}

pub(super) fn follows_interfaces_made_anew() -> Outcome {
    let network = network();
    let mut gateway = network.gateway(NATIVE, "tcx")?;
    gateway.command(APPLY)?;
    network.ip("g", "link del lan.10");
    wait_for(|| status(&network).unwrap().fast_path == ["wan0"], "the interface to be gone");
    network.link_client();
    leave_tags(&network);
    wait_for(|| status(&network).unwrap().fast_path.len() == 2, "the interface to take part again");
    network.assert_targets_intercepted();
    let before = gateway.fast("forwarded");
    let deadline = std::time::Instant::now() + PATIENCE;
    while gateway.fast("forwarded") == before {
        network.assert_rest_open();
        assert!(std::time::Instant::now() < deadline, "nothing is forwarded");
    }
    Ok(())
}
