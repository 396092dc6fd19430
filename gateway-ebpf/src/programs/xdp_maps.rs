//! The maps of the fast path, and the only code that touches them.
//!
//! The static names are the names in [`portreeve_ebpf::names`]. User space pins the maps; the program
//! writes none of them but the counters.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{DevMapHash, HashMap, PerCpuArray};
use portreeve_ebpf::fast_path::{FAST_PATH_REASONS, FastInterface, FastPathReason, MAX_INTERFACES};

#[map]
static FAST_INTERFACES: HashMap<u32, FastInterface> = HashMap::with_max_entries(MAX_INTERFACES, 0);
#[map]
static FAST_EGRESSES: DevMapHash = DevMapHash::with_max_entries(MAX_INTERFACES, 0);
#[map]
static FAST_STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(FAST_PATH_REASONS, 0);

/// The interface of an index, if it takes part.
#[inline(always)]
#[expect(unsafe_code, reason = "the value is reached by pointer")]
pub(crate) fn interface(index: u32) -> Option<FastInterface> {
    let found = FAST_INTERFACES.get_ptr(index)?;
    // SAFETY: a value of the map, whose memory stays while the program runs; eight bytes that user
    // space may replace meanwhile, which at worst mixes the settings of two moments.
    Some(unsafe { *found })
}

/// Says that the frame leaves by the interface of an [egress key](FastInterface::egress_key); `false`
/// when there is none, and the frame stays.
#[inline(always)]
pub(crate) fn redirect(key: u32) -> bool {
    FAST_EGRESSES.redirect(key, 0).is_ok()
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
