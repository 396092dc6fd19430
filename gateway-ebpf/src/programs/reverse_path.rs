//! Whether a source address belongs behind the interface that its packet came in on.
//!
//! Who a user is rests on the source address, so a packet to a target must come in on the interface
//! by which the router would send to its source (strict reverse path, RFC 3704 section 2.2), as
//! [`fib::way_back`] finds it. What is no unicast route to a neighbour or beyond (the router's own
//! addresses, loopback, multicast, unreachable, forwarding switched off on the interface) is not behind
//! any interface.
//!
//! Under a VLAN tag the packet goes on to a device that is not known here: that device is asked, where
//! the program runs on it. Priority tags (VID 0) do not count: what is behind them stays here.
//!
//! With several routes of equal cost the lookup chooses one by the addresses; sources behind the others
//! are refused.

use aya_ebpf::programs::TcContext;

use super::fib::{self, Query};
use super::maps::reverse_path_is_strict;
use super::parse::Packet;
use super::tc::interface;

/// Whether the packet may have come in here, as far as can be told on this interface.
#[inline(always)]
pub(crate) fn holds(ctx: &TcContext, packet: &Packet) -> bool {
    if !reverse_path_is_strict() || packet.in_vlan {
        return true;
    }
    let (ingress, Packet { family, src, dst, .. }) = (interface(ctx), *packet);
    let query = Query {
        family,
        protocol: 0,
        ports: [0; 2],
        src,
        dst,
        class: 0,
        length: 0,
        ingress,
        only_main: false,
    };
    fib::way_back(ctx, &query, false) == Some(ingress)
}
