//! The capabilities (capabilities(7)) that a running gateway keeps; all others are given up for good.
//!
//! Kept: `CAP_NET_ADMIN` for transparent sockets, routes, marks and attaching; `CAP_BPF` and
//! `CAP_PERFMON` to load programs and change maps; `CAP_NET_BIND_SERVICE` to dial a target from a user's
//! own port where that is below 1024. None of them can be given up after the start: a
//! reload of the policy changes maps, an interface that is made anew gets the program again, and a
//! gateway whose successor fails puts its own programs back.
//!
//! Capabilities belong to a thread, and a new thread has those of the one that made it: this has to be
//! called before there are others. What is not held from the start is not asked for.

use std::collections::HashSet;

use caps::{CapSet, Capability};
use nix::sys::prctl;
use thiserror::Error;

/// What is kept, as far as it is held.
const KEPT: [Capability; 4] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
];

/// Rights could not be given up.
#[derive(Debug, Error)]
pub enum CapabilityError {
    /// The kernel refused a change of a set.
    #[error("cannot give up capabilities ({set})")]
    Set {
        /// Which.
        set: &'static str,
        /// Why.
        source: caps::errors::CapsError,
    },
    /// The kernel refused to forbid gaining rights by an exec.
    #[error("cannot set no_new_privs")]
    NoNewPrivs(#[source] nix::Error),
}

/// Gives up all capabilities of the calling thread but those that are kept, and the right to gain any by
/// executing a program.
///
/// The bounding set is left alone without `CAP_SETPCAP`; with `no_new_privs` nothing comes from it.
///
/// # Errors
/// [`CapabilityError`]; some may be given up then.
pub fn reduce() -> Result<(), CapabilityError> {
    let failed = |set| move |source| CapabilityError::Set { set, source };
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed("permitted"))?;
    let effective = caps::read(None, CapSet::Effective).map_err(failed("effective"))?;
    if effective.contains(&Capability::CAP_SETPCAP) {
        let bounding = caps::read(None, CapSet::Bounding).map_err(failed("bounding"))?;
        for capability in bounding.difference(&HashSet::from(KEPT)) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(failed("bounding"))?;
        }
    }
    let kept: HashSet<_> = HashSet::from(KEPT).intersection(&permitted).copied().collect();
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient"))?;
    caps::clear(None, CapSet::Inheritable).map_err(failed("inheritable"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed("effective"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed("permitted"))?;
    prctl::set_no_new_privs().map_err(CapabilityError::NoNewPrivs)
}
