//! Rules that block new flows to targets by their addresses and ports.
//!
//! Two banks of rules, one of which is in force: the other is written, and then [`BankHeader`] names it
//! in one step. The first rule of the bank that holds a flow decides; what none holds is user space's.
//!
//! Numbers are in the host's order here, since they are compared as such.

/// Rules of one bank.
pub const MAX_RULES: u32 = 256;
/// Banks.
pub const BANKS: u32 = 2;
/// The policy of a rule whose flows user space decides about.
pub const USER_SPACE: u32 = u32::MAX;

/// An address as a number: an IPv4 address is below 2^32.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number {
    /// The first eight bytes of an IPv6 address.
    pub high: u64,
    /// The last eight bytes, or an IPv4 address.
    pub low: u64,
}

/// A new flow, as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// [`FAMILY_V4`](crate::targets::FAMILY_V4) or [`FAMILY_V6`](crate::targets::FAMILY_V6).
    pub family: u8,
    /// Source.
    pub src: Number,
    /// Destination.
    pub dst: Number,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

/// One rule: the flows within four ranges, and what becomes of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Lowest source.
    pub src_first: Number,
    /// Highest source.
    pub src_last: Number,
    /// Lowest destination.
    pub dst_first: Number,
    /// Highest destination.
    pub dst_last: Number,
    /// Lowest source port.
    pub src_port_first: u16,
    /// Highest source port.
    pub src_port_last: u16,
    /// Lowest destination port.
    pub dst_port_first: u16,
    /// Highest destination port.
    pub dst_port_last: u16,
    /// Family, or 0 for either.
    pub family: u32,
    /// Index of the policy that blocks, or [`USER_SPACE`].
    pub policy: u32,
}

/// Which rules are in force; one value, so that it changes in one step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BankHeader {
    /// Index of the bank.
    pub bank: u32,
    /// Its rules.
    pub rules: u32,
}

/// A flow that was blocked, for the access log.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockedFlow {
    /// Source, in network order; IPv4 in the first word.
    pub src: [u32; 4],
    /// Destination, likewise.
    pub dst: [u32; 4],
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Family.
    pub family: u32,
    /// Index of the interface that it came in on.
    pub interface: u32,
    /// Bank and index of the policy that blocked it.
    pub bank: u32,
    /// As [`Rule::policy`].
    pub policy: u32,
}

const _: () = assert!(size_of::<Rule>() == 80 && align_of::<Rule>() == 8);
const _: () = assert!(size_of::<BankHeader>() == 8);
const _: () = assert!(size_of::<BlockedFlow>() == 52);

impl Number {
    #[inline(always)]
    const fn is_between(self, first: Self, last: Self) -> bool {
        first.is_at_most(self) && self.is_at_most(last)
    }

    #[inline(always)]
    const fn is_at_most(self, other: Self) -> bool {
        self.high < other.high || self.high == other.high && self.low <= other.low
    }
}

impl Rule {
    /// Whether a flow is within the ranges.
    #[inline(always)]
    pub const fn holds(&self, flow: &Flow) -> bool {
        (self.family == 0 || self.family == flow.family as u32)
            && self.dst_port_first <= flow.dst_port
            && flow.dst_port <= self.dst_port_last
            && self.src_port_first <= flow.src_port
            && flow.src_port <= self.src_port_last
            && flow.src.is_between(self.src_first, self.src_last)
            && flow.dst.is_between(self.dst_first, self.dst_last)
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::{BankHeader, BlockedFlow, Rule};

    #[expect(unsafe_code, reason = "a map value of aya must be Pod, and only this crate may say so")]
    // SAFETY: repr(C) of integers that fill it: no padding, every bit pattern valid.
    unsafe impl aya::Pod for Rule {}
    #[expect(unsafe_code, reason = "a map value of aya must be Pod, and only this crate may say so")]
    // SAFETY: as above.
    unsafe impl aya::Pod for BankHeader {}
    #[expect(unsafe_code, reason = "read from a ring buffer byte by byte")]
    // SAFETY: as above.
    unsafe impl aya::Pod for BlockedFlow {}
}
