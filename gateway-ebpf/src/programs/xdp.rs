//! The fast path: forwards a frame as the stack would, or leaves it to the stack untouched.
//!
//! It forwards TCP, UDP and ICMP echoes between unicast addresses, in whole IP packets without
//! options or extension headers, in frames without a tag or with that of a VLAN device, when the routing table
//! has a next hop whose hardware address is known. A TCP segment to or from a target is never forwarded here:
//! TC steers it.
//! A frame is changed only after its way out is certain.
//!
//! | check of the stack (`ip_rcv`, `ip_route_input_slow`, `ip_forward`, `ip6_forward`) | here |
//! |---|---|
//! | length, checksum of the IPv4 header | holds, or to the stack |
//! | source is a unicast address of somebody else, and by `rp_filter` behind this interface | a second look-up, or the addresses of the local table (IPv4; the stack has no such check for IPv6) |
//! | rules and the local table before the main one | all of them, or, while user space says that it is the same, only the local table's addresses and the main table |
//! | TTL or hop limit, ICMP time exceeded | to the stack when it would run out |
//! | MTU of the route, ICMP too big | to the stack when it is too big |
//! | leaves by the interface it came by, ICMP redirect | to the stack |

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use portreeve_ebpf::fast_path::{
    CHECKED_SOURCE, FORWARD, FastPathReason as Reason, Routing, STRICT_SOURCE, WITHOUT_NEIGHBOUR,
};
use portreeve_ebpf::targets::{FAMILY_V4, FAMILY_V6, Words};

use super::fib::{self, NoRoute, Query};
use super::frame::Frame;
use super::maps::is_target;
use super::xdp_maps;
use super::xdp_vlan::{self, Arrival, CUSTOMER_TAG, UNTAGGED};

const IPV4: u16 = u16::from_ne_bytes([0x08, 0x00]);
const IPV6: u16 = u16::from_ne_bytes([0x86, 0xdd]);
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// IPv4 header without options: version 4, five words.
const PLAIN_IPV4: u8 = 0x45;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Types of ICMP echo reply and echo request (RFC 792), with code 0, as they are in memory.
const ECHOES: [u16; 2] = [u16::from_ne_bytes([0, 0]), u16::from_ne_bytes([8, 0])];

/// Decides about a frame, and rewrites it when it is forwarded.
#[inline(always)]
pub(crate) fn forward(ctx: &XdpContext) -> Reason {
    let frame = Frame { ctx };
    match try_forward(&frame) {
        Ok(()) => Reason::Forwarded,
        Err(reason) => reason,
    }
}

#[inline(always)]
fn try_forward(frame: &Frame<'_>) -> Result<(), Reason> {
    let ingress = frame.ctx.ingress_ifindex() as u32;
    let interface = xdp_maps::interface(ingress).ok_or(Reason::PassedInterface)?;
    if interface.flags & FORWARD == 0 {
        return Err(Reason::PassedInterface);
    }
    let [a, b, c, .., ethertype] = frame.read::<[u16; 7]>(0).ok_or(Reason::PassedFrame)?;
    if ethertype == CUSTOMER_TAG {
        return tagged(frame.ctx.ctx, [a, b, c]);
    }
    arrived(frame, &Arrival { interface, network: UNTAGGED }, [a, b, c], ethertype)
}

/// A function of its own, so that frames without a tag do not pay for what it has to keep.
#[inline(never)]
fn tagged(ctx: *mut xdp_md, to: [u16; 3]) -> Result<(), Reason> {
    let ctx = XdpContext::new(ctx);
    let frame = Frame { ctx: &ctx };
    let (arrival, ethertype) = Arrival::tagged(&frame, ctx.ingress_ifindex() as u32)?;
    arrived(&frame, &arrival, to, ethertype)
}

#[inline(always)]
fn arrived(frame: &Frame<'_>, arrival: &Arrival, to: [u16; 3], ethertype: u16) -> Result<(), Reason> {
    if to != arrival.interface.mac {
        return Err(Reason::PassedFrame);
    }
    match ethertype {
        IPV4 => ipv4(frame, arrival),
        IPV6 => ipv6(frame, arrival),
        _ => Err(Reason::PassedFrame),
    }
}

#[inline(always)]
fn ipv4(frame: &Frame<'_>, arrival: &Arrival) -> Result<(), Reason> {
    let header = frame.read::<[u32; IPV4_HEADER / 4]>(arrival.network).ok_or(Reason::PassedHeader)?;
    let [version, service, high, low] = header[0].to_ne_bytes();
    let [_, _, flags, part] = header[1].to_ne_bytes();
    let [hops, protocol, ..] = header[2].to_ne_bytes();
    let length = u16::from_be_bytes([high, low]);
    // More-fragments bit or an offset (RFC 791).
    let fragment = flags & 0x3f != 0 || part != 0;
    if version != PLAIN_IPV4 || fragment || !is_whole(frame, arrival, length) || !sums_up(&header) {
        return Err(Reason::PassedHeader);
    }
    let (src, dst) = ([header[3], 0, 0, 0], [header[4], 0, 0, 0]);
    if !is_ordinary_ipv4(header[3]) || !is_ordinary_ipv4(header[4]) {
        return Err(Reason::PassedAddress);
    }
    let ports = transport(frame, (protocol, length), arrival.network, IPV4_HEADER)?;
    let class = u32::from_ne_bytes([service, 0, 0, 0]);
    let (ingress, only_main) = (arrival.interface.index, false);
    let mut query = Query { family: FAMILY_V4, protocol, ports, src, dst, class, length, ingress, only_main };
    not_target(&query)?;
    if hops <= 1 {
        return Err(Reason::PassedHopLimit);
    }
    query.only_main = not_local(Routing::V4, &dst)?;
    from_unicast(frame.ctx, &query, arrival.interface.flags)?;
    send(frame, arrival, &query, (8, one_hop_less(header[2])))
}

#[inline(always)]
fn ipv6(frame: &Frame<'_>, arrival: &Arrival) -> Result<(), Reason> {
    let header = frame.read::<[u32; IPV6_HEADER / 4]>(arrival.network).ok_or(Reason::PassedHeader)?;
    let [version, ..] = header[0].to_ne_bytes();
    let [high, low, protocol, hops] = header[1].to_ne_bytes();
    let length =
        u16::from_be_bytes([high, low]).checked_add(IPV6_HEADER as u16).ok_or(Reason::PassedHeader)?;
    if version >> 4 != 6 || !is_whole(frame, arrival, length) {
        return Err(Reason::PassedHeader);
    }
    let src = [header[2], header[3], header[4], header[5]];
    let dst = [header[6], header[7], header[8], header[9]];
    if !is_ordinary_ipv6(src[0]) || !is_ordinary_ipv6(dst[0]) {
        return Err(Reason::PassedAddress);
    }
    // An ICMP echo of IPv4 has no meaning here.
    if protocol == ICMP {
        return Err(Reason::PassedProtocol);
    }
    let ports = transport(frame, (protocol, length), arrival.network, IPV6_HEADER)?;
    let class = header[0] & 0x0fff_ffff_u32.to_be();
    let (ingress, only_main) = (arrival.interface.index, false);
    let mut query = Query { family: FAMILY_V6, protocol, ports, src, dst, class, length, ingress, only_main };
    not_target(&query)?;
    if hops <= 1 {
        return Err(Reason::PassedHopLimit);
    }
    query.only_main = not_local(Routing::V6, &dst)?;
    send(frame, arrival, &query, (4, u32::from_ne_bytes([high, low, protocol, hops - 1])))
}

/// Whether the frame ends where the packet of `length` bytes does, but for filling.
///
/// Truncated packets are the stack's to drop, and what is behind a packet is not forwarded.
#[inline(always)]
fn is_whole(frame: &Frame<'_>, arrival: &Arrival, length: u16) -> bool {
    let (end, found) = (arrival.network + length as usize, frame.length());
    found == end || (end < found && found <= arrival.shortest())
}

/// Whether the checksum of an IPv4 header holds (RFC 1071).
#[inline(always)]
fn sums_up(header: &[u32; IPV4_HEADER / 4]) -> bool {
    let words = header[0] as u64 + header[1] as u64 + header[2] as u64 + header[3] as u64 + header[4] as u64;
    let mut sum = (words & 0xffff) + ((words >> 16) & 0xffff) + (words >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum == 0xffff
}

/// Not "this network", loopback, link-local, multicast, or reserved (RFC 6890).
#[inline(always)]
fn is_ordinary_ipv4(addr: u32) -> bool {
    let [a, b, ..] = addr.to_ne_bytes();
    a != 0 && a != 127 && a < 224 && !(a == 169 && b == 254)
}

/// Global unicast (2000::/3) or unique local (fc00::/7), by the first word.
#[inline(always)]
fn is_ordinary_ipv6(word: u32) -> bool {
    let [a, ..] = word.to_ne_bytes();
    a & 0xe0 == 0x20 || a & 0xfe == 0xfc
}

/// The ports, in network order; none for an echo. The header must be within the packet.
#[inline(always)]
fn transport(
    frame: &Frame<'_>,
    (protocol, length): (u8, u16),
    network: usize,
    header: usize,
) -> Result<[u16; 2], Reason> {
    let least = match protocol {
        TCP => 20,
        UDP | ICMP => 8,
        _ => return Err(Reason::PassedProtocol),
    };
    if (length as usize) < header + least {
        return Err(Reason::PassedHeader);
    }
    let first = frame.read::<[u16; 2]>(network + header).ok_or(Reason::PassedHeader)?;
    if protocol != ICMP {
        return Ok(first);
    }
    if ECHOES.contains(&first[0]) { Ok([0; 2]) } else { Err(Reason::PassedProtocol) }
}

/// Connections to targets are TC's in both directions: a target answers the gateway at an address that
/// may be the client's.
#[inline(always)]
fn not_target(query: &Query) -> Result<(), Reason> {
    let [src_port, dst_port] = query.ports;
    let family = query.family;
    if query.protocol == TCP
        && (is_target(family, &query.dst, u16::from_be(dst_port))
            || is_target(family, &query.src, u16::from_be(src_port)))
    {
        return Err(Reason::PassedTarget);
    }
    Ok(())
}

/// Whether the main table decides about a destination; not where the local table has it.
#[inline(always)]
fn not_local(routing: Routing, dst: &Words) -> Result<bool, Reason> {
    let decides = xdp_maps::main_decides(routing);
    if decides && xdp_maps::is_local(routing, dst) { Err(Reason::PassedRoute) } else { Ok(decides) }
}

/// The source must be an address that packets can go back to, as `fib_validate_source` has it: not the
/// gateway's own, no broadcast; by [`STRICT_SOURCE`], behind the ingress. Without `rp_filter` that is
/// what the local table does not have.
#[inline(always)]
fn from_unicast(ctx: &XdpContext, query: &Query, flags: u16) -> Result<(), Reason> {
    if query.only_main {
        if xdp_maps::is_local(Routing::V4, &query.src) {
            return Err(Reason::PassedSource);
        }
        if flags & CHECKED_SOURCE == 0 {
            return Ok(());
        }
    }
    match fib::way_back(ctx, query, flags & WITHOUT_NEIGHBOUR != 0) {
        Some(egress) if flags & STRICT_SOURCE == 0 || egress == query.ingress => Ok(()),
        Some(_) | None => Err(Reason::PassedSource),
    }
}

/// Looks for the way out, and makes the frame what leaves by it: `word` at `offset` of the network header takes
/// one hop off.
#[inline(always)]
fn send(
    frame: &Frame<'_>,
    arrival: &Arrival,
    query: &Query,
    (offset, word): (usize, u32),
) -> Result<(), Reason> {
    let route = match fib::lookup(frame.ctx, query, false) {
        Ok(route) => route,
        Err(NoRoute::Neighbour(_)) => return Err(Reason::PassedNeighbour),
        Err(NoRoute::TooBig(_)) => return Err(Reason::PassedTooBig),
        Err(NoRoute::Other) => return Err(Reason::PassedRoute),
    };
    if route.egress == query.ingress {
        return Err(Reason::PassedEgress);
    }
    let tag = xdp_vlan::redirect(arrival, route.egress)?;
    xdp_vlan::rewrite(frame, arrival, (tag, &route), (offset, word))
}

/// The third word of an IPv4 header with one hop less, and the checksum that goes with it (RFC 1141).
#[inline(always)]
fn one_hop_less(word: u32) -> u32 {
    let [hops, protocol, high, low] = word.to_ne_bytes();
    let sum = u16::from_be_bytes([high, low]) as u32 + 0x0100;
    let [high, low] = ((sum + (sum >= 0xffff) as u32) as u16).to_be_bytes();
    u32::from_ne_bytes([hops - 1, protocol, high, low])
}
