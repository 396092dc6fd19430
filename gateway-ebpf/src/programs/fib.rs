//! Routes: where the stack would send a packet (`bpf_fib_lookup`).

use core::ptr;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LOOKUP_DIRECT,
    BPF_FIB_LOOKUP_SKIP_NEIGH, bpf_fib_lookup,
};
use aya_ebpf::helpers;
use portreeve_ebpf::targets::{FAMILY_V4, Words};

/// What a route is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Query {
    /// `FAMILY_V4` or `FAMILY_V6`.
    pub(crate) family: u8,
    /// Protocol of the transport layer.
    pub(crate) protocol: u8,
    /// Ports in network order, or zero.
    pub(crate) ports: [u16; 2],
    /// Source.
    pub(crate) src: Words,
    /// Destination.
    pub(crate) dst: Words,
    /// IPv4: type of service in the first byte; IPv6: traffic class and flow label. In network order.
    pub(crate) class: u32,
    /// Bytes from the network header on; 0 goes through any way.
    pub(crate) length: u16,
    /// Interface that the packet came in by.
    pub(crate) ingress: u32,
    /// Asks the main table alone, not the rules; it knows nothing of the host's own addresses.
    pub(crate) only_main: bool,
}

/// A way for a packet.
pub(crate) struct Route {
    /// Interface that it leaves by.
    pub(crate) egress: u32,
    /// Both hardware addresses of the frame to the next hop, destination first.
    pub(crate) addresses: [u16; 6],
}

/// Why there is no way, or none that is known in full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// The hardware address of the next hop is not known; the interface is.
    Neighbour(u32),
    /// The packet is larger than the route, or the interface, takes; with [`Query::length`] 0 this is the
    /// interface.
    TooBig(u32),
    /// Nowhere to go, or to the host itself.
    Other,
}

/// `struct bpf_fib_lookup` without its unions.
///
/// What the helper does not read has any value: zeros in a row would be written by a loop, which the
/// verifier does not allow without `CAP_PERFMON`, and unset it does not allow them either.
#[repr(C)]
struct Params {
    family: u8,
    protocol: u8,
    ports: [u16; 2],
    length: u16,
    ifindex: u32,
    class: u32,
    src: Words,
    dst: Words,
    table: u32,
    // Six bytes of the egress, then six of the next hop.
    own_address: u32,
    both_addresses: u32,
    next_address: u32,
}

const _: () = assert!(size_of::<Params>() == size_of::<bpf_fib_lookup>());

/// Asks the routing tables and rules of the ingress, and the neighbours; the main table alone is what
/// `BPF_FIB_LOOKUP_DIRECT` takes for an interface outside of a VRF; `only_route` asks for no
/// neighbour, which kernels before 6.3 refuse.
#[inline(always)]
#[expect(unsafe_code, reason = "a raw kernel helper")]
pub(crate) fn lookup(ctx: &impl EbpfContext, query: &Query, only_route: bool) -> Result<Route, NoRoute> {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    let mut params = Params {
        family: if query.family == FAMILY_V4 { AF_INET } else { AF_INET6 },
        protocol: query.protocol,
        ports: query.ports,
        length: query.length,
        ifindex: query.ingress,
        class: query.class,
        src: filled(query.family, query.src),
        dst: filled(query.family, query.dst),
        table: query.class,
        own_address: query.class,
        both_addresses: query.class,
        next_address: query.class,
    };
    let mut flags = if only_route { BPF_FIB_LOOKUP_SKIP_NEIGH } else { 0 };
    if query.only_main {
        flags |= BPF_FIB_LOOKUP_DIRECT;
    }
    let size = size_of::<Params>() as i32;
    // SAFETY: an XDP context, and a structure of the layout and size that the helper knows.
    let result = unsafe {
        helpers::bpf_fib_lookup(
            ctx.as_ptr(),
            ptr::from_mut(&mut params).cast::<bpf_fib_lookup>(),
            size,
            flags,
        )
    };
    match result as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => {
            let ([a, b], [c, d]) = (halves(params.own_address), halves(params.both_addresses));
            let [e, f] = halves(params.next_address);
            Ok(Route { egress: params.ifindex, addresses: [d, e, f, a, b, c] })
        }
        BPF_FIB_LKUP_RET_NO_NEIGH => Err(NoRoute::Neighbour(params.ifindex)),
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Err(NoRoute::TooBig(params.ifindex)),
        _ => Err(NoRoute::Other),
    }
}

/// The interface by which packets go back to the source, whatever their length; `None` where that is no
/// unicast address of somebody else. `only_route` as in [`lookup`].
///
/// Since Linux 5.12 the interface is told when the neighbour is not known, too.
#[inline(always)]
pub(crate) fn way_back(ctx: &impl EbpfContext, query: &Query, only_route: bool) -> Option<u32> {
    let back = Query { src: query.dst, dst: query.src, ports: [0; 2], protocol: 0, length: 0, ..*query };
    match lookup(ctx, &back, only_route) {
        Ok(Route { egress, .. }) | Err(NoRoute::Neighbour(egress) | NoRoute::TooBig(egress)) => Some(egress),
        Err(NoRoute::Other) => None,
    }
}

/// An address as the helper reads it: of IPv4 the first word.
#[inline(always)]
fn filled(family: u8, addr: Words) -> Words {
    if family == FAMILY_V4 { [addr[0]; 4] } else { addr }
}

/// The two halves of a word in the order of memory.
#[inline(always)]
fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_ne_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}
