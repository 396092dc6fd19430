//! The fast path: what it knows of an interface, and what became of a frame.
//!
//! User space says which interfaces take part; the program reads it for each frame and never writes it.

/// Flag: frames that come in here are forwarded where that is possible.
pub const FORWARD: u16 = 1;
/// Flag: the route back to the source must lead out of the interface that the frame came in by
/// (`rp_filter` 1, RFC 3704 section 2.2).
pub const STRICT_SOURCE: u16 = 2;
/// Flag: the program is attached in generic mode.
pub const GENERIC: u16 = 4;
/// Flag: the kernel looks routes up without a neighbour (`BPF_FIB_LOOKUP_SKIP_NEIGH`, Linux 6.3).
pub const WITHOUT_NEIGHBOUR: u16 = 8;

/// Flag: there must be a route back to the source (`rp_filter` 1 or 2).
pub const CHECKED_SOURCE: u16 = 16;

/// Most addresses of the host's own in each family for which the [main table](Routing) is asked alone; the
/// maps take twice as many, so that new ones are there before others go.
pub const MAX_LOCAL: u32 = 4096;

/// A family of addresses: the index at which the time stands until which its main table decides.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

/// Number of [`Routing`]s.
pub const ROUTINGS: u32 = 2;

/// Bit of an egress key that says generic mode; the others are the index of the interface.
///
/// Frames go between interfaces of one mode only: what comes in native leaves by `ndo_xdp_xmit`, which an
/// interface may have in native mode alone.
pub const EGRESS_GENERIC: u32 = 1 << 31;

/// Most interfaces that take part; a power of two.
pub const MAX_INTERFACES: u32 = 1024;
const _: () = assert!(MAX_INTERFACES.is_power_of_two());

/// The slot of the interface with an index. Two interfaces may have the same slot; one of them takes part.
#[inline(always)]
pub const fn slot(index: u32) -> u32 {
    index & (MAX_INTERFACES - 1)
}

/// An interface that takes part: value of the map, at its [`slot`]; or a VLAN device on one. All zeros are none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastInterface {
    /// Its index.
    pub index: u32,
    /// Its hardware address; the bytes in memory are in the order of the wire.
    pub mac: [u16; 3],
    /// [`FORWARD`], [`STRICT_SOURCE`], [`GENERIC`], [`WITHOUT_NEIGHBOUR`], [`CHECKED_SOURCE`].
    pub flags: u16,
}

const _: () = assert!(size_of::<FastInterface>() == 12 && align_of::<FastInterface>() == 4);

impl FastInterface {
    /// The key of the interface as an egress.
    #[inline(always)]
    pub const fn egress_key(&self, index: u32) -> u32 {
        if self.flags & GENERIC == 0 { index } else { index | EGRESS_GENERIC }
    }
}

/// Most VLANs on the interfaces that take part; the maps take twice as many, so that new ones are there before
/// others go.
pub const MAX_VLANS: u32 = 4096;

/// A VLAN on an interface: the key to the [`FastInterface`] that stands for its device, and what such a device
/// puts on the frames that leave by it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vlan {
    /// Index of the interface that the frames with the tag are on.
    pub on: u32,
    /// VID of the 802.1Q tag, 1 to 4094.
    pub vid: u32,
}

const _: () = assert!(size_of::<Vlan>() == 8 && align_of::<Vlan>() == 4);

/// What became of a frame; every frame that the program sees counts for exactly one.
///
/// What is not forwarded goes to the stack as it came.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FastPathReason {
    /// Forwarded.
    Forwarded = 0,
    /// To the stack: the interface takes no part.
    PassedInterface = 1,
    /// To the stack: not to the interface's own hardware address, or under a tag that names no VLAN of it, or
    /// neither IPv4 nor IPv6.
    PassedFrame = 2,
    /// To the stack: options, extension headers, a fragment, or a length or checksum that does not hold.
    PassedHeader = 3,
    /// To the stack: neither TCP, nor UDP, nor an ICMP echo.
    PassedProtocol = 4,
    /// To the stack: to or from an address that is not forwarded, or not like others.
    PassedAddress = 5,
    /// To the stack: this is its last hop.
    PassedHopLimit = 6,
    /// To the stack: to or from a target.
    PassedTarget = 7,
    /// To the stack: there is no way back to its source, or not by this interface where that must be.
    PassedSource = 8,
    /// To the stack: for the gateway itself, or nowhere to go.
    PassedRoute = 9,
    /// To the stack: the next hop's hardware address is not known.
    PassedNeighbour = 10,
    /// To the stack: larger than the way out.
    PassedTooBig = 11,
    /// To the stack: leaves by an interface that takes no part in the same mode, or by which it came.
    PassedEgress = 12,
}

impl FastPathReason {
    /// All reasons, in the order of their index.
    pub const ALL: [Self; 13] = [
        Self::Forwarded,
        Self::PassedInterface,
        Self::PassedFrame,
        Self::PassedHeader,
        Self::PassedProtocol,
        Self::PassedAddress,
        Self::PassedHopLimit,
        Self::PassedTarget,
        Self::PassedSource,
        Self::PassedRoute,
        Self::PassedNeighbour,
        Self::PassedTooBig,
        Self::PassedEgress,
    ];

    /// Index of the counter.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Name for people and metrics.
    #[inline(always)]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::PassedInterface => "passed_interface",
            Self::PassedFrame => "passed_frame",
            Self::PassedHeader => "passed_header",
            Self::PassedProtocol => "passed_protocol",
            Self::PassedAddress => "passed_address",
            Self::PassedHopLimit => "passed_hop_limit",
            Self::PassedTarget => "passed_target",
            Self::PassedSource => "passed_source",
            Self::PassedRoute => "passed_route",
            Self::PassedNeighbour => "passed_neighbour",
            Self::PassedTooBig => "passed_too_big",
            Self::PassedEgress => "passed_egress",
        }
    }
}

/// Number of counters.
pub const FAST_PATH_REASONS: u32 = 13;
const _: () = assert!(FastPathReason::ALL.len() == FAST_PATH_REASONS as usize);

#[cfg(feature = "user")]
mod pod {
    use super::{FastInterface, Vlan};

    #[expect(unsafe_code, reason = "a map value of aya must be Pod, and only this crate may say so")]
    // SAFETY: repr(C) of integers that fill it: no padding, every bit pattern valid.
    unsafe impl aya::Pod for FastInterface {}
    #[expect(unsafe_code, reason = "a map key of aya must be Pod, and only this crate may say so")]
    // SAFETY: as above.
    unsafe impl aya::Pod for Vlan {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_index_order() {
        for (index, reason) in (0..).zip(FastPathReason::ALL) {
            assert_eq!(reason.index(), index, "{}", reason.name());
        }
    }

    #[test]
    fn modes_have_keys_of_their_own() {
        let native = FastInterface { index: 7, mac: [0; 3], flags: FORWARD };
        let generic = FastInterface { flags: FORWARD | GENERIC, ..native };
        assert_eq!(native.egress_key(7), 7);
        assert_ne!(generic.egress_key(7), native.egress_key(7));
    }
}
