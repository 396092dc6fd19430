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
    ANY_PORT, FAMILY_V4, PORT_EXACT, PORT_PREFIX, PREFIX_KEY_HEAD_BITS, PrefixKey, TargetKey, Words,
};

/// Twice the exact targets that fit: each takes an entry of its own and one for its address.
const MAX_TARGETS: u32 = 1 << 18;
const MAX_PREFIXES: u32 = 1 << 16;

#[map]
static TARGETS: HashMap<TargetKey, u8> = HashMap::with_max_entries(MAX_TARGETS, BPF_F_NO_PREALLOC);
#[map]
static PREFIXES: LpmTrie<PrefixKey, u8> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
static PORTS: Array<u32> = Array::with_max_entries(1 << 16, 0);
#[map]
pub(crate) static LISTENERS: SockMap = SockMap::with_max_entries(2, 0);
#[map]
static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASONS, 0);

#[expect(unsafe_code, reason = "user space finds the global by its name")]
#[unsafe(no_mangle)]
static MARK: Global<u32> = Global::new(0);

/// Firewall mark of steered packets.
#[inline(always)]
pub(crate) fn mark() -> u32 {
    MARK.load()
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

/// Whether `{addr, port}` is a target; with port 0, whether `addr` is a target's at any port.
///
/// The port is asked first: it is one array access, and almost no packet goes further.
#[inline(always)]
pub(crate) fn is_target(family: u8, addr: &Words, port: u16) -> bool {
    let flags = port_flags(port);
    if flags & PORT_EXACT != 0 && TARGETS.get_ptr(TargetKey::new(family, *addr, port)).is_some() {
        return true;
    }
    flags & PORT_PREFIX != 0 && is_below_prefix(family, addr, port)
}

/// Whether there are targets at all: each has an entry at port 0.
#[inline(always)]
pub(crate) fn any_target() -> bool {
    port_flags(ANY_PORT) != 0
}

#[inline(always)]
fn port_flags(port: u16) -> u32 {
    match PORTS.get(port as u32) {
        Some(flags) => *flags,
        None => 0,
    }
}

#[inline(always)]
fn is_below_prefix(family: u8, addr: &Words, port: u16) -> bool {
    let bits = if family == FAMILY_V4 { 32 } else { 128 };
    let key = Key::new(PREFIX_KEY_HEAD_BITS + bits, PrefixKey::new(family, *addr, port));
    PREFIXES.get(key).is_some()
}
