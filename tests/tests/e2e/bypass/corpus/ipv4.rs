//! IPv4 headers: options, lengths, versions, checksums, and destinations that mean the target.

use std::net::{IpAddr, Ipv4Addr};

use portreeve_tests::frames::{IPV4_HEADER, Ipv4, SYN, TCP, TCP_HEADER, sum_ipv4_header};
use portreeve_tests::topology::{GATEWAY4, OPEN4, TARGET4};

use super::super::case::{Case, Family, Fate, Lan, header4, segment4};
use super::super::scene::GHOST4;

/// Options, and whether a router forwards packets that have them.
const OPTIONS: [(&str, &[u8], bool); 17] = [
    ("end of options", &[0, 0, 0, 0], true),
    ("one no-operation", &[1], true),
    ("ten words of no-operations", &[1; 40], true),
    ("record route", &[7, 7, 4, 0, 0, 0, 0], true),
    ("record route, full", &[7, 7, 8, 10, 1, 1, 1], true),
    ("time stamps", &[68, 8, 5, 0, 0, 0, 0, 0], true),
    ("time stamps with addresses", &[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0], true),
    ("router alert", &[148, 4, 0, 0], true),
    ("stream identifier", &[136, 4, 0, 1], true),
    ("security", &[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0], true),
    ("an unknown option", &[94, 4, 1, 1], true),
    ("an option of length 0", &[94, 0, 1, 1], false),
    ("an option of length 1", &[94, 1, 1, 1], false),
    ("an option longer than the header", &[7, 12, 4, 0], false),
    ("record route of odd length", &[7, 6, 4, 0, 0, 0], false),
    ("record route that points into the segment", &[7, 3, 40, 0], true),
    ("commercial security of no domain", &[134, 6, 0, 0, 0, 3], false),
];

pub(super) fn cases(lan: &Lan) -> Vec<Case> {
    let mut cases: Vec<_> = OPTIONS.iter().map(|option| with_options(lan, option)).collect();
    cases.extend(source_routes(lan));
    cases.extend(headers(lan));
    cases.extend(lengths(lan));
    cases.extend(cut(lan));
    cases.extend(destinations(lan));
    cases
}

fn case(lan: &Lan, name: &str, packet: &[u8]) -> Case {
    Case::closed(format!("IPv4: {name}"), vec![lan.frame(packet)])
}

fn with_options(lan: &Lan, (name, options, forwarded): &(&str, &[u8], bool)) -> Case {
    let packet = Ipv4 { options: options.to_vec(), ..header4(TCP) }.packet(&segment4(SYN, b""));
    Case { forwarded: *forwarded, ..case(lan, name, &packet) }
}

/// A router that does not accept source routes drops them, whatever they say.
fn source_routes(lan: &Lan) -> Vec<Case> {
    let [a, b, c, d] = TARGET4.octets();
    let mut cases = Vec::new();
    for (kind, name) in [(131, "loose"), (137, "strict")] {
        for (first, to) in [(GATEWAY4, "the gateway"), (OPEN4, "an open address"), (TARGET4, "the target")] {
            for pointer in [4, 8] {
                let options = vec![kind, 7, pointer, a, b, c, d];
                let packet = Ipv4 { options, ..Ipv4::new(GHOST4, first, TCP) }.packet(&segment4(SYN, b""));
                let name = format!("{name} source route by {to}, pointer {pointer}");
                cases.push(case(lan, &name, &packet).for_nobody());
            }
        }
    }
    cases
}

/// The byte of the header that is changed, its value, and whether the checksum is mended after.
fn headers(lan: &Lan) -> Vec<Case> {
    let changes: [(&str, usize, u8, bool, bool); 14] = [
        ("version 0", 0, 0x05, true, false),
        ("version 5", 0, 0x55, true, false),
        ("version 6", 0, 0x65, true, false),
        ("a header of 4 words", 0, 0x44, true, false),
        ("a header as long as the packet", 0, 0x4a, true, false),
        ("a header longer than the packet", 0, 0x4f, true, false),
        ("congestion experienced", 1, 0x03, true, true),
        ("all bits of the type of service", 1, 0xff, true, true),
        ("don't fragment", 6, 0x40, true, true),
        ("a time to live of 0", 8, 0, true, false),
        ("a time to live of 1", 8, 1, true, false),
        ("a time to live of 2", 8, 2, true, true),
        ("a time to live of 255", 8, 255, true, true),
        ("a wrong checksum", 10, 0x55, false, false),
    ];
    let change = |(name, at, value, mended, forwarded): (&str, usize, u8, bool, bool)| {
        let mut packet = header4(TCP).packet(&segment4(SYN, b""));
        packet[at] = value;
        if mended {
            sum_ipv4_header(&mut packet);
        }
        Case { forwarded, ..case(lan, name, &packet) }
    };
    changes.into_iter().map(change).collect()
}

/// Total lengths that lie; what a frame has behind its packet is padding to every stack.
fn lengths(lan: &Lan) -> Vec<Case> {
    let lengths: [(&str, u16, bool); 8] = [
        ("a total length of 0", 0, false),
        ("a total length of 19", 19, false),
        ("a total length without the segment", 20, true),
        ("a total length up to the ports", 24, true),
        ("a total length up to the flags", 33, true),
        ("a total length that cuts the header by a byte", 39, true),
        ("a total length beyond the frame", 41, false),
        ("the greatest total length", u16::MAX, false),
    ];
    let mut cases = Vec::new();
    for (name, length, forwarded) in lengths {
        let mut packet = header4(TCP).packet(&segment4(SYN, b""));
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        sum_ipv4_header(&mut packet);
        cases.push(Case { forwarded, ..case(lan, name, &packet) });
    }
    let mut trailing = header4(TCP).packet(&segment4(SYN, b""));
    trailing.extend([0; 100]);
    cases.push(case(lan, "a hundred bytes behind the packet", &trailing));
    cases
}

/// Packets that end within the segment's header.
fn cut(lan: &Lan) -> Vec<Case> {
    let segment = segment4(SYN, b"");
    let mut cases: Vec<_> = (0..TCP_HEADER)
        .map(|bytes| {
            let packet = header4(TCP).packet(&segment[..bytes]);
            case(lan, &format!("{bytes} bytes of a segment"), &packet)
        })
        .collect();
    let whole = header4(TCP).packet(&segment);
    for bytes in [1, IPV4_HEADER - 1] {
        let name = format!("{bytes} bytes of a header");
        cases.push(case(lan, &name, &whole[..bytes]).for_nobody());
    }
    cases
}

/// Addresses that some stack may take for the server's.
fn destinations(lan: &Lan) -> Vec<Case> {
    let addresses = [
        "10.1.2.255",
        "10.255.255.255",
        "255.255.255.255",
        "224.0.0.1",
        "239.1.2.3",
        "127.0.0.1",
        "127.10.1.2",
        "0.0.0.0",
        "0.1.2.3",
        "240.1.2.3",
    ];
    let addresses = addresses.iter().filter_map(|address| address.parse::<Ipv4Addr>().ok());
    addresses
        .map(|dst| {
            let packet = Family::syn_between(GHOST4.into(), IpAddr::V4(dst));
            case(lan, &format!("SYN to {dst}"), &packet).for_nobody().with_fate(Fate::Closed)
        })
        .collect()
}
