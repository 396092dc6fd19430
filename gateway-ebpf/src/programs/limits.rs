//! How many new flows to targets are let in: of one source, and in all.
//!
//! The generic cell rate algorithm (ITU-T I.371, annex A): of each bucket only the time is kept at which
//! it would be empty; a flow is let in while that is at most a burst ahead, and moves it by one interval.
//! A source is an IPv4 address, or an IPv6 network of 64 bits.
//!
//! When nothing is left for all, sources are not looked at: under a flood of random sources that would
//! be one miss of the cache each. What one source has too much does not count against all.
//!
//! Updates of two CPUs may cost one of them a flow or give it one; nothing waits for a lock.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use portreeve_ebpf::stats::Reason;
use portreeve_ebpf::targets::{FAMILY_V4, TargetKey};

use super::maps::{Rate, all_sources, rate_of_all, rate_of_source, source};
use super::parse::Packet;

/// Takes a flow from both buckets; else says which is empty.
#[inline(always)]
pub(crate) fn exceeded(packet: &Packet) -> Option<Reason> {
    // SAFETY: the helper has no arguments.
    #[expect(unsafe_code, reason = "raw kernel helper")]
    let now = unsafe { bpf_ktime_get_ns() };
    let (all, of_source) = (rate_of_all(), rate_of_source());
    let next_of_all = all_sources::get();
    if !all.lets_in(next_of_all, now) {
        return Some(Reason::DroppedRate);
    }
    if of_source.interval != 0 {
        let key = key(packet);
        let next = source::get(&key);
        if !of_source.lets_in(next, now) {
            return Some(Reason::DroppedSourceRate);
        }
        source::set(&key, of_source.after(next, now));
    }
    if all.interval != 0 {
        all_sources::set(all.after(next_of_all, now));
    }
    None
}

#[inline(always)]
fn key(packet: &Packet) -> TargetKey {
    let [a, b, ..] = packet.src;
    if packet.family == FAMILY_V4 {
        TargetKey::new(packet.family, [a, 0, 0, 0])
    } else {
        TargetKey::new(packet.family, [a, b, 0, 0])
    }
}

impl Rate {
    #[inline(always)]
    fn lets_in(&self, next: u64, now: u64) -> bool {
        self.interval == 0 || next <= now + self.burst
    }

    #[inline(always)]
    fn after(&self, next: u64, now: u64) -> u64 {
        let from = if next > now { next } else { now };
        from + self.interval
    }
}
