//! The maps and globals, and the only code that touches them.
//!
//! The static names are the names in [`portreeve_ebpf::names`]. User space pins the maps; the
//! programs never write any of them but the counters.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, SockMap};
use portreeve_ebpf::stats::{REASONS, Reason};
use portreeve_ebpf::targets::{
    ALL_PORTS, ANY_TARGET, FAMILY_V4, MAX_ADDRESSES, MAX_PORT_SETS, MAX_PREFIXES, PREFIX_KEY_HEAD_BITS,
    PortBits, PortSetId, TargetKey, Words,
};

#[map]
static TARGETS: HashMap<TargetKey, PortSetId> =
    HashMap::with_max_entries(2 * MAX_ADDRESSES, BPF_F_NO_PREALLOC);
#[map]
static PREFIXES: LpmTrie<TargetKey, PortSetId> = LpmTrie::with_max_entries(2 * MAX_PREFIXES, 0);
#[map]
static PORT_SETS: Array<PortBits> = Array::with_max_entries(MAX_PORT_SETS, 0);
#[map]
pub(crate) static LISTENERS: SockMap = SockMap::with_max_entries(2, 0);
#[map]
static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASONS, 0);

#[expect(unsafe_code, reason = "user space finds the global by its name")]
#[unsafe(no_mangle)]
static MARK: Global<u32> = Global::new(0);

#[expect(unsafe_code, reason = "user space finds the global by its name")]
#[unsafe(no_mangle)]
static REVERSE_PATH: Global<u8> = Global::new(1);

/// Firewall mark of steered packets.
#[inline(always)]
pub(crate) fn mark() -> u32 {
    MARK.load()
}

/// Whether sources are asked for at all.
#[inline(always)]
pub(crate) fn reverse_path_is_strict() -> bool {
    REVERSE_PATH.load() != 0
}

/// Counts one packet.
#[inline(always)]
#[expect(unsafe_code, reason = "the counter of this CPU is reached by pointer")]
pub(crate) fn count(reason: Reason) {
    if let Some(counter) = STATS.get_ptr_mut(reason.index()) {
        // SAFETY: a per-CPU value, and TC programs of one CPU do not interrupt each other.
        unsafe { *counter += 1 }
    }
}

/// Whether `{addr, port}` is a target.
///
/// The port is asked first: it is one word of 8 KiB, and almost no packet goes further.
#[inline(always)]
pub(crate) fn is_target(family: u8, addr: &Words, port: u16) -> bool {
    is_in_set(ALL_PORTS, port) && matches!(port_set(family, addr), Some(set) if is_in_set(set, port))
}

/// Whether `addr` is a target's at any port.
#[inline(always)]
pub(crate) fn is_target_address(family: u8, addr: &Words) -> bool {
    any_target() && port_set(family, addr).is_some()
}

/// Whether there are targets at all.
#[inline(always)]
pub(crate) fn any_target() -> bool {
    is_in_set(ALL_PORTS, ANY_TARGET)
}

#[inline(always)]
fn is_in_set(set: PortSetId, port: u16) -> bool {
    match PORT_SETS.get(set) {
        Some(bits) => bits.contains(port),
        None => false,
    }
}

/// The ports of the address, or else of the longest prefix above it.
#[inline(always)]
#[expect(unsafe_code, reason = "the value of a hash is reached by pointer")]
fn port_set(family: u8, addr: &Words) -> Option<PortSetId> {
    let key = TargetKey::new(family, *addr);
    // SAFETY: without preallocation an entry is not reused while a program may still read it.
    if let Some(set) = unsafe { TARGETS.get(key) } {
        return Some(*set);
    }
    let bits = if family == FAMILY_V4 { 32 } else { 128 };
    PREFIXES.get(Key::new(PREFIX_KEY_HEAD_BITS + bits, key)).copied()
}
