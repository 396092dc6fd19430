//! Packets that begin with the IP header: users and targets are behind TUN devices.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};

use crate::frames::{ETHERNET, SYN, TCP, UDP, V4, datagram, segment, tcp, udp, v6_fragment};
use crate::network::{APPLY, CLIENTS, Network, OPEN, TARGETS, wait_for};
use crate::steering::{BOTH, status};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("packets_without_frames_are_steered", steered),
    ("packets_without_frames_are_steered_by_clsact", steered_by_clsact),
    ("packets_without_frames_hide_no_target", hide_no_target),
    ("packets_without_frames_are_turned_around_where_policy_blocks", turned_around),
    ("answers_without_frames_come_back", answers_come_back),
    ("interface_without_frames_made_anew_is_attached", made_anew),
];

/// More fragments follow.
const FIRST_PART: u16 = 0x2000;

fn steered() -> Outcome {
    is_steered("tcx")
}

fn steered_by_clsact() -> Outcome {
    is_steered("clsact")
}

fn is_steered(mode: &str) -> Outcome {
    let network = Network::without_frames();
    let mut gateway = network.gateway(BOTH, mode)?;
    gateway.command(APPLY)?;
    network.assert_targets_intercepted();
    network.assert_rest_open();
    assert_eq!(gateway.counter("steered_new"), 2);
    for dropped in ["no_listener", "fragment", "unparsable", "reverse_path", "sum", "assign_failed"] {
        assert_eq!(gateway.counter(&format!("dropped_{dropped}")), 0, "{dropped}");
    }
    gateway.kill();
    network.assert_targets_closed();
    network.assert_rest_open();
    let gateway = network.gateway(BOTH, mode)?;
    network.assert_targets_intercepted();
    assert_eq!(status(&network).unwrap().interfaces, ["lan.10", "wan0"]);
    gateway.stop();
    network.assert_targets_closed();
    Ok(())
}

fn hide_no_target() -> Outcome {
    let network = Network::without_frames();
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    let [v4, v6] = TARGETS.map(|to| to.parse::<IpAddr>().unwrap());
    let (IpAddr::V4(to4), IpAddr::V6(to6)) = (v4, v6) else { unreachable!() };
    let part = |protocol| V4 { dst: to4, protocol, options: &[], fragment: FIRST_PART };
    let of_another = |to, at: usize, source: &[u8]| {
        let mut frame = segment(to, 22, SYN);
        frame[ETHERNET + at..ETHERNET + at + source.len()].copy_from_slice(source);
        frame
    };
    let source6: Ipv6Addr = "fd77:2::77".parse()?;
    for (counter, frame) in [
        ("dropped_fragment", part(TCP).frame(&tcp(22, SYN))),
        ("dropped_fragment", v6_fragment(to6, &[], 1, TCP, &tcp(22, SYN))),
        ("dropped_unparsable", segment(v4, 22, SYN)[..ETHERNET + 30].to_vec()),
        ("dropped_reverse_path", of_another(v4, 12, &[10, 77, 2, 77])),
        ("dropped_reverse_path", of_another(v6, 8, &source6.octets())),
        ("passed_not_target", part(UDP).frame(&udp(22))),
        ("passed_not_target", datagram(v6, 22)),
    ] {
        let before = gateway.counter(counter);
        send(&network, &frame[ETHERNET..]);
        wait_for(|| gateway.counter(counter) > before, counter);
    }
    assert_eq!(gateway.counter("steered_new"), 0);
    Ok(())
}

/// Sends a packet of whatever source from the client.
fn send(network: &Network, packet: &[u8]) {
    let packet = packet.to_vec();
    network.inside("c", move || {
        let (family, to) = if packet[0] >> 4 == 4 {
            (AddressFamily::Inet, TARGETS[0])
        } else {
            (AddressFamily::Inet6, TARGETS[1])
        };
        let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
        let to = SockaddrStorage::from(SocketAddr::new(to.parse().unwrap(), 0));
        sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
    });
}

fn turned_around() -> Outcome {
    let network = Network::without_frames();
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(&APPLY.replace("apply", "block"))?;
    for to in TARGETS {
        let error = network.connect("c", to, 22).expect_err(to);
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{to}: {error}");
    }
    assert_eq!(gateway.counter("dropped_policy"), 2);
    for to in OPEN {
        assert_eq!(network.greeting(to, 22)?, "server");
    }
    Ok(())
}

fn answers_come_back() -> Outcome {
    let network = Network::without_frames();
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    assert_eq!(gateway.command(&format!("dial {} {}:22", CLIENTS[0], TARGETS[0]))?, "server");
    assert!(gateway.counter("steered_return") >= 3, "SYN-ACK, the greeting, and its end");
    Ok(())
}

fn made_anew() -> Outcome {
    let network = Network::without_frames();
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    network.assert_targets_intercepted();
    for side in ["g", "c"] {
        network.ip(side, if side == "g" { "link del lan.10" } else { "link del eth0" });
    }
    network.link_client();
    let attached = || status(&network).is_some_and(|found| found.interfaces == ["lan.10", "wan0"]);
    wait_for(attached, "the attachment");
    network.assert_targets_intercepted();
    Ok(())
}
