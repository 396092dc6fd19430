//! From the bytes of a frame to addresses and ports.
//!
//! Bytes are read by [`super::frame`], whichever piece of the packet they are in: this file holds no packet
//! pointer. It decides nothing; it says what could be read, and names each way in which a TCP segment could
//! hide.
//!
//! [`super::tags`] finds what is behind the header of the link and tags.

use aya_ebpf::programs::TcContext;
use portreeve_ebpf::targets::{FAMILY_V4, FAMILY_V6, Words};

use super::frame::load;
use super::link::Link;
use super::tags::{Network, Tags};
use super::verifier::forget;

const IPV4_HEADER: usize = 20;
pub(crate) const IPV6_HEADER: usize = 40;
/// Extension headers that are walked; a chain that is longer counts as unknown.
const MAX_EXTENSION_HEADERS: usize = 8;
/// Where a chain ends at the latest, as a mask: each header has 2 KiB at most, and what is in front of the first less than one of them.
const FURTHEST: usize = 0x7fff;
const _: () = assert!((MAX_EXTENSION_HEADERS + 2) * 256 * 8 <= FURTHEST);

const HOP_BY_HOP: u8 = 0;
/// Flags of TCP (RFC 9293, section 3.1).
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

const ICMP: u8 = 1;
const IPIP: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const GRE: u8 = 47;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;
const SCTP: u8 = 132;
const MOBILITY: u8 = 135;
const UDP_LITE: u8 = 136;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// A frame, as far as steering needs it.
///
/// Every field always has a value, if only zero: the verifier refuses a program that computes with
/// a register which the compiler, knowing it unused, left unset.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    /// `FAMILY_V4` or `FAMILY_V6`.
    pub(crate) family: u8,
    /// What it carries.
    pub(crate) payload: Payload,
    /// Source.
    pub(crate) src: Words,
    /// Destination.
    pub(crate) dst: Words,
    /// Source port of a TCP segment.
    pub(crate) src_port: u16,
    /// Destination port of a TCP segment.
    pub(crate) dst_port: u16,
    /// Flags of a TCP segment.
    pub(crate) flags: u8,
    /// Where the IP header begins.
    pub(crate) network: usize,
    /// Where what it carries begins; 0 when it is no IP packet.
    pub(crate) offset: usize,
    /// Whether a tag names a VLAN, so that the stack gives the packet to another device.
    pub(crate) in_vlan: bool,
}

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// A TCP segment.
    Tcp,
    /// An ICMP message.
    Icmp,
    /// Certainly neither, nor a part of a TCP segment that any stack would forward.
    Other,
    /// A part of what may be a TCP segment.
    Fragment,
    /// What may be a TCP segment, behind headers that could not be read.
    Unknown,
    /// What may be anything to anybody: [`Network::Anything`].
    Anything,
}

impl Packet {
    const OTHER: Self = Self {
        family: 0,
        payload: Payload::Other,
        src: [0; 4],
        dst: [0; 4],
        src_port: 0,
        dst_port: 0,
        flags: 0,
        network: 0,
        offset: 0,
        in_vlan: false,
    };

    /// Reads a frame.
    #[inline(always)]
    pub(crate) fn read(ctx: &TcContext, link: Link) -> Self {
        let tags = Tags::walk(ctx, link);
        let packet = match tags.network {
            Network::V4 => Self::ipv4(ctx, tags.offset),
            Network::V6 => Self::ipv6(ctx, tags.offset),
            Network::Other => Self::OTHER,
            Network::Anything => Self { payload: Payload::Anything, ..Self::OTHER },
        };
        Self { network: tags.offset, in_vlan: tags.in_vlan, ..packet }
    }

    /// Whether it is a SYN, and nothing else.
    #[inline(always)]
    pub(crate) fn begins_a_connection(&self) -> bool {
        self.flags & (FIN | SYN | RST | ACK) == SYN
    }

    /// The addresses of an IPv4 header.
    #[inline(always)]
    pub(crate) fn v4(header: &[u32; IPV4_HEADER / 4]) -> Self {
        let (src, dst) = ([header[3], 0, 0, 0], [header[4], 0, 0, 0]);
        Self { family: FAMILY_V4, src, dst, ..Self::OTHER }
    }

    /// The addresses of an IPv6 header.
    #[inline(always)]
    pub(crate) fn v6(header: &[u32; IPV6_HEADER / 4]) -> Self {
        let src = [header[2], header[3], header[4], header[5]];
        let dst = [header[6], header[7], header[8], header[9]];
        Self { family: FAMILY_V6, src, dst, ..Self::OTHER }
    }

    /// From the other side.
    #[inline(always)]
    pub(crate) fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, src_port: self.dst_port, dst_port: self.src_port, ..self }
    }

    #[inline(always)]
    fn ipv4(ctx: &TcContext, offset: usize) -> Self {
        let Some(header) = load::<[u32; IPV4_HEADER / 4]>(ctx, offset) else { return Self::OTHER };
        let [version_and_words, ..] = header[0].to_ne_bytes();
        let [_, _, flags, part] = header[1].to_ne_bytes();
        let [_, protocol, ..] = header[2].to_ne_bytes();
        let words = version_and_words & 0x0f;
        if version_and_words >> 4 != 4 || words < 5 {
            return Self::OTHER;
        }
        let packet = Self { offset: offset + words as usize * 4, ..Self::v4(&header) };
        // More-fragments bit or an offset (RFC 791); the protocol is the same in every fragment.
        let fragmented = flags & 0x3f != 0 || part != 0;
        match protocol {
            TCP if fragmented => Self { payload: Payload::Fragment, ..packet },
            TCP => packet.segment(ctx),
            ICMP if !fragmented => Self { payload: Payload::Icmp, ..packet },
            _ => packet,
        }
    }

    #[inline(always)]
    fn ipv6(ctx: &TcContext, offset: usize) -> Self {
        let Some(header) = load::<[u32; IPV6_HEADER / 4]>(ctx, offset) else { return Self::OTHER };
        let [version, ..] = header[0].to_ne_bytes();
        let [_, _, next, _] = header[1].to_ne_bytes();
        if version >> 4 != 6 {
            return Self::OTHER;
        }
        let chain = walk(ctx, next, offset + IPV6_HEADER);
        let packet = Self { payload: chain.payload, offset: chain.offset, ..Self::v6(&header) };
        if chain.payload == Payload::Tcp { packet.segment(ctx) } else { packet }
    }

    /// A segment that ends before its flags is of no use to any stack, so it counts as unreadable.
    #[inline(always)]
    fn segment(self, ctx: &TcContext) -> Self {
        match load::<[u16; 7]>(ctx, self.offset) {
            Some([src_port, dst_port, .., length_and_flags]) => Self {
                payload: Payload::Tcp,
                src_port: u16::from_be(src_port),
                dst_port: u16::from_be(dst_port),
                flags: length_and_flags.to_ne_bytes()[1],
                ..self
            },
            None => Self { payload: Payload::Unknown, ..self },
        }
    }
}

/// Where a chain of extension headers leads, and what is there.
struct Chain {
    payload: Payload,
    offset: usize,
}

/// Walks the extension headers (RFC 8200, section 4) from the first, at `offset`.
///
/// Of a fragmented packet the first part alone says what the whole is, and a part that names TCP or
/// another extension header may belong to a segment; so both are fragments here, and the others,
/// which cannot be joined without the first, are not.
#[inline(always)]
fn walk(ctx: &TcContext, first: u8, mut offset: usize) -> Chain {
    let mut next = first;
    let mut fragmented = false;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6 | FRAGMENT
            | AUTHENTICATION => {}
            _ => return Chain { payload: upper_layer(next, fragmented), offset },
        }
        let Some(head) = load::<u32>(ctx, offset) else { break };
        let head = head.to_ne_bytes();
        let length = match next {
            FRAGMENT => 8,
            AUTHENTICATION => (head[1] as usize + 2) * 4,
            _ => (head[1] as usize + 1) * 8,
        };
        offset = forget(ctx, offset + length, FURTHEST);
        if next == FRAGMENT {
            fragmented = true;
            let first_part = head[2] == 0 && head[3] & 0xf8 == 0;
            if !first_part {
                return Chain { payload: later_fragment(head[0]), offset };
            }
        }
        next = head[0];
    }
    Chain { payload: Payload::Unknown, offset }
}

#[inline(always)]
fn upper_layer(protocol: u8, fragmented: bool) -> Payload {
    match protocol {
        TCP if fragmented => Payload::Fragment,
        TCP => Payload::Tcp,
        ICMPV6 if fragmented => Payload::Other,
        ICMPV6 => Payload::Icmp,
        UDP | UDP_LITE | SCTP | GRE | IPIP | IPV6 | NO_NEXT_HEADER => Payload::Other,
        _ => Payload::Unknown,
    }
}

#[inline(always)]
fn later_fragment(next: u8) -> Payload {
    match upper_layer(next, true) {
        Payload::Other => Payload::Other,
        Payload::Tcp | Payload::Icmp | Payload::Fragment | Payload::Unknown | Payload::Anything => {
            Payload::Fragment
        }
    }
}
