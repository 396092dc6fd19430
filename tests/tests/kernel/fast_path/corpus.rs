//! Frames of every kind that the fast path tells apart, and what it must count them as.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frames::{
    ACK, AUTHENTICATION, CUSTOMER, DESTINATION_OPTIONS, ETHERNET, HOP_BY_HOP, ICMPV6, SYN, TCP, UDP, V4,
    datagram, ethernet, segment, tagged, tcp, udp, v6, v6_fragment, with_header_checksum,
};

const ICMP: u8 = 1;

/// Sources of frames: the client, one that is nobody's, one behind the other interface, the gateway's own.
pub(super) const SOURCES: [&str; 5] = ["10.77.1.2", "fd77:1::2", "10.99.0.1", "10.77.2.77", "10.77.2.1"];

/// One frame.
pub(super) struct Case {
    pub(super) name: &'static str,
    frame: Vec<u8>,
    /// Whether it keeps the addresses that the frame has.
    addressed: bool,
    /// The counter that must move.
    pub(super) reason: &'static str,
}

impl Case {
    /// The frame from `host` to `gateway`.
    pub(super) fn frame(&self, gateway: [u8; 6], host: [u8; 6]) -> Vec<u8> {
        let mut frame = self.frame.clone();
        if !self.addressed {
            frame[..6].copy_from_slice(&gateway);
            frame[6..12].copy_from_slice(&host);
        }
        frame
    }
}

/// An ICMP echo request whose last bytes are `mark`.
pub(super) fn echo(dst: Ipv4Addr, mark: u16) -> Vec<u8> {
    let [high, low] = mark.to_be_bytes();
    let sum = !(0x0800 + u16::from_be_bytes([high, low]));
    let [a, b] = sum.to_be_bytes();
    V4 { dst, protocol: ICMP, options: &[], fragment: 0x4000 }.frame(&[8, 0, a, b, 0, 0, high, low])
}

fn case(name: &'static str, frame: Vec<u8>, reason: &'static str) -> Case {
    Case { name, frame: with_header_checksum(frame), addressed: false, reason }
}

/// The frame as it is, a wrong checksum included.
fn raw(name: &'static str, frame: Vec<u8>, reason: &'static str) -> Case {
    Case { name, frame, addressed: false, reason }
}

fn with(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[ETHERNET + offset..ETHERNET + offset + bytes.len()].copy_from_slice(bytes);
    frame
}

fn padded(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.resize(length, 0x55);
    frame
}

pub(super) fn corpus() -> Vec<Case> {
    let open = Ipv4Addr::new(10, 77, 2, 3);
    let open6: Ipv6Addr = "fd77:2::3".parse().unwrap();
    [forwarded(open, open6), headers(open, open6), addresses(open, open6), ends(open, open6), targets()]
        .into_iter()
        .flatten()
        .collect()
}

fn forwarded(open: Ipv4Addr, open6: Ipv6Addr) -> Vec<Case> {
    let yes = "forwarded";
    let v4 =
        |protocol, payload: &[u8]| V4 { dst: open, protocol, options: &[], fragment: 0x4000 }.frame(payload);
    let long = |header: Vec<u8>, length: usize| [header, vec![0xa5; length]].concat();
    vec![
        case("TCP to a closed port", segment(open.into(), 99, SYN), yes),
        case("TCP to a closed port, IPv6", segment(open6.into(), 99, SYN), yes),
        case("TCP from no connection", segment(open.into(), 22, ACK), yes),
        case("UDP", datagram(open.into(), 5353), yes),
        case("UDP, IPv6", datagram(open6.into(), 5353), yes),
        case("echo request", echo(open, 1), yes),
        case("echo reply", v4(ICMP, &[0, 0, 0, 0, 0, 0, 0, 9]), yes),
        case("as large as the way out", v4(UDP, &long(udp(7), 1400 - 28)), yes),
        case("as large as the way out, IPv6", v6(open6, &[], UDP, &long(udp(7), 1400 - 48)), yes),
        case("filled up to the shortest frame", padded(datagram(open.into(), 7), 60), yes),
        case("two hops left", with(datagram(open.into(), 7), 8, &[2]), yes),
        case("most hops", with(datagram(open.into(), 7), 8, &[255]), yes),
        case("two hops left, IPv6", with(datagram(open6.into(), 7), 7, &[2]), yes),
        case("marked for a service class", with(datagram(open.into(), 7), 1, &[0xb8]), yes),
        case("with a flow label", with(datagram(open6.into(), 7), 0, &[0x6b, 0x81, 0x23, 0x45]), yes),
        case(
            "identification that overflows the checksum",
            with(datagram(open.into(), 7), 4, &[0xff, 0xff]),
            yes,
        ),
        case("other port of a target", segment("10.77.2.2".parse().unwrap(), 2222, SYN), yes),
        case("UDP to a target's port", datagram("10.77.2.2".parse().unwrap(), 22), yes),
        case("echo to a target", echo(Ipv4Addr::new(10, 77, 2, 2), 3), yes),
        case("source behind another interface", with(datagram(open.into(), 7), 12, &[10, 77, 2, 77]), yes),
    ]
}

fn headers(open: Ipv4Addr, open6: Ipv6Addr) -> Vec<Case> {
    let (header, frame) = ("passed_header", "passed_frame");
    let v4 = |options: &[u8], fragment, payload: &[u8]| {
        V4 { dst: open, protocol: UDP, options, fragment }.frame(payload)
    };
    let other = |protocol| V4 { dst: open, protocol, options: &[], fragment: 0 }.frame(&[0; 16]);
    let with_long = |frame: Vec<u8>| with(frame, 2, &[0, 60]);
    let error = [3, 3, 0, 0, 0, 0, 0, 0].repeat(4);
    let mut cases = vec![
        case("option that does nothing", v4(&[1, 1, 1, 0], 0, &udp(7)), header),
        case("record route", v4(&[7, 7, 4, 0, 0, 0, 0, 0], 0, &udp(7)), header),
        case("first fragment", v4(&[], 0x2000, &[udp(7), vec![0; 8]].concat()), header),
        case("last fragment", v4(&[], 2, &[0; 8]), header),
        raw(
            "wrong checksum",
            with(with_header_checksum(datagram(open.into(), 7)), 10, &[0x12, 0x34]),
            header,
        ),
        case("longer than its frame", with_long(datagram(open.into(), 7)), header),
        case("frame longer than its packet", padded(datagram(open.into(), 7), 90), header),
        case("frame longer than its packet, IPv6", padded(datagram(open6.into(), 7), 90), header),
        case("TCP that ends in its header", with(segment(open.into(), 99, SYN), 2, &[0, 30]), header),
        case("wrong version", with(datagram(open.into(), 7), 0, &[0x65]), header),
        case("fragment, IPv6", v6_fragment(open6, &[], 0x0001, UDP, &udp(7)), "passed_protocol"),
        case("802.1Q tag", tagged(&with_header_checksum(datagram(open.into(), 7)), &[(CUSTOMER, 5)]), frame),
        case("unknown EtherType", ethernet(0x88b5, &[0; 46]), frame),
        case(
            "ICMP error",
            V4 { dst: open, protocol: ICMP, options: &[], fragment: 0 }.frame(&error),
            "passed_protocol",
        ),
        case("echo, IPv6", v6(open6, &[], ICMPV6, &[128, 0, 0, 0, 0, 0, 0, 1]), "passed_protocol"),
        case("ICMP of IPv4 in IPv6", v6(open6, &[], ICMP, &[8, 0, 0, 0, 0, 0, 0, 1]), "passed_protocol"),
    ];
    for protocol in [2, 4, 41, 47, 50, 132] {
        cases.push(case("protocol without ports that are known", other(protocol), "passed_protocol"));
    }
    for chain in [HOP_BY_HOP, DESTINATION_OPTIONS, AUTHENTICATION] {
        cases.push(case("extension header", v6(open6, &[chain], UDP, &udp(7)), "passed_protocol"));
    }
    cases
}

fn addresses(open: Ipv4Addr, open6: Ipv6Addr) -> Vec<Case> {
    let (address, frame) = ("passed_address", "passed_frame");
    let foreign = |mac: [u8; 6], packet: Vec<u8>| {
        let mut packet = with_header_checksum(packet);
        packet[..6].copy_from_slice(&mac);
        packet
    };
    let to = |name, dst: &str, reason| case(name, datagram(dst.parse::<IpAddr>().unwrap(), 7), reason);
    let from = |name, src: &str, reason| match src.parse::<IpAddr>().unwrap() {
        IpAddr::V4(src) => case(name, with(datagram(open.into(), 7), 12, &src.octets()), reason),
        IpAddr::V6(src) => case(name, with(datagram(open6.into(), 7), 8, &src.octets()), reason),
    };
    let raw = |name, frame, reason| Case { name, frame, addressed: true, reason };
    vec![
        raw("to a foreign hardware address", foreign([2, 9, 9, 9, 9, 9], datagram(open.into(), 7)), frame),
        raw("to all hardware addresses", foreign([0xff; 6], datagram(open.into(), 7)), frame),
        raw(
            "to a multicast hardware address",
            foreign([1, 0, 0x5e, 1, 1, 1], datagram(open.into(), 7)),
            frame,
        ),
        to("multicast", "239.1.1.1", address),
        to("multicast, IPv6", "ff0e::1", address),
        to("limited broadcast", "255.255.255.255", address),
        to("loopback", "127.0.0.1", address),
        to("link-local", "169.254.1.1", address),
        to("link-local, IPv6", "fe80::1", address),
        to("loopback, IPv6", "::1", address),
        to("broadcast of a network", "10.77.2.255", "passed_route"),
        from("from loopback", "127.0.0.1", address),
        from("from multicast", "224.0.0.5", address),
        from("from nobody", "0.0.0.0", address),
        from("from link-local, IPv6", "fe80::77", address),
        from("from multicast, IPv6", "ff02::1", address),
        from("from nobody, IPv6", "::", address),
        from("from the gateway itself", "10.77.2.1", "passed_source"),
        from("from a broadcast address", "10.77.1.255", "passed_source"),
        from("from where no route leads", "10.99.0.1", "forwarded"),
    ]
}

fn ends(open: Ipv4Addr, open6: Ipv6Addr) -> Vec<Case> {
    let large = |fragment, protocol| {
        V4 { dst: open, protocol, options: &[], fragment }.frame(&[udp(7), vec![1; 1400 - 27]].concat())
    };
    let to = |name, dst: &str, reason| case(name, datagram(dst.parse::<IpAddr>().unwrap(), 7), reason);
    vec![
        case("last hop", with(datagram(open.into(), 33_434), 8, &[1]), "passed_hop_limit"),
        case("no hop", with(datagram(open.into(), 33_434), 8, &[0]), "passed_hop_limit"),
        case("last hop, IPv6", with(datagram(open6.into(), 33_434), 7, &[1]), "passed_hop_limit"),
        case("last hop of an echo", with(echo(open, 5), 8, &[1]), "passed_hop_limit"),
        case("too big and not to be fragmented", large(0x4000, UDP), "passed_too_big"),
        case("too big", large(0, UDP), "passed_too_big"),
        case("too big, IPv6", v6(open6, &[], UDP, &[udp(7), vec![1; 1400 - 47]].concat()), "passed_too_big"),
        case("echo to the gateway", echo(Ipv4Addr::new(10, 77, 2, 1), 6), "passed_route"),
        to("closed port of the gateway", "10.77.1.1", "passed_route"),
        to("closed port of the gateway, IPv6", "fd77:1::1", "passed_route"),
        to("nowhere to go", "192.0.2.1", "passed_route"),
        to("nowhere to go, IPv6", "2001:db8::1", "passed_route"),
        to("out by where it came in", "10.77.1.2", "passed_egress"),
        to("out by where it came in, IPv6", "fd77:1::2", "passed_egress"),
    ]
}

/// Nothing of these reaches the server; their answers are the listener's affair, and there is none.
fn targets() -> Vec<Case> {
    let target: IpAddr = "10.77.2.2".parse().unwrap();
    let target6: IpAddr = "fd77:2::2".parse().unwrap();
    let of_target = |mut frame: Vec<u8>, at: usize| {
        frame[ETHERNET + at..ETHERNET + at + 2].copy_from_slice(&22_u16.to_be_bytes());
        frame
    };
    let v4 = V4 { dst: Ipv4Addr::new(10, 77, 2, 3), protocol: TCP, options: &[], fragment: 0 }
        .frame(&tcp(99, ACK));
    // Out by the interface that it came in by, if the source were not looked at.
    let back = with(of_target(v4, 20), 12, &[10, 77, 2, 2]);
    vec![
        case("TCP to a target", segment(target, 22, ACK), "passed_target"),
        case("TCP to a target, IPv6", segment(target6, 22, ACK), "passed_target"),
        case("TCP from a target", back, "passed_target"),
    ]
}
