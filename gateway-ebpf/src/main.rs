//! The kernel programs: entry points only, each a match from outcome to action.
//!
//! Compiled for `target_arch = "bpf"`; on a host the binary is an empty stub, so that the workspace
//! builds without an eBPF toolchain.
//!
//! Invariant of TC and socket lookup: what is for a target reaches one of our sockets or nobody, and there is
//! no path on which a failure lets it through. What is not is left to others untouched, but for answers to
//! and errors about our own connections, and for packets that a later device would make others of.
//! Invariant of XDP: it forwards what it understands in full and what is no target's; all else, and
//! every failure, is left to the stack untouched, where TC is.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs;

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::bindings::{
        TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC,
        sk_action::{SK_DROP, SK_PASS},
        xdp_action::{XDP_PASS, XDP_REDIRECT},
    };
    use aya_ebpf::macros::{classifier, sk_lookup, xdp};
    use aya_ebpf::programs::{SkLookupContext, TcContext, XdpContext};
    use portreeve_ebpf::fast_path::FastPathReason;
    use portreeve_ebpf::stats::Reason;

    use crate::programs::link::Link;
    use crate::programs::{maps, sk_lookup, tc, xdp, xdp_maps};

    #[classifier]
    pub(crate) fn portreeve_tc(ctx: TcContext) -> i32 {
        classify(&ctx, Link::Ethernet)
    }

    #[classifier]
    pub(crate) fn portreeve_bare(ctx: TcContext) -> i32 {
        classify(&ctx, Link::Bare)
    }

    /// A steered packet ends the chain of programs (`OK`): nothing after us may redirect it away.
    #[inline(always)]
    fn classify(ctx: &TcContext, link: Link) -> i32 {
        let outcome = tc::steer(ctx, link);
        maps::count(outcome.reason);
        match outcome.reason {
            Reason::PassedNotTarget => TC_ACT_UNSPEC,
            Reason::SteeredEstablished
            | Reason::SteeredTimeWait
            | Reason::SteeredNew
            | Reason::SteeredReturn
            | Reason::SteeredError => TC_ACT_OK as i32,
            Reason::DroppedNoListener
            | Reason::DroppedFragment
            | Reason::DroppedUnparsable
            | Reason::DroppedReversePath
            | Reason::DroppedSum
            | Reason::DroppedRate
            | Reason::DroppedSourceRate
            | Reason::DroppedAssignFailed => TC_ACT_SHOT as i32,
            Reason::DroppedPolicy => outcome.sent_back.unwrap_or(TC_ACT_SHOT as i32),
        }
    }

    #[sk_lookup]
    pub(crate) fn portreeve_sk(ctx: SkLookupContext) -> u32 {
        match sk_lookup::select(&ctx) {
            sk_lookup::Selection::NotTarget | sk_lookup::Selection::Listener => SK_PASS,
            sk_lookup::Selection::NoListener => SK_DROP,
        }
    }

    /// What is passed meets `portreeve_tc`, as every frame does where this program is not attached.
    #[xdp]
    pub(crate) fn portreeve_xdp(ctx: XdpContext) -> u32 {
        let reason = xdp::forward(&ctx);
        xdp_maps::count(reason);
        match reason {
            FastPathReason::Forwarded => XDP_REDIRECT,
            FastPathReason::PassedInterface
            | FastPathReason::PassedFrame
            | FastPathReason::PassedHeader
            | FastPathReason::PassedProtocol
            | FastPathReason::PassedAddress
            | FastPathReason::PassedHopLimit
            | FastPathReason::PassedTarget
            | FastPathReason::PassedSource
            | FastPathReason::PassedRoute
            | FastPathReason::PassedNeighbour
            | FastPathReason::PassedTooBig
            | FastPathReason::PassedEgress => XDP_PASS,
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    /// The programs may be used under Apache-2.0 or GPL-2.0; `bpf_fib_lookup` asks for the latter, and
    /// the kernel knows this of its spellings (`include/linux/license.h`).
    #[expect(unsafe_code, reason = "the loader finds the licence by its section")]
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 26] = *b"GPL and additional rights\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
