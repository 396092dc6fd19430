//! ICMP errors about connections that are ours.
//!
//! The gateway speaks to users from the targets' addresses, and to some targets from the users'. A
//! router on the way that cannot pass such a packet on reports to that address (RFC 792, RFC 4443
//! section 3), so the report would be forwarded past the socket that must hear it, above all when the
//! path's MTU is smaller. The packet that the report quotes says whose it is: from our socket to its
//! peer.
//!
//! Only errors are read; an echo to a target is an echo to a target.

use aya_ebpf::programs::TcContext;
use portreeve_ebpf::targets::FAMILY_V4;

use super::frame::load;
use super::maps::is_target;
use super::parse::Packet;
use super::socket::has_connection;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Type, code, checksum and four bytes that depend on the type: in both families.
const ICMP_HEADER: usize = 8;
const TCP: u8 = 6;

/// Destination unreachable (which holds fragmentation needed), source quench, time exceeded, parameter
/// problem.
const V4_ERRORS: [u8; 4] = [3, 4, 11, 12];
/// Destination unreachable, packet too big, time exceeded, parameter problem.
const V6_ERRORS: [u8; 4] = [1, 2, 3, 4];

/// Whether the ICMP message at `offset` is an error about a connection of ours with a target's name or
/// to a target.
#[inline(always)]
pub(crate) fn is_about_our_connection(ctx: &TcContext, packet: &Packet) -> bool {
    // Both at once: from "this byte is before the end", as the compiler has it, the verifier learns nothing.
    let Some(kind_and_code) = load::<u16>(ctx, packet.offset) else { return false };
    let [kind, _] = kind_and_code.to_ne_bytes();
    let errors = if packet.family == FAMILY_V4 { V4_ERRORS } else { V6_ERRORS };
    if !errors.contains(&kind) {
        return false;
    }
    let quoted = packet.offset + ICMP_HEADER;
    let Some(sent) =
        (if packet.family == FAMILY_V4 { quoted_v4(ctx, quoted) } else { quoted_v6(ctx, quoted) })
    else {
        return false;
    };
    let concerns_target =
        is_target(sent.family, &sent.src, sent.src_port) || is_target(sent.family, &sent.dst, sent.dst_port);
    concerns_target && has_connection(ctx, &sent.reversed())
}

#[inline(always)]
fn quoted_v4(ctx: &TcContext, offset: usize) -> Option<Packet> {
    let header = ctx.load::<[u32; IPV4_HEADER / 4]>(offset).ok()?;
    let [version_and_words, ..] = header[0].to_ne_bytes();
    let [_, protocol, ..] = header[2].to_ne_bytes();
    let words = version_and_words & 0x0f;
    if version_and_words >> 4 != 4 || words < 5 || protocol != TCP {
        return None;
    }
    ports(ctx, offset + words as usize * 4, Packet::v4(&header))
}

/// Our own packets have no extension headers.
#[inline(always)]
fn quoted_v6(ctx: &TcContext, offset: usize) -> Option<Packet> {
    let header = ctx.load::<[u32; IPV6_HEADER / 4]>(offset).ok()?;
    let [version, ..] = header[0].to_ne_bytes();
    let [_, _, next, _] = header[1].to_ne_bytes();
    if version >> 4 != 6 || next != TCP {
        return None;
    }
    ports(ctx, offset + IPV6_HEADER, Packet::v6(&header))
}

/// Of the quoted segment no more than the ports need be there (RFC 792: 8 bytes).
#[inline(always)]
fn ports(ctx: &TcContext, offset: usize, packet: Packet) -> Option<Packet> {
    let ports = ctx.load::<[u8; 4]>(offset).ok()?;
    Some(Packet {
        src_port: u16::from_be_bytes([ports[0], ports[1]]),
        dst_port: u16::from_be_bytes([ports[2], ports[3]]),
        ..packet
    })
}
