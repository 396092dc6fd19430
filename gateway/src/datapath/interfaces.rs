//! The configured interfaces while steering runs: looked at, and attached again.
//!
//! An interface is its name in the configuration. One that is removed and made anew under the name
//! comes without the program, so what comes in there reaches targets directly until it is attached
//! again.

use aya::Ebpf;
use nix::net::if_::if_nametoindex;

use super::DatapathError;
use super::loader::{self, TcMechanism};
use super::master::refuse_port;
use super::pins::{Attachment, Pins};

/// What a look at one configured interface came to.
#[derive(Debug)]
pub enum InterfaceState {
    /// The program is attached, as it was before.
    Attached,
    /// The program was not attached, and is now.
    Reattached,
    /// There is no interface of that name.
    Absent,
    /// Targets are open to what comes in: the interface is there without the program, or another device
    /// takes its frames.
    Open(DatapathError),
}

/// Looks at an interface, and attaches the program where it is missing: to a port of a bridge too, where
/// it drops what is for targets as long as nobody listens.
pub(super) fn ensure_attached(
    ebpf: &mut Ebpf,
    interface: &str,
    pins: &Pins,
    mechanism: TcMechanism,
) -> InterfaceState {
    let looked = look(ebpf, interface, pins, mechanism);
    match looked.and_then(|state| refuse_port(interface).map(|()| state)) {
        Ok(state) => state,
        // Gone while it was looked at.
        Err(_) if if_nametoindex(interface).is_err() => InterfaceState::Absent,
        Err(error) => InterfaceState::Open(error),
    }
}

fn look(
    ebpf: &mut Ebpf,
    interface: &str,
    pins: &Pins,
    mechanism: TcMechanism,
) -> Result<InterfaceState, DatapathError> {
    let Ok(attachment) = mechanism.attachment(interface) else { return Ok(InterfaceState::Absent) };
    if !pins.exist()? {
        return Err(DatapathError::Detached);
    }
    if loader::is_attached(ebpf, &attachment, pins)? {
        return Ok(InterfaceState::Attached);
    }
    loader::attach_one(ebpf, &attachment, pins)?;
    let of_this_name = |other: &&Attachment| other.interface() == Some(interface) && **other != attachment;
    for stale in pins.attachments()?.iter().filter(of_this_name) {
        loader::detach(stale, pins)?;
    }
    Ok(InterfaceState::Reattached)
}
