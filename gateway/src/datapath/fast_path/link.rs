//! The XDP program on interfaces: pinned links, which outlive the daemon.
//!
//! ```text
//! PIN_DIR/v2/fast_path/native-3   link to the interface with index 3
//! ```
//!
//! A link follows the index; its mode cannot change. What has no interface any more is defunct.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use nix::libc;
use nix::net::if_::if_indextoname;
use portreeve_core::config::daemon::FastPathMode;

use super::super::DatapathError;
use super::super::pins::{self, Pins};
use super::error::FastPathError;

/// Name of the pin of a link.
pub(super) fn name(mode: FastPathMode, index: u32) -> String {
    match mode {
        FastPathMode::Native => format!("native-{index}"),
        FastPathMode::Generic => format!("generic-{index}"),
    }
}

/// Gives the program to the pinned link in one step; where there is none that lives, makes one.
pub(super) fn attach(
    program: &mut Xdp,
    (interface, index): (&str, u32),
    mode: FastPathMode,
    path: &Path,
) -> Result<(), DatapathError> {
    let failed = |source| FastPathError::Attach { interface: interface.to_owned(), source: Box::new(source) };
    let bad_link = |source| FastPathError::Link { path: path.to_owned(), source: Box::new(source) };
    if let Some(link) = pinned(path)? {
        match program.attach_to_link(XdpLink::try_from(link).map_err(bad_link)?) {
            Ok(id) => {
                drop(program.take_link(id).map_err(failed)?);
                return Ok(());
            }
            Err(ProgramError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOLINK) =>
            {
                pins::remove(path)?;
            }
            Err(source) => return Err(failed(source).into()),
        }
    }
    let mode = match mode {
        FastPathMode::Native => XdpMode::Driver,
        FastPathMode::Generic => XdpMode::Skb,
    };
    let id = program.attach_to_if_index(index, mode).map_err(failed)?;
    let link = program.take_link(id).map_err(failed)?;
    match FdLink::try_from(link) {
        Ok(link) => pins::pin(link, path),
        // Where the kernel refuses a link, aya attaches by netlink instead, which cannot be pinned and which
        // this has left attached: attached once more, it can be detached.
        Err(source) => {
            let id = program.attach_to_if_index(index, mode).map_err(failed)?;
            program.detach(id).map_err(failed)?;
            Err(bad_link(source).into())
        }
    }
}

/// Name of the interface, mode and number of the program of a pinned link; `None` for one whose interface has gone.
pub(super) fn attached(pins: &Pins, pin: &str) -> Result<Option<(String, FastPathMode, u32)>, DatapathError> {
    let path = pins.fast_path_dir().join(pin);
    let modes = [FastPathMode::Native, FastPathMode::Generic];
    let of_mode = |mode| {
        let index = pin.rsplit_once('-').and_then(|(_, index)| index.parse().ok())?;
        (name(mode, index) == pin).then_some((mode, index))
    };
    let Some((mode, index)) = modes.into_iter().find_map(of_mode) else { return Ok(None) };
    let (Some(link), Ok(interface)) = (pinned(&path)?, if_indextoname(index)) else { return Ok(None) };
    let info = link.info().map_err(|source| FastPathError::Link { path, source: Box::new(source) })?;
    Ok(Some((interface.to_string_lossy().into_owned(), mode, info.program_id())))
}

/// Removes all links but those whose pins have the names in `wanted`; whether there were any.
pub(super) fn retain(pins: &Pins, wanted: &BTreeSet<String>) -> Result<bool, DatapathError> {
    let dir = pins.fast_path_dir();
    let mut removed = false;
    for name in pins::list(&dir)?.iter().filter(|name| !wanted.contains(*name)) {
        pins::remove(&dir.join(name))?;
        removed = true;
    }
    Ok(removed)
}

fn pinned(path: &Path) -> Result<Option<FdLink>, FastPathError> {
    match PinnedLink::from_pin(path) {
        Ok(pinned) => Ok(Some(FdLink::from(pinned))),
        Err(LinkError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FastPathError::Link { path: path.to_owned(), source: Box::new(source) }),
    }
}
