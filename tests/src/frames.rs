//! Frames, byte by byte, with the checksums that a stack asks for.
//!
//! Owns the layouts of Ethernet, IPv4 (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293) and UDP (RFC 768).
//! Every part is a plain value that a test changes before it asks for the bytes; what no field
//! says, a test writes into the bytes afterwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub type Mac = [u8; 6];
/// A tag: its EtherType, and priority and VID.
pub type Tag = (u16, u16);
/// An IPv6 extension header: its number, and its bytes, of which the first is filled in.
pub type Extension = (u8, Vec<u8>);

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a tag of IEEE 802.1Q.
pub const CUSTOMER: u16 = 0x8100;
/// EtherType of a tag of IEEE 802.1ad.
pub const SERVICE: u16 = 0x88a8;

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Next header of hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header of a routing header.
pub const ROUTING: u8 = 43;
/// Next header of a fragment header.
pub const FRAGMENT: u8 = 44;
/// Next header of an authentication header (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Next header of destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// TCP flag.
pub const FIN: u8 = 0x01;
/// TCP flag.
pub const SYN: u8 = 0x02;
/// TCP flag.
pub const RST: u8 = 0x04;
/// TCP flag.
pub const PSH: u8 = 0x08;
/// TCP flag.
pub const ACK: u8 = 0x10;
/// TCP flag.
pub const URG: u8 = 0x20;

/// Bytes of both addresses of a frame.
pub const ADDRESSES: usize = 12;
/// Bytes of an Ethernet header.
pub const ETHERNET: usize = ADDRESSES + 2;
/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6_HEADER: usize = 40;
/// Bytes of a TCP header without options.
pub const TCP_HEADER: usize = 20;

/// A TCP segment.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags.
    pub flags: u8,
    /// Options, filled up with zeroes to whole words.
    pub options: Vec<u8>,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// An IPv4 header.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// What it carries.
    pub protocol: u8,
    /// Identification, the same in all fragments of a packet.
    pub id: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Options, filled up with zeroes to whole words.
    pub options: Vec<u8>,
}

/// An IPv6 header and its extension headers.
#[derive(Clone, Debug)]
pub struct Ipv6 {
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
    /// Hop limit.
    pub hop_limit: u8,
    /// Extension headers in their order.
    pub chain: Vec<Extension>,
    /// What follows the last of them.
    pub last: u8,
}

impl Tcp {
    /// A segment without options or payload.
    pub fn new(src_port: u16, dst_port: u16, flags: u8) -> Self {
        let (options, payload) = (Vec::new(), Vec::new());
        Self { src_port, dst_port, sequence: 0, acknowledgement: 0, flags, options, payload }
    }

    /// Its bytes between two addresses.
    pub fn bytes(&self, src: IpAddr, dst: IpAddr) -> Vec<u8> {
        let options = whole_words(&self.options);
        let mut bytes = [self.src_port.to_be_bytes(), self.dst_port.to_be_bytes()].concat();
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        bytes.extend([byte(5 + options.len() / 4) << 4, self.flags]);
        bytes.extend([0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(&self.payload);
        let sum = checksum(&[pseudo_header(src, dst, TCP, bytes.len()), bytes.clone()].concat());
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

impl Ipv4 {
    /// A header without options.
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) -> Self {
        Self { src, dst, protocol, id: 1, fragment: 0, ttl: 64, options: Vec::new() }
    }

    /// The packet with a payload.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let options = whole_words(&self.options);
        let mut packet = vec![0x40 | byte(5 + options.len() / 4), 0];
        packet.extend(length(IPV4_HEADER + options.len() + payload.len()));
        packet.extend(self.id.to_be_bytes());
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(self.src.octets());
        packet.extend(self.dst.octets());
        packet.extend(options);
        sum_ipv4_header(&mut packet);
        packet.extend(payload);
        packet
    }
}

impl Ipv6 {
    /// A header without extension headers.
    pub fn new(src: Ipv6Addr, dst: Ipv6Addr, last: u8) -> Self {
        Self { src, dst, hop_limit: 64, chain: Vec::new(), last }
    }

    /// The packet with a payload.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let next = |index: usize| self.chain.get(index).map_or(self.last, |(number, _)| *number);
        let mut body = Vec::new();
        for (index, (_, header)) in self.chain.iter().enumerate() {
            body.push(next(index + 1));
            body.extend(header.iter().skip(1));
        }
        body.extend(payload);
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(length(body.len()));
        packet.extend([next(0), self.hop_limit]);
        packet.extend(self.src.octets());
        packet.extend(self.dst.octets());
        packet.extend(body);
        packet
    }
}

/// An extension header of the least length, with nothing in it.
pub fn extension(number: u8) -> Extension {
    // PadN fills the options; a routing header of type 1 with no segments left says nothing either.
    let header = match number {
        // Length in words of four bytes, minus two.
        AUTHENTICATION => [&[0, 4, 0, 0][..], &[0; 20]].concat(),
        FRAGMENT => return fragment_extension(0, 1),
        ROUTING => vec![0, 0, 1, 0, 0, 0, 0, 0],
        _ => vec![0, 0, 1, 4, 0, 0, 0, 0],
    };
    (number, header)
}

/// A fragment header; `fragment` is the word of offset and flags.
pub fn fragment_extension(fragment: u16, id: u32) -> Extension {
    (FRAGMENT, [&[0, 0][..], &fragment.to_be_bytes(), &id.to_be_bytes()].concat())
}

/// A UDP datagram between two addresses.
pub fn udp(src: IpAddr, dst: IpAddr, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [40_000u16.to_be_bytes(), dst_port.to_be_bytes()].concat();
    bytes.extend(length(8 + payload.len()));
    bytes.extend([0, 0]);
    bytes.extend(payload);
    let sum = checksum(&[pseudo_header(src, dst, UDP, bytes.len()), bytes.clone()].concat());
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The packet that carries a payload of a protocol between two addresses of one family; the
/// addresses of two families yield nothing.
pub fn packet(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Ipv4::new(src, dst, protocol).packet(payload),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Ipv6::new(src, dst, protocol).packet(payload),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    }
}

/// An Ethernet frame.
pub fn ethernet(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &src, &ethertype.to_be_bytes(), payload].concat()
}

/// The frame with tags in front of what it carries, the outermost first.
pub fn tagged(frame: &[u8], tags: &[Tag]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(ADDRESSES);
    let tags = tags.iter().flat_map(|(ethertype, control)| [ethertype.to_be_bytes(), control.to_be_bytes()]);
    [addresses, &tags.flatten().collect::<Vec<u8>>(), rest].concat()
}

/// Fills the checksum of the IPv4 header that a packet begins with.
pub fn sum_ipv4_header(packet: &mut [u8]) {
    let words = packet.first().map_or(0, |first| usize::from(first & 0x0f));
    if let Some(header) = packet.get_mut(..words * 4).filter(|header| header.len() >= IPV4_HEADER) {
        header[10..12].fill(0);
        let sum = checksum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high, ..] => u32::from(*high) << 8,
        [] => 0,
    });
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, bytes: usize) -> Vec<u8> {
    [octets(src), octets(dst), length(bytes).to_vec(), vec![0, protocol]].concat()
}

/// The bytes of an address.
pub fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

fn whole_words(options: &[u8]) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    options
}

/// A length field; what does not fit is as long as it can be.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

fn byte(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: [&str; 2] = ["10.1.1.2", "fd00:1:1::2"];
    const DST: [&str; 2] = ["10.1.2.3", "fd00:1:2::3"];

    #[test]
    fn checksums_sum_up_to_zero() {
        for (src, dst) in SRC.iter().zip(DST) {
            let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            let segment = Tcp { payload: b"odd".to_vec(), ..Tcp::new(1, 22, SYN) }.bytes(src, dst);
            let summed = [pseudo_header(src, dst, TCP, segment.len()), segment].concat();
            assert_eq!(checksum(&summed), 0);
        }
        let header = Ipv4::new(SRC[0].parse().unwrap(), DST[0].parse().unwrap(), TCP);
        let packet = Ipv4 { options: vec![7, 3, 4], ..header }.packet(b"rest");
        assert_eq!((checksum(&packet[..24]), packet[0]), (0, 0x46));
    }

    #[test]
    fn extension_headers_name_what_follows() {
        let header = Ipv6::new(SRC[1].parse().unwrap(), DST[1].parse().unwrap(), TCP);
        let chain = vec![extension(HOP_BY_HOP), extension(AUTHENTICATION), fragment_extension(9, 7)];
        let packet = Ipv6 { chain, ..header }.packet(b"!");
        assert_eq!((packet[6], packet[40], packet[48], packet[72]), (0, AUTHENTICATION, FRAGMENT, TCP));
        assert_eq!(packet[4..6], 41u16.to_be_bytes());
        assert_eq!(packet[74..76], [0, 9]);
    }
}
