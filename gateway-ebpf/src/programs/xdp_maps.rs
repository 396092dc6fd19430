//! The maps of the fast path, and the only code that touches them.
//!
//! The static names are the names in [`portreeve_ebpf::names`]. User space pins the maps; the program
//! writes none of them but the counters.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, DevMapHash, HashMap, PerCpuArray};
use portreeve_ebpf::fast_path::{
    FAST_PATH_REASONS, FastInterface, FastPathReason, MAX_INTERFACES, MAX_LOCAL, MAX_VLANS, ROUTINGS,
    Routing, Vlan, slot,
};
use portreeve_ebpf::targets::Words;

#[map]
static FAST_SLOTS: Array<FastInterface> = Array::with_max_entries(MAX_INTERFACES, 0);
#[map]
static FAST_EGRESSES: DevMapHash = DevMapHash::with_max_entries(MAX_INTERFACES, 0);
#[map]
static FAST_VLANS: HashMap<Vlan, FastInterface> = HashMap::with_max_entries(2 * MAX_VLANS, BPF_F_NO_PREALLOC);
#[map]
static FAST_TAGS: HashMap<u32, Vlan> = HashMap::with_max_entries(2 * MAX_VLANS, BPF_F_NO_PREALLOC);
#[map]
static FAST_STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(FAST_PATH_REASONS, 0);
#[map]
static FAST_MAIN_UNTIL: Array<u64> = Array::with_max_entries(ROUTINGS, 0);
#[map]
static FAST_LOCAL_V4: HashMap<u32, u8> = HashMap::with_max_entries(2 * MAX_LOCAL, 0);
#[map]
static FAST_LOCAL_V6: HashMap<Words, u8> = HashMap::with_max_entries(2 * MAX_LOCAL, 0);

/// The interface of an index, if it takes part.
#[inline(always)]
#[expect(unsafe_code, reason = "the value is reached by pointer")]
pub(crate) fn interface(index: u32) -> Option<FastInterface> {
    let found = FAST_SLOTS.get_ptr(slot(index))?;
    // SAFETY: a value of the map, whose memory stays while the program runs; twelve bytes that user
    // space may replace meanwhile, which at worst mixes the settings of two moments: a frame that does
    // not go to the hardware address, or settings that it takes back.
    let found = unsafe { *found };
    (found.index == index).then_some(found)
}

/// The device of a VLAN, if it takes part.
#[inline(always)]
#[expect(unsafe_code, reason = "the value of a hash is reached by pointer")]
pub(crate) fn vlan_device(vlan: &Vlan) -> Option<FastInterface> {
    // SAFETY: without preallocation an entry is not reused while a program may still read it.
    unsafe { FAST_VLANS.get(vlan) }.copied()
}

/// What the VLAN device of an index puts on frames, if it takes part.
#[inline(always)]
#[expect(unsafe_code, reason = "the value of a hash is reached by pointer")]
pub(crate) fn tag_of(index: u32) -> Option<Vlan> {
    // SAFETY: as above.
    unsafe { FAST_TAGS.get(index) }.copied()
}

/// Says that the frame leaves by the interface of an [egress key](FastInterface::egress_key); `false`
/// when there is none, and the frame stays.
#[inline(always)]
pub(crate) fn redirect(key: u32) -> bool {
    FAST_EGRESSES.redirect(key, 0).is_ok()
}

/// Whether the main table decides now, as user space found; it says so again before the time is over.
#[inline(always)]
#[expect(unsafe_code, reason = "a raw kernel helper")]
pub(crate) fn main_decides(routing: Routing) -> bool {
    // SAFETY: a helper without arguments; `CLOCK_MONOTONIC`, some milliseconds behind.
    FAST_MAIN_UNTIL.get(routing as u32).is_some_and(|until| *until > unsafe { bpf_ktime_get_coarse_ns() })
}

/// Whether the local table has an address: the host's own, or a broadcast or anycast address.
#[inline(always)]
pub(crate) fn is_local(routing: Routing, addr: &Words) -> bool {
    match routing {
        Routing::V4 => FAST_LOCAL_V4.get_ptr(addr[0]).is_some(),
        Routing::V6 => FAST_LOCAL_V6.get_ptr(addr).is_some(),
    }
}

/// Counts one frame.
#[inline(always)]
#[expect(unsafe_code, reason = "the counter of this CPU is reached by pointer")]
pub(crate) fn count(reason: FastPathReason) {
    if let Some(counter) = FAST_STATS.get_ptr_mut(reason.index()) {
        // SAFETY: a per-CPU value, and XDP programs of one CPU do not interrupt each other.
        unsafe { *counter += 1 }
    }
}
