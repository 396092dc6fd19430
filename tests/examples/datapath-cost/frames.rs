//! The frames that are measured with: eighty bytes, or as many as the packet has, and many of them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a frame of the kernel programs that measure.
pub(crate) const LENGTH: usize = 80;
/// Most frames of one kind.
pub(crate) const MANY: u32 = 1 << 16;

/// First address of the targets, which are as many addresses in a row.
pub(crate) const TARGETS: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 0);
/// Port of the targets.
pub(crate) const PORT: u16 = 22;

/// A kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TCP to a port that no target has.
    OtherPort,
    /// TCP to the port of targets, at addresses that are none.
    OtherAddress,
    /// TCP to targets; where there are none, to the addresses that would be.
    Target,
    /// UDP.
    Udp,
    /// ICMP echo requests.
    Echo,
    /// TCP by IPv6 to a port that no target has.
    OtherPortV6,
    /// TCP by IPv6 to the port of targets, at addresses that are none.
    OtherAddressV6,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::OtherPort,
        Self::OtherAddress,
        Self::Target,
        Self::Udp,
        Self::Echo,
        Self::OtherPortV6,
        Self::OtherAddressV6,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OtherPort => "TCP, other port",
            Self::OtherAddress => "TCP, target port, other address",
            Self::Target => "TCP to a target",
            Self::Udp => "UDP",
            Self::Echo => "ICMP echo",
            Self::OtherPortV6 => "IPv6 TCP, other port",
            Self::OtherAddressV6 => "IPv6 TCP, target port, other address",
        }
    }
}

/// One of a kind: `n` varies it; among `targets` targets.
pub(crate) fn frame(kind: Kind, n: u32, targets: u32, macs: [[u8; 6]; 2]) -> [u8; LENGTH] {
    let spread = n.wrapping_mul(0x9e37_79b1);
    let target = Ipv4Addr::from(u32::from(TARGETS) + spread % targets.max(1));
    let other = Ipv4Addr::from(u32::from(Ipv4Addr::new(12, 0, 0, 0)) + spread % (1 << 24));
    match kind {
        Kind::OtherPort => ipv4(macs, other, 6, 443),
        Kind::OtherAddress => ipv4(macs, other, 6, PORT),
        Kind::Target => ipv4(macs, target, 6, PORT),
        Kind::Udp => ipv4(macs, other, 17, PORT),
        Kind::Echo => ipv4(macs, other, 1, 0),
        Kind::OtherPortV6 => ipv6(macs, spread, 443),
        Kind::OtherAddressV6 => ipv6(macs, spread, PORT),
    }
}

/// A SYN to a target from one of 65,536 sources.
pub(crate) fn syn(n: u32, targets: u32, macs: [[u8; 6]; 2]) -> [u8; LENGTH] {
    let mut syn = frame(Kind::Target, n, targets, macs);
    let [_, _, c, d] = n.to_be_bytes();
    syn[26..30].copy_from_slice(&[10, 3, c, d]);
    syn[47] = 2;
    // Nothing behind the header, which the checksum does not cover then.
    sum_ipv4(&mut syn);
    sum_tcp(&mut syn);
    syn
}

/// The frame with one hop left.
pub(crate) fn last_hop(mut frame: [u8; LENGTH]) -> [u8; LENGTH] {
    if frame[12..14] == [8, 0] {
        frame[22] = 1;
        sum_ipv4(&mut frame);
    } else {
        frame[21] = 1;
    }
    frame
}

fn ipv4(macs: [[u8; 6]; 2], dst: Ipv4Addr, protocol: u8, port: u16) -> [u8; LENGTH] {
    let mut frame = begin(macs, 0x0800);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 66, 0, 1, 0x40, 0, 64, protocol]);
    frame[26..30].copy_from_slice(&[10, 1, 1, 2]);
    frame[30..34].copy_from_slice(&dst.octets());
    transport(&mut frame[34..], protocol, port);
    sum_ipv4(&mut frame);
    frame
}

fn ipv6(macs: [[u8; 6]; 2], spread: u32, port: u16) -> [u8; LENGTH] {
    let mut frame = begin(macs, 0x86dd);
    frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 26, 6, 64]);
    frame[22..38].copy_from_slice(&Ipv6Addr::new(0xfd00, 1, 1, 0, 0, 0, 0, 2).octets());
    frame[38..54].copy_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).octets());
    frame[50..54].copy_from_slice(&spread.to_be_bytes());
    transport(&mut frame[54..], 6, port);
    frame
}

fn begin([dst, src]: [[u8; 6]; 2], ethertype: u16) -> [u8; LENGTH] {
    let mut frame = [0; LENGTH];
    frame[..6].copy_from_slice(&dst);
    frame[6..12].copy_from_slice(&src);
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

fn transport(header: &mut [u8], protocol: u8, port: u16) {
    if protocol == 1 {
        header[0] = 8;
        return;
    }
    header[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    header[2..4].copy_from_slice(&port.to_be_bytes());
    if protocol == 6 {
        // Header length, acknowledgement, window.
        header[12..16].copy_from_slice(&[0x50, 0x10, 0xff, 0xff]);
    } else {
        header[4..6].copy_from_slice(&46_u16.to_be_bytes());
    }
}

fn sum_ipv4(frame: &mut [u8; LENGTH]) {
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34], 0);
    frame[24..26].copy_from_slice(&sum);
}

fn sum_tcp(frame: &mut [u8; LENGTH]) {
    frame[50..52].fill(0);
    let length = (LENGTH - 34) as u32;
    let pseudo: u32 = frame[26..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = checksum(&frame[34..], pseudo + 6 + length);
    frame[50..52].copy_from_slice(&sum);
}

/// RFC 1071.
fn checksum(bytes: &[u8], start: u32) -> [u8; 2] {
    let mut sum: u32 =
        start + bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
