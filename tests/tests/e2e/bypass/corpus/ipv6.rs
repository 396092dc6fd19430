//! IPv6: what can stand between the header and TCP, and destinations that mean the target.

use std::net::{IpAddr, Ipv6Addr};

use portreeve_tests::frames::{
    AUTHENTICATION, DESTINATION_OPTIONS, Extension, HOP_BY_HOP, Ipv6, ROUTING, SYN, TCP, TCP_HEADER,
    extension,
};
use portreeve_tests::topology::{GATEWAY6, OPEN6, TARGET6};

use super::super::case::{Case, Family, Fate, Lan, header6, segment6};
use super::super::scene::GHOST6;

const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// Hop-by-hop options, and whether a router forwards packets that have them (RFC 8200, section 4.2).
const HOP_OPTIONS: [(&str, &[u8], bool); 12] = [
    ("six times Pad1", &[0, 0, 0, 0, 0, 0], true),
    ("PadN", &[1, 4, 0, 0, 0, 0], true),
    ("PadN that is not empty", &[1, 4, 1, 2, 3, 4], false),
    ("PadN of 12 bytes", &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], false),
    ("router alert", &[5, 2, 0, 0, 1, 0], true),
    ("router alert of odd length", &[5, 1, 0, 1, 1, 0], false),
    ("an unknown option to skip", &[0x1e, 4, 1, 2, 3, 4], true),
    ("an unknown option that may change", &[0x3e, 4, 1, 2, 3, 4], true),
    ("an unknown option to discard", &[0x5e, 4, 1, 2, 3, 4], false),
    ("an unknown option to complain of", &[0x9e, 4, 1, 2, 3, 4], false),
    ("an option longer than the header", &[0x1e, 60, 1, 2, 3, 4], false),
    ("a jumbo payload that is none", &[0xc2, 4, 0, 0, 0, 28], false),
];

pub(super) fn cases(lan: &Lan) -> Vec<Case> {
    let mut cases = chains(lan);
    cases.extend(hop_options(lan));
    cases.extend(routes(lan));
    cases.extend(unknown(lan));
    cases.extend(lengths(lan));
    cases.extend(destinations(lan));
    cases
}

fn case(lan: &Lan, name: &str, packet: &[u8]) -> Case {
    Case::closed(format!("IPv6: {name}"), vec![lan.frame(packet)])
}

fn behind(chain: Vec<Extension>) -> Vec<u8> {
    Ipv6 { chain, ..header6(TCP) }.packet(&segment6(SYN, b""))
}

fn chains(lan: &Lan) -> Vec<Case> {
    let kinds = [HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING, AUTHENTICATION, MOBILITY, HOST_IDENTITY, SHIM6];
    let mut cases = Vec::new();
    for kind in kinds {
        cases.push(case(lan, &format!("one header {kind}"), &behind(vec![extension(kind)])));
        let two = vec![extension(DESTINATION_OPTIONS), extension(kind)];
        cases.push(case(lan, &format!("destination options, then header {kind}"), &behind(two)));
    }
    for count in (2..=12).chain([40]) {
        let chain = vec![extension(DESTINATION_OPTIONS); count];
        cases.push(case(lan, &format!("{count} destination options"), &behind(chain)));
    }
    let every = [&[HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING], &kinds[3..]].concat();
    cases.push(case(lan, "every kind in turn", &behind(every.into_iter().map(extension).collect())));
    let mut long = extension(DESTINATION_OPTIONS);
    long.1 = [&[0, 127, 1, 0xff][..], &[0; 1020]].concat();
    cases.push(case(lan, "destination options of 1024 bytes", &behind(vec![long.clone()])));
    let mut home = extension(DESTINATION_OPTIONS);
    // RFC 6275, section 6.3: the source is to be read as another.
    home.1 = [&[0, 2, 1, 2, 0, 0, 201, 16][..], &OPEN6.octets()].concat();
    cases.push(case(lan, "a home address", &behind(vec![home])));
    let mut lying = extension(DESTINATION_OPTIONS);
    lying.1[1] = 200;
    cases.push(case(lan, "destination options longer than the packet", &behind(vec![lying])));
    let upper = Ipv6 { chain: vec![extension(DESTINATION_OPTIONS)], ..header6(TCP) };
    for bytes in 0..TCP_HEADER {
        let packet = upper.packet(&segment6(SYN, b"")[..bytes]);
        cases.push(case(lan, &format!("options and {bytes} bytes of a segment"), &packet));
    }
    cases
}

fn hop_options(lan: &Lan) -> Vec<Case> {
    let mut cases: Vec<_> = HOP_OPTIONS
        .iter()
        .map(|(name, options, forwarded)| {
            let words = u8::try_from((options.len() + 2) / 8 - 1).unwrap_or_default();
            let header = (HOP_BY_HOP, [&[0, words][..], options].concat());
            Case { forwarded: *forwarded, ..case(lan, &format!("hop by hop: {name}"), &behind(vec![header])) }
        })
        .collect();
    let jumbo = (HOP_BY_HOP, vec![0, 0, 0xc2, 4, 0, 1, 0, 0]);
    let mut packet = behind(vec![jumbo]);
    packet[4..6].fill(0);
    cases.push(case(lan, "hop by hop: a jumbogram", &packet).for_nobody());
    cases
}

/// Routing headers (RFC 8200 section 4.4, RFC 6275, RFC 6554, RFC 8754): kind, and segments left.
fn routes(lan: &Lan) -> Vec<Case> {
    let header = |kind: u8, left: u8, hop: Ipv6Addr| {
        (ROUTING, [&[0, 2, kind, left, 0, 0, 0, 0][..], &hop.octets()].concat())
    };
    let mut cases = Vec::new();
    for kind in [0, 1, 2, 3, 4, 5, 253] {
        for left in [0, 1, 255] {
            let name = format!("routing header of type {kind}, {left} left");
            cases.push(case(lan, &name, &behind(vec![header(kind, left, OPEN6)])));
            for (first, by) in [(GATEWAY6, "the gateway"), (OPEN6, "an open address")] {
                let chain = vec![header(kind, left, TARGET6)];
                let packet = Ipv6 { chain, ..Ipv6::new(GHOST6, first, TCP) }.packet(&segment6(SYN, b""));
                let by_open = first == OPEN6;
                let case = case(lan, &format!("{name}, to the target by {by}"), &packet);
                // To an open address it arrives as what it says; the server's stack routes no further.
                let fate = if by_open { Fate::NotTcp } else { Fate::Closed };
                cases.push(Case { forwarded: by_open, ..case.with_fate(fate) });
            }
        }
    }
    cases
}

/// What may be anything, TCP too, to a stack that knows it.
fn unknown(lan: &Lan) -> Vec<Case> {
    const ESP: u8 = 50;
    let numbers = [ESP, 61, 63, 99, 114, 138, 142, 147, 200, 253, 254, 255];
    let mut cases = Vec::new();
    for number in numbers {
        let bare = header6(number).packet(&segment6(SYN, b""));
        cases.push(case(lan, &format!("TCP as protocol {number}"), &bare));
        let chain = vec![extension(DESTINATION_OPTIONS)];
        let behind = Ipv6 { chain, ..header6(number) }.packet(&segment6(SYN, b""));
        cases.push(case(lan, &format!("TCP as protocol {number} behind options"), &behind));
    }
    cases
}

/// Lengths, versions and hop limits.
fn lengths(lan: &Lan) -> Vec<Case> {
    let changes: [(&str, usize, &[u8], bool); 13] = [
        ("version 0", 0, &[0x00], false),
        ("version 4", 0, &[0x45], false),
        ("version 7", 0, &[0x70], false),
        ("a flow label", 1, &[0xf, 0xff, 0xff], true),
        ("a traffic class", 0, &[0x6f, 0xf0], true),
        ("a payload length of 0", 4, &[0, 0], true),
        ("a payload length up to the ports", 4, &[0, 4], true),
        ("a payload length that cuts the header by a byte", 4, &[0, 19], true),
        ("a payload length beyond the frame", 4, &[0, 21], false),
        ("the greatest payload length", 4, &[0xff, 0xff], false),
        ("a hop limit of 0", 7, &[0], false),
        ("a hop limit of 1", 7, &[1], false),
        ("a hop limit of 2", 7, &[2], true),
    ];
    let change = |(name, at, bytes, forwarded): (&str, usize, &[u8], bool)| {
        let mut packet = behind(Vec::new());
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        let mut frame = lan.frame(&packet);
        frame[12..14].copy_from_slice(&portreeve_tests::frames::IPV6.to_be_bytes());
        Case { forwarded, ..Case::closed(format!("IPv6: {name}"), vec![frame]) }
    };
    let mut cases: Vec<_> = changes.into_iter().map(change).collect();
    let mut trailing = behind(Vec::new());
    trailing.extend([0; 100]);
    cases.push(case(lan, "a hundred bytes behind the packet", &trailing));
    for bytes in 0..TCP_HEADER {
        let packet = header6(TCP).packet(&segment6(SYN, b"")[..bytes]);
        cases.push(case(lan, &format!("{bytes} bytes of a segment"), &packet));
    }
    cases
}

/// Addresses that hold the target's IPv4 address, or that any host may take for its own. Where a
/// translator (NAT64, 6to4) stands in the way, its prefix is a target's address like any other.
fn destinations(lan: &Lan) -> Vec<Case> {
    let addresses = [
        "::ffff:10.1.2.3",
        "::10.1.2.3",
        "::ffff:0:10.1.2.3",
        "64:ff9b::10.1.2.3",
        "64:ff9b:1::10.1.2.3",
        "2002:a01:203::1",
        "2001::f5fe:fdfc",
        "fe80::5efe:10.1.2.3",
        "fe80::3",
        "ff02::1",
        "ff05::1",
        "ff0e::1",
        "ff02::1:ff00:3",
        "::1",
        "::",
        "fd00:1:2::",
    ];
    let addresses = addresses.iter().filter_map(|address| address.parse::<Ipv6Addr>().ok());
    addresses
        .map(|dst| {
            let packet = Family::syn_between(GHOST6.into(), IpAddr::V6(dst));
            case(lan, &format!("SYN to {dst}"), &packet).for_nobody()
        })
        .collect()
}
