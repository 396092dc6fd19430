//! Keys of the target maps.
//!
//! A packet is a target's when its destination `{address, port}` is in the hash of exact targets or
//! below a prefix of the trie. Port 0, which no TCP segment to a server carries, stands for "some
//! port of this address": it answers whether an address belongs to a target at all, which is all
//! that can be asked about a packet whose port cannot be read.
//!
//! Addresses are [`Words`], so that the kernel programs move them in whole registers: moved byte by
//! byte they would need loops, which the verifier does not allow without `CAP_PERFMON`.

/// Address family byte of IPv4.
pub const FAMILY_V4: u8 = 4;
/// Address family byte of IPv6.
pub const FAMILY_V6: u8 = 6;

/// An address: its bytes in memory are in network order; IPv4 in the first word, the others zero.
pub type Words = [u32; 4];

/// The port that stands for "some port of this address".
pub const ANY_PORT: u16 = 0;

/// Flag of a port: the hash holds targets with it.
pub const PORT_EXACT: u32 = 1;
/// Flag of a port: the trie holds prefixes with it.
pub const PORT_PREFIX: u32 = 2;

/// The value of every entry of the hash and of the trie.
pub const PRESENT: u8 = 1;

/// Bits of a [`PrefixKey`] in front of the address; they always match in full.
pub const PREFIX_KEY_HEAD_BITS: u32 = 32;

/// One exact target: key of the hash.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey {
    /// Address.
    pub addr: Words,
    /// TCP port in network order.
    pub port: [u8; 2],
    /// [`FAMILY_V4`] or [`FAMILY_V6`].
    pub family: u8,
    /// Always zero.
    pub pad: u8,
}

/// One prefix of targets: what follows the length in a key of the trie.
///
/// The port comes first, so that one trie serves all ports: its length counts
/// [`PREFIX_KEY_HEAD_BITS`] and the bits of the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixKey {
    /// TCP port in network order.
    pub port: [u8; 2],
    /// [`FAMILY_V4`] or [`FAMILY_V6`].
    pub family: u8,
    /// Always zero.
    pub pad: u8,
    /// Address.
    pub addr: Words,
}

const _: () = assert!(size_of::<TargetKey>() == 20 && align_of::<TargetKey>() == 4);
const _: () = assert!(size_of::<PrefixKey>() == 20 && align_of::<PrefixKey>() == 4);

/// An IPv4 address in network order as [`Words`].
pub const fn words_of_ipv4(octets: [u8; 4]) -> Words {
    [u32::from_ne_bytes(octets), 0, 0, 0]
}

/// An IPv6 address in network order as [`Words`].
pub const fn words_of_ipv6(octets: [u8; 16]) -> Words {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}

impl TargetKey {
    /// The key of an address and a port.
    #[inline(always)]
    pub const fn new(family: u8, addr: Words, port: u16) -> Self {
        Self { addr, port: port.to_be_bytes(), family, pad: 0 }
    }

    /// The port as a number.
    pub const fn port(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }
}

impl PrefixKey {
    /// The key of an address and a port.
    #[inline(always)]
    pub const fn new(family: u8, addr: Words, port: u16) -> Self {
        Self { port: port.to_be_bytes(), family, pad: 0, addr }
    }

    /// The port as a number.
    pub const fn port(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::{PrefixKey, TargetKey};

    #[expect(unsafe_code, reason = "a map key of aya must be Pod, and only this crate may say so")]
    // SAFETY: repr(C) of integers that fill it: no padding, every bit pattern valid.
    unsafe impl aya::Pod for TargetKey {}
    #[expect(unsafe_code, reason = "a map key of aya must be Pod, and only this crate may say so")]
    // SAFETY: repr(C) of integers that fill it: no padding, every bit pattern valid.
    unsafe impl aya::Pod for PrefixKey {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_network_order() {
        let key = TargetKey::new(FAMILY_V4, [10; 4], 0x1234);
        assert_eq!(key.port, [0x12, 0x34]);
        assert_eq!(key.port(), 0x1234);
        assert_eq!(PrefixKey::new(FAMILY_V6, [0; 4], 22).port(), 22);
    }
}
