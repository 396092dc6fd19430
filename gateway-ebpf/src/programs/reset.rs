//! The answer to a SYN that is refused: the same packet, turned around into a reset (RFC 9293, section
//! 3.10.7.1), so that the user's client says "connection refused" at once.
//!
//! Addresses and ports change places, which no checksum notices; the rest is changed together with its
//! share of the checksum. A checksum that a device has yet to write stays so. Options of TCP are left: in
//! a reset they mean nothing.

#![expect(unsafe_code, reason = "raw kernel helper")]

use core::ffi::c_long;

use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::programs::TcContext;
use portreeve_ebpf::targets::{FAMILY_V4, Words};

use super::link::Link;
use super::parse::{IPV6_HEADER, Packet};
use super::tc::interface;

const HOPS: u8 = 64;
const RESET_AND_ACKNOWLEDGED: u8 = 0x14;

/// Turns a SYN around and sends it back; `None` when it is none, or has extension headers, or could not be
/// changed: then it is only dropped.
#[inline(always)]
pub(crate) fn send_back(ctx: &TcContext, packet: &Packet, link: Link) -> Option<i32> {
    if !packet.begins_a_connection() {
        return None;
    }
    let turned = if packet.family == FAMILY_V4 { turn_v4(ctx, packet) } else { turn_v6(ctx, packet)? };
    turned.and_then(|()| turn_segment(ctx, packet.offset)).and_then(|()| turn_frame(ctx, link)).ok()?;
    // SAFETY: the helper takes any index; it is that of the interface that the packet came in on.
    Some(unsafe { bpf_redirect(interface(ctx), 0) } as i32)
}

#[inline(always)]
fn turn_frame(ctx: &TcContext, link: Link) -> Result<(), c_long> {
    if link == Link::Bare {
        return Ok(());
    }
    let [to, from] = ctx.load::<[[u8; 6]; 2]>(0)?;
    ctx.store(0, &[from, to], 0)
}

#[inline(always)]
fn turn_v4(ctx: &TcContext, packet: &Packet) -> Result<(), c_long> {
    const HOPS_AND_PROTOCOL: usize = 8;
    const CHECKSUM: usize = 10;
    const ADDRESSES: usize = 12;
    let header = packet.network;
    let old = ctx.load::<u16>(header + HOPS_AND_PROTOCOL)?;
    let [_, protocol] = old.to_ne_bytes();
    let new = u16::from_ne_bytes([HOPS, protocol]);
    ctx.l3_csum_replace(header + CHECKSUM, old as u64, new as u64, size_of::<u16>() as u64)?;
    ctx.store(header + HOPS_AND_PROTOCOL, &new, 0)?;
    ctx.store(header + ADDRESSES, &[packet.dst[0], packet.src[0]], 0)
}

/// `None` behind extension headers.
#[inline(always)]
fn turn_v6(ctx: &TcContext, packet: &Packet) -> Option<Result<(), c_long>> {
    const HOP_LIMIT: usize = 7;
    const ADDRESSES: usize = 8;
    let header = packet.network;
    if packet.offset != header + IPV6_HEADER {
        return None;
    }
    let addresses: [Words; 2] = [packet.dst, packet.src];
    let turned = ctx.store(header + HOP_LIMIT, &HOPS, 0);
    Some(turned.and_then(|()| ctx.store(header + ADDRESSES, &addresses, 0)))
}

#[inline(always)]
fn turn_segment(ctx: &TcContext, offset: usize) -> Result<(), c_long> {
    const CHECKSUM: usize = 16;
    let [ports, sequence, acknowledged, rest] = ctx.load::<[u32; 4]>(offset)?;
    let next = u32::from_be(sequence).wrapping_add(1).to_be();
    let [length, ..] = rest.to_ne_bytes();
    let flags = u32::from_ne_bytes([length, RESET_AND_ACKNOWLEDGED, 0, 0]);
    for (old, new) in [(sequence, 0), (acknowledged, next), (rest, flags)] {
        ctx.l4_csum_replace(offset + CHECKSUM, old as u64, new as u64, size_of::<u32>() as u64)?;
    }
    ctx.store(offset, &[ports.rotate_left(16), 0, next, flags], 0)
}
