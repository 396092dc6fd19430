//! A SYN to the target inside of another packet.
//!
//! The gateway looks into no tunnel. One that ends on a server passes as what it is, and is a way
//! around only where the server takes it out again, which a kernel does for tunnels that were set
//! up. So the outer packet may arrive, and the server's stack must not find TCP in it.

use std::net::IpAddr;

use portreeve_tests::frames::{self, AUTHENTICATION, IPV4, IPV6, UDP, udp};

use super::super::case::{Case, FAMILIES, Family, Fate, Lan};

/// Protocols that carry packets, and what stands between the headers.
const PROTOCOLS: [(&str, u8, &[u8]); 11] = [
    ("IP in IP", 4, &[]),
    ("IPv6 in IP", 41, &[]),
    ("GRE", 47, &[0, 0, 8, 0]),
    ("GRE with IPv6", 47, &[0, 0, 0x86, 0xdd]),
    ("GRE with a key", 47, &[0x20, 0, 8, 0, 0, 0, 0, 1]),
    ("ESP of no association", 50, &[0, 0, 1, 0, 0, 0, 0, 1]),
    ("IP compression", 108, &[4, 0, 0, 2]),
    ("L2TP", 115, &[0, 0, 0, 1]),
    ("MPLS in IP", 137, &[0, 1, 1, 64]),
    ("UDP-Lite", 136, &[0x9c, 0x40, 0, 22, 0, 8, 0, 0]),
    ("SCTP", 132, &[0x9c, 0x40, 0, 22, 0, 0, 0, 0, 0, 0, 0, 0]),
];

/// UDP ports of tunnels, and what stands between the headers.
const PORTS: [(&str, u16, &[u8]); 9] = [
    ("FOU", 5555, &[]),
    ("GUE", 6080, &[0, 4, 0, 0]),
    ("GUE without a header", 6080, &[]),
    ("GTP", 2152, &[0x30, 0xff, 0, 40, 0, 0, 0, 1]),
    ("Teredo", 3544, &[]),
    ("ESP in UDP", 4500, &[0, 0, 1, 0, 0, 0, 0, 1]),
    ("L2TP in UDP", 1701, &[0, 2, 0, 1, 0, 1]),
    ("MPLS in UDP", 6635, &[0, 1, 1, 64]),
    ("SSH's port", 22, &[]),
];

pub(super) fn cases(lan: &Lan) -> Vec<Case> {
    let mut cases = Vec::new();
    for outer in &FAMILIES {
        for (at, dst) in [("the target", outer.target), ("an open address", outer.open)] {
            for inner in &FAMILIES {
                cases.extend(to(lan, outer, inner, (at, dst)));
            }
        }
        for inner in &FAMILIES {
            let to_gateway = to(lan, outer, inner, ("the gateway", outer.gateway));
            cases.extend(to_gateway.into_iter().map(|case| case.for_nobody().with_fate(Fate::Closed)));
        }
    }
    cases
}

fn to(lan: &Lan, outer: &Family, inner: &Family, (at, dst): (&str, IpAddr)) -> Vec<Case> {
    let packet = inner.syn();
    let case = |name: &str, bytes: Vec<u8>| {
        let name = format!("{} in {name} over {} to {at}", inner.name, outer.name);
        Case::closed(name, vec![lan.frame(&bytes)]).with_fate(Fate::NotTcp)
    };
    let mut cases = Vec::new();
    for (name, protocol, between) in PROTOCOLS {
        let bytes = [between, &packet].concat();
        cases.push(case(name, frames::packet(outer.src, dst, protocol, &bytes)));
    }
    let authenticated = [&[4, 4, 0, 0][..], &[0; 20], &packet].concat();
    let authenticated = frames::packet(outer.src, dst, AUTHENTICATION, &authenticated);
    cases.push(case("an authenticated packet", authenticated));
    let mut frame = lan.frame(&packet);
    frame[..6].copy_from_slice(&lan.server);
    let ethertype = if inner.src.is_ipv4() { IPV4 } else { IPV6 };
    let [high, low] = ethertype.to_be_bytes();
    let framed: [(&str, u16, Vec<u8>); 3] = [
        ("VXLAN", 4789, [&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame].concat()),
        ("Geneve", 6081, [&[0, 0, 0x65, 0x58, 0, 0, 1, 0][..], &frame].concat()),
        ("Geneve without a frame", 6081, [&[0, 0, high, low, 0, 0, 1, 0][..], &packet].concat()),
    ];
    let ports = PORTS.iter().map(|(name, port, between)| (*name, *port, [between, &packet[..]].concat()));
    for (name, port, bytes) in ports.chain(framed) {
        let datagram = udp(outer.src, dst, port, &bytes);
        cases.push(case(name, frames::packet(outer.src, dst, UDP, &datagram)));
    }
    cases
}
