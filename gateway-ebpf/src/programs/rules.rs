//! Network policies that need no more than addresses and ports.
//!
//! Asks the rules in force about a flow, and reports what they block. Does not drop or answer: the caller
//! does. Flows that no rule holds are decided by user space, which asks all policies again.

use core::ffi::c_void;
use core::ptr::from_mut;

use aya_ebpf::helpers::bpf_loop;
use aya_ebpf::programs::TcContext;
use portreeve_ebpf::rules::{BankHeader, BlockedFlow, Flow, MAX_RULES, Number, USER_SPACE};
use portreeve_ebpf::targets::{FAMILY_V4, Words};

use super::maps::{BLOCKED_FLOWS, Parked, count_blocked, rule, rules_in_force};
use super::parse::Packet;
use super::tc::interface;

/// A search for the rule that decides about a flow.
struct Search {
    flow: &'static Flow,
    bank: u32,
    /// The policy of the first rule that holds it.
    found: u32,
}

/// Bank and index of the policy that blocks the flow of a packet that begins it.
///
/// To be called with a packet and a flow that are parked: see [`Parked`](super::maps::Parked).
#[inline(always)]
#[expect(unsafe_code, reason = "raw kernel helper")]
pub(crate) fn blocking(parked: &'static Parked) -> Option<(u32, u32)> {
    let BankHeader { bank, rules } = rules_in_force();
    let mut search = Search { flow: &parked.flow, bank, found: USER_SPACE };
    // SAFETY: `decides` takes an index and a `Search`, which lives as long as the call.
    unsafe { bpf_loop(rules.min(MAX_RULES), decides as *mut c_void, from_mut(&mut search).cast(), 0) };
    (search.found != USER_SPACE).then_some((bank, search.found))
}

/// Whether a rule ends the search. The kernel goes round, since of a loop the verifier follows each round.
#[expect(unsafe_code, reason = "called by the kernel")]
extern "C" fn decides(index: u32, search: *mut c_void) -> i64 {
    // SAFETY: what `blocking` hands over.
    let search = unsafe { &mut *search.cast::<Search>() };
    let Some(rule) = rule(search.bank, index) else { return 1 };
    if !rule.holds(search.flow) {
        return 0;
    }
    search.found = rule.policy;
    1
}

/// A packet as rules see it.
#[inline(always)]
pub(crate) fn flow(packet: &Packet) -> Flow {
    Flow {
        family: packet.family,
        src: number(packet.family, &packet.src),
        dst: number(packet.family, &packet.dst),
        src_port: packet.src_port,
        dst_port: packet.dst_port,
    }
}

/// Counts a flow that was blocked, and tells user space as far as it keeps up.
#[inline(always)]
pub(crate) fn report(ctx: &TcContext, packet: &Packet, bank: u32, policy: u32) {
    count_blocked(bank, policy);
    let Some(mut entry) = BLOCKED_FLOWS.reserve::<BlockedFlow>(0) else { return };
    entry.write(BlockedFlow {
        src: packet.src,
        dst: packet.dst,
        src_port: packet.src_port,
        dst_port: packet.dst_port,
        family: packet.family as u32,
        interface: interface(ctx),
        bank,
        policy,
    });
    entry.submit(0);
}

#[inline(always)]
fn number(family: u8, addr: &Words) -> Number {
    let [a, b, c, d] = addr.map(|word| u32::from_be(word) as u64);
    if family == FAMILY_V4 {
        Number { high: 0, low: a }
    } else {
        Number { high: a << 32 | b, low: c << 32 | d }
    }
}
