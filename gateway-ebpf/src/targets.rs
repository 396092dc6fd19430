//! Keys and values of the target maps.
//!
//! Each target address, and each prefix of targets, has one entry, whose value is the index of a set
//! of ports in [`PORT_SETS`](crate::names::PORT_SETS). A packet is a target's when the entry of its
//! destination address, or else that of the longest prefix above it, names a set that holds its
//! destination port. Since the first entry that is found decides, its set holds the ports of every
//! prefix above it too; user space sees to that.
//!
//! Addresses are [`Words`], so that the kernel programs move and compare them in whole registers.

/// Address family byte of IPv4.
pub const FAMILY_V4: u8 = 4;
/// Address family byte of IPv6.
pub const FAMILY_V6: u8 = 6;

/// An address: its bytes in memory are in network order; IPv4 in the first word, the others zero.
pub type Words = [u32; 4];

/// Index of a set of ports.
pub type PortSetId = u32;

/// The set of all ports of all targets. It is asked first, since almost no packet has a port in it.
pub const ALL_PORTS: PortSetId = 0;
/// Sets that there is room for, [`ALL_PORTS`] among them.
pub const MAX_PORT_SETS: u32 = 256;
/// In [`ALL_PORTS`] this port, which no server has, says that there are targets at all.
pub const ANY_TARGET: u16 = 0;

/// Words of a [`PortBits`].
pub const PORT_WORDS: usize = (1 << 16) / 64;

/// A set of ports, one bit each.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortBits {
    /// Port `n` is bit `n % 64` of word `n / 64`.
    pub words: [u64; PORT_WORDS],
}

/// Addresses that may be targets at one time; the hash has room for twice as many, so that a change
/// can add all of the new ones before it removes the old.
pub const MAX_ADDRESSES: u32 = 1 << 20;
/// Prefixes that may be targets at one time; the trie has room for twice as many.
pub const MAX_PREFIXES: u32 = 1 << 16;

/// Bits of a [`TargetKey`] in front of the address; in a prefix they always match in full.
pub const PREFIX_KEY_HEAD_BITS: u32 = 32;

/// The address of a target: key of the hash.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey {
    /// [`FAMILY_V4`] or [`FAMILY_V6`].
    pub family: u32,
    /// Address.
    pub addr: Words,
}

/// One prefix of targets: key of the trie, which serves both families.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixKey {
    /// Length: [`PREFIX_KEY_HEAD_BITS`] and the bits of the address that count.
    pub bits: u32,
    /// Family and address.
    pub key: TargetKey,
}

const _: () = assert!(size_of::<TargetKey>() == 20 && align_of::<TargetKey>() == 4);
const _: () = assert!(size_of::<PrefixKey>() == 24 && align_of::<PrefixKey>() == 4);
const _: () = assert!(size_of::<PortBits>() == 8192);

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
    /// The key of an address.
    #[inline(always)]
    pub const fn new(family: u8, addr: Words) -> Self {
        Self { family: family as u32, addr }
    }
}

impl PortBits {
    /// No port.
    pub const EMPTY: Self = Self { words: [0; PORT_WORDS] };

    /// Whether a port is in the set.
    #[inline(always)]
    pub const fn contains(&self, port: u16) -> bool {
        self.words[(port >> 6) as usize] >> (port & 63) & 1 != 0
    }

    /// Adds a port.
    pub const fn insert(&mut self, port: u16) {
        self.words[(port >> 6) as usize] |= 1 << (port & 63);
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::{PortBits, PrefixKey, TargetKey};

    #[expect(unsafe_code, reason = "a map key of aya must be Pod, and only this crate may say so")]
    // SAFETY: repr(C) of integers that fill it: no padding, every bit pattern valid.
    unsafe impl aya::Pod for TargetKey {}
    #[expect(unsafe_code, reason = "a map key of aya must be Pod, and only this crate may say so")]
    // SAFETY: as above.
    unsafe impl aya::Pod for PrefixKey {}
    #[expect(unsafe_code, reason = "a map value of aya must be Pod, and only this crate may say so")]
    // SAFETY: an array of integers: no padding, every bit pattern valid.
    unsafe impl aya::Pod for PortBits {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_bits() {
        let mut bits = PortBits::EMPTY;
        for port in [1, 22, 63, 64, 65_535] {
            assert!(!bits.contains(port));
            bits.insert(port);
            assert!(bits.contains(port) && !bits.contains(port ^ 2), "{port}");
        }
        assert_eq!(bits.words[0], 1 << 63 | 1 << 22 | 1 << 1);
    }
}
