//! Frames, byte by byte. Checksums are zero, since the programs under test do not read them; who
//! sends a segment to a real stack fills them with [`with_checksums`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) use portreeve_tests::frames::{
    ACK, AUTHENTICATION, CUSTOMER, DESTINATION_OPTIONS, ETHERNET, FRAGMENT, HOP_BY_HOP, ROUTING, SERVICE,
    SYN, TCP, Tag, UDP, tagged,
};
use portreeve_tests::frames::{ADDRESSES, checksum, octets, sum_ipv4_header};

pub(crate) const ICMPV6: u8 = 58;
pub(crate) const MOBILITY: u8 = 135;

/// A TCP header without options or payload.
pub(crate) fn tcp(dst_port: u16, flags: u8) -> Vec<u8> {
    let mut header = vec![0; 20];
    header[0..2].copy_from_slice(&40_000u16.to_be_bytes());
    header[2..4].copy_from_slice(&dst_port.to_be_bytes());
    header[12] = 5 << 4;
    header[13] = flags;
    header
}

/// A UDP header without payload.
pub(crate) fn udp(dst_port: u16) -> Vec<u8> {
    let mut header = vec![0; 8];
    header[0..2].copy_from_slice(&40_000u16.to_be_bytes());
    header[2..4].copy_from_slice(&dst_port.to_be_bytes());
    header[5] = 8;
    header
}

/// An Ethernet frame.
pub(crate) fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    portreeve_tests::frames::ethernet([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], ethertype, payload)
}

/// An IPv4 packet; `fragment` is the word of flags and offset.
pub(crate) struct V4<'a> {
    pub(crate) dst: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) options: &'a [u8],
    pub(crate) fragment: u16,
}

impl V4<'_> {
    pub(crate) fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let words = 5 + u8::try_from(self.options.len() / 4).unwrap();
        let mut packet = vec![0x40 | words, 0];
        let total = u16::from(words) * 4 + u16::try_from(payload.len()).unwrap();
        packet.extend(total.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0, 10, 77, 1, 2]);
        packet.extend(self.dst.octets());
        packet.extend(self.options);
        packet.extend(payload);
        ethernet(0x0800, &packet)
    }
}

/// An IPv6 packet; each of `chain` is an extension header by number, eight bytes long but for the
/// authentication header, and `last` the number of what follows.
pub(crate) fn v6(dst: Ipv6Addr, chain: &[u8], last: u8, payload: &[u8]) -> Vec<u8> {
    let headers: Vec<Vec<u8>> = chain.iter().map(|&number| extension(number, 0)).collect();
    v6_with(dst, &chain.iter().copied().zip(headers).collect::<Vec<_>>(), last, payload)
}

/// An IPv6 packet with one fragment header after `chain`; `fragment` is its offset and flags.
pub(crate) fn v6_fragment(dst: Ipv6Addr, chain: &[u8], fragment: u16, last: u8, payload: &[u8]) -> Vec<u8> {
    let mut headers: Vec<_> = chain.iter().map(|&number| (number, extension(number, 0))).collect();
    headers.push((FRAGMENT, extension(FRAGMENT, fragment)));
    v6_with(dst, &headers, last, payload)
}

fn extension(number: u8, fragment: u16) -> Vec<u8> {
    match number {
        // Length in words of four bytes, minus two.
        AUTHENTICATION => {
            let mut header = vec![0; 24];
            header[1] = 4;
            header
        }
        FRAGMENT => {
            let [high, low] = fragment.to_be_bytes();
            vec![0, 0, high, low, 0, 0, 0, 9]
        }
        // PadN fills the options.
        _ => vec![0, 0, 1, 4, 0, 0, 0, 0],
    }
}

fn v6_with(dst: Ipv6Addr, headers: &[(u8, Vec<u8>)], last: u8, payload: &[u8]) -> Vec<u8> {
    let next = |index: usize| headers.get(index).map_or(last, |(number, _)| *number);
    let mut body = Vec::new();
    for (index, (_, header)) in headers.iter().enumerate() {
        body.push(next(index + 1));
        body.extend(&header[1..]);
    }
    body.extend(payload);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    packet.extend([next(0), 64]);
    packet.extend("fd77:1::2".parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(dst.octets());
    packet.extend(body);
    ethernet(0x86dd, &packet)
}

/// A TCP segment to an address of either family.
pub(crate) fn segment(dst: IpAddr, port: u16, flags: u8) -> Vec<u8> {
    match dst {
        IpAddr::V4(dst) => V4 { dst, protocol: TCP, options: &[], fragment: 0 }.frame(&tcp(port, flags)),
        IpAddr::V6(dst) => v6(dst, &[], TCP, &tcp(port, flags)),
    }
}

/// A UDP datagram to an address of either family.
pub(crate) fn datagram(dst: IpAddr, port: u16) -> Vec<u8> {
    match dst {
        IpAddr::V4(dst) => V4 { dst, protocol: UDP, options: &[], fragment: 0 }.frame(&udp(port)),
        IpAddr::V6(dst) => v6(dst, &[], UDP, &udp(port)),
    }
}

/// An untagged TCP segment without options of its IP header, with both checksums (RFC 1071) filled.
pub(crate) fn with_checksums(mut frame: Vec<u8>) -> Vec<u8> {
    let (addresses, segment) = if frame[ADDRESSES..ETHERNET] == [0x08, 0x00] {
        sum_ipv4_header(&mut frame[ETHERNET..]);
        (ETHERNET + 12, ETHERNET + 20)
    } else {
        (ETHERNET + 8, ETHERNET + 40)
    };
    let length = u32::try_from(frame.len() - segment).unwrap();
    let pseudo = [&frame[addresses..], &length.to_be_bytes(), &[0, 0, 0, TCP]].concat();
    frame[segment + 16..segment + 18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    frame
}

/// An IPv4 packet with the checksum of its header filled; any other as it is.
pub(crate) fn with_header_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    if frame[ADDRESSES..ETHERNET] == [0x08, 0x00] {
        sum_ipv4_header(&mut frame[ETHERNET..]);
    }
    frame
}

/// Whether a frame of either family goes from `src` to `dst`, under whatever tags.
pub(crate) fn is_between(frame: &[u8], src: IpAddr, dst: IpAddr) -> bool {
    let addresses = [octets(src), octets(dst)].concat();
    frame.windows(addresses.len()).any(|window| window == addresses)
}
