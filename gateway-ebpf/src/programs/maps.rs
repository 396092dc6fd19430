//! The maps and globals, and the only code that touches them.
//!
//! The static names are the names in [`portreeve_ebpf::names`]. Of the maps that user space pins the
//! programs write the counters alone. Rates, parked packets and blocked flows are the programs' own: they
//! begin anew with each load. Decides nothing.

use core::hint::black_box;

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SockMap};
use portreeve_ebpf::rules::{BANKS, BankHeader, Flow, MAX_RULES, Rule};
use portreeve_ebpf::stats::{ATTEMPTS, COUNTERS, Reason, SEEN};
use portreeve_ebpf::targets::{
    ALL_PORTS, ANY_TARGET, FAMILY_V4, MAX_ADDRESSES, MAX_PORT_SETS, MAX_PREFIXES, PREFIX_KEY_HEAD_BITS,
    PortBits, PortSetId, TargetKey, Words,
};

use super::parse::Packet;

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
static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

#[expect(unsafe_code, reason = "user space finds the global by its name")]
#[unsafe(no_mangle)]
static MARK: Global<u32> = Global::new(0);

#[map]
static RULES: Array<Rule> = Array::with_max_entries(BANKS * MAX_RULES, 0);
#[map]
static RULES_IN_FORCE: Array<BankHeader> = Array::with_max_entries(1, 0);
#[map]
static POLICY_STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(BANKS * MAX_RULES, 0);
#[map]
static PARKED: PerCpuArray<Parked> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static BLOCKED_FLOWS: RingBuf = RingBuf::with_byte_size(1 << 18, 0);
#[map]
static SOURCES: LruHashMap<TargetKey, u64> = LruHashMap::with_max_entries(1 << 16, 0);
#[map]
static ALL_SOURCES: Array<u64> = Array::with_max_entries(1, 0);

#[expect(unsafe_code, reason = "user space finds the global by its name")]
#[unsafe(no_mangle)]
static RATE_OF_ALL: Global<[u64; 2]> = Global::new([0; 2]);

#[expect(unsafe_code, reason = "user space finds the global by its name")]
#[unsafe(no_mangle)]
static RATE_OF_SOURCE: Global<[u64; 2]> = Global::new([0; 2]);

#[expect(unsafe_code, reason = "user space finds the global by its name")]
#[unsafe(no_mangle)]
static REVERSE_PATH: Global<u8> = Global::new(1);

#[expect(unsafe_code, reason = "user space finds the global by its name")]
#[unsafe(no_mangle)]
static SK_BUFF: Global<[u32; 5]> = Global::new([0; 5]);

/// Where a kernel has members of its `sk_buff`, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct SkBuff {
    pub(crate) head: u32,
    pub(crate) data: u32,
    pub(crate) csum_start: u32,
    pub(crate) csum_offset: u32,
    pub(crate) network_header: u32,
}

/// The layout of this kernel.
#[inline(always)]
pub(crate) fn sk_buff() -> SkBuff {
    let [head, data, csum_start, csum_offset, network_header] = SK_BUFF.load();
    SkBuff { head, data, csum_start, csum_offset, network_header }
}

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

/// How often something may happen, in nanoseconds.
pub(crate) struct Rate {
    /// From one to the next; 0 is no limit.
    pub(crate) interval: u64,
    /// What may come at once.
    pub(crate) burst: u64,
}

/// New flows of all sources.
#[inline(always)]
pub(crate) fn rate_of_all() -> Rate {
    let [interval, burst] = RATE_OF_ALL.load();
    Rate { interval, burst }
}

/// New flows of each source.
#[inline(always)]
pub(crate) fn rate_of_source() -> Rate {
    let [interval, burst] = RATE_OF_SOURCE.load();
    Rate { interval, burst }
}

/// When the bucket of all sources is empty.
pub(crate) mod all_sources {
    use super::ALL_SOURCES;

    #[inline(always)]
    pub(crate) fn get() -> u64 {
        ALL_SOURCES.get(0).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn set(time: u64) {
        ALL_SOURCES.set(0, time, 0).unwrap_or_default();
    }
}

/// When the bucket of a source is empty.
pub(crate) mod source {
    use portreeve_ebpf::targets::TargetKey;

    use super::SOURCES;

    #[inline(always)]
    #[expect(unsafe_code, reason = "the value of a hash is reached by pointer")]
    pub(crate) fn get(key: &TargetKey) -> u64 {
        // SAFETY: an entry that is reused meanwhile has the time of another source: one flow more or less.
        unsafe { SOURCES.get(key) }.copied().unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn set(key: &TargetKey, time: u64) {
        SOURCES.insert(key, time, 0).unwrap_or_default();
    }
}

/// Bank and number of the rules in force.
#[inline(always)]
pub(crate) fn rules_in_force() -> BankHeader {
    RULES_IN_FORCE.get(0).copied().unwrap_or_default()
}

/// A packet that begins a flow, kept in a map for the rest of its way.
///
/// The verifier follows each way through the parser apart as long as what was parsed is on the stack, and
/// all that is behind them as often. Of values in maps it knows nothing, so behind this all ways are one.
pub(crate) struct Parked {
    /// The packet.
    pub(crate) packet: Packet,
    /// What rules are asked about.
    pub(crate) flow: Flow,
}

/// Keeps a packet until the program ends.
#[inline(always)]
#[expect(unsafe_code, reason = "the value of this CPU is reached by pointer")]
pub(crate) fn park(packet: &Packet, flow: Flow) -> Option<&'static Parked> {
    let place = PARKED.get_ptr_mut(0)?;
    // SAFETY: a per-CPU value, and TC programs of one CPU do not interrupt each other.
    unsafe {
        *place = Parked { packet: *packet, flow };
        Some(&*place)
    }
}

/// A rule of a bank.
#[inline(always)]
pub(crate) fn rule(bank: u32, index: u32) -> Option<&'static Rule> {
    RULES.get(bank * MAX_RULES + index)
}

/// Counts a packet that a policy blocked.
#[inline(always)]
#[expect(unsafe_code, reason = "the counter of this CPU is reached by pointer")]
pub(crate) fn count_blocked(bank: u32, policy: u32) {
    if let Some(counter) = POLICY_STATS.get_ptr_mut(bank * MAX_RULES + policy) {
        // SAFETY: a per-CPU value, and TC programs of one CPU do not interrupt each other.
        unsafe { *counter += 1 }
    }
}

/// Counts what became of one packet.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    increment(reason.index());
}

/// Counts a frame as one for a target, whatever becomes of it.
#[inline(always)]
pub(crate) fn count_seen() {
    increment(SEEN);
}

/// Counts a SYN that may become a connection.
#[inline(always)]
pub(crate) fn count_attempt() {
    increment(ATTEMPTS);
}

#[inline(always)]
#[expect(unsafe_code, reason = "the counter of this CPU is reached by pointer")]
fn increment(index: u32) {
    if let Some(counter) = STATS.get_ptr_mut(index) {
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

/// The verifier of Linux 6.1 knows no bound of a value whose bytes were swapped. The compiler knows one, and leaves out
/// a mask that follows, so it must not see where the port comes from.
#[inline(always)]
fn is_in_set(set: PortSetId, port: u16) -> bool {
    let port = (black_box(u32::from(port)) & u32::from(u16::MAX)) as u16;
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
