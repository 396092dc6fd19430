//! Whether a source address belongs behind the interface that its packet came in on.
//!
//! Who a user is rests on the source address, so a packet to a target must come in on the interface
//! by which the router would send to its source (strict reverse path, RFC 3704 section 2.2), as
//! `bpf_fib_lookup` finds it with addresses exchanged. What is no unicast route to a neighbour or
//! beyond (the router's own addresses, loopback, multicast, unreachable, forwarding switched off on
//! the interface) is not behind any interface.
//!
//! Under a VLAN tag the packet goes on to a device that is not known here: that device is asked, where
//! the program runs on it. Priority tags (VID 0) do not count: what is behind them stays here.
//!
//! With several routes of equal cost the lookup chooses one by the addresses; sources behind the others
//! are refused.

#![expect(unsafe_code, reason = "raw kernel helper")]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
    bpf_fib_lookup as Request,
};
use aya_ebpf::helpers::bpf_fib_lookup;
use aya_ebpf::programs::TcContext;
use portreeve_ebpf::targets::FAMILY_V4;

use super::maps::reverse_path_is_strict;
use super::parse::Packet;
use super::tc::interface;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Whether the packet may have come in here, as far as can be told on this interface.
#[inline(always)]
pub(crate) fn holds(ctx: &TcContext, packet: &Packet) -> bool {
    if !reverse_path_is_strict() || packet.in_vlan {
        return true;
    }
    let interface = interface(ctx);
    // SAFETY: integers and unions of integers, for which zero is a value.
    let mut request: Request = unsafe { core::mem::zeroed() };
    request.ifindex = interface;
    if packet.family == FAMILY_V4 {
        request.family = AF_INET;
        request.__bindgen_anon_3.ipv4_src = packet.dst[0];
        request.__bindgen_anon_4.ipv4_dst = packet.src[0];
    } else {
        request.family = AF_INET6;
        request.__bindgen_anon_3.ipv6_src = packet.dst;
        request.__bindgen_anon_4.ipv6_dst = packet.src;
    }
    // SAFETY: a TC context, and a structure of the size that is passed.
    let result = unsafe { bpf_fib_lookup(ctx.as_ptr(), &raw mut request, size_of::<Request>() as i32, 0) };
    // Since 5.12 the interface is told in each of these.
    matches!(
        result as u32,
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_FRAG_NEEDED
    ) && request.ifindex == interface
}
