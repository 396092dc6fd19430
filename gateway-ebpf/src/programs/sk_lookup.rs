//! Which socket takes a connection to a target that the stack looks up by itself.
//!
//! Runs for the whole network namespace, for packets that are delivered locally: those are marked
//! by [`super::tc`], so a destination that is no target is left to the sockets that are bound.

use aya_ebpf::programs::SkLookupContext;
use portreeve_ebpf::targets::{FAMILY_V4, FAMILY_V6};

use super::maps::{LISTENERS, is_target};
use super::socket::slot;

/// What the lookup of one packet came to.
pub(crate) enum Selection {
    /// Not for a target: the stack goes on as usual.
    NotTarget,
    /// Our listener was chosen.
    Listener,
    /// For a target, and nobody listens for targets.
    NoListener,
}

/// Chooses the listener for a connection attempt to a target.
#[inline(always)]
#[expect(unsafe_code, reason = "the context is a kernel structure behind a pointer")]
pub(crate) fn select(ctx: &SkLookupContext) -> Selection {
    const AF_INET: u32 = 2;
    const IPPROTO_TCP: u32 = 6;
    // SAFETY: the verifier translates each access to a field of the context.
    let (family, protocol, port) =
        unsafe { ((*ctx.lookup).family, (*ctx.lookup).protocol, (*ctx.lookup).local_port) };
    if protocol != IPPROTO_TCP {
        return Selection::NotTarget;
    }
    let (family, addr) = if family == AF_INET {
        // SAFETY: as above.
        (FAMILY_V4, [unsafe { (*ctx.lookup).local_ip4 }, 0, 0, 0])
    } else {
        // SAFETY: as above.
        (FAMILY_V6, unsafe { (*ctx.lookup).local_ip6 })
    };
    if !is_target(family, &addr, port as u16) {
        return Selection::NotTarget;
    }
    match LISTENERS.redirect_sk_lookup(ctx, slot(family), 0) {
        Ok(()) => Selection::Listener,
        Err(_) => Selection::NoListener,
    }
}
