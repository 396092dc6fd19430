//! The TC program by TCX (kernel 6.6 and later): pinned links to the ingress of interfaces.
//!
//! A link follows its interface, not the name. When the interface goes, the link stays behind
//! defunct, and an interface that is made anew under the name has none.

use std::fs;
use std::io;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use nix::libc;
use nix::net::if_::if_nametoindex;

use super::DatapathError;
use super::pins;

/// A pinned link gets the program; where there is none that lives, a new one does.
pub(super) fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    path: &Path,
) -> Result<(), DatapathError> {
    if update(program, interface, path)? {
        return Ok(());
    }
    if path.exists() {
        // The interface was made anew with the index of the old one.
        pins::remove(path)?;
    }
    let failed = DatapathError::attach(interface);
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface, TcAttachType::Ingress, order).map_err(&failed)?;
    let link = program.take_link(id).map_err(&failed)?;
    let link = FdLink::try_from(link)
        .map_err(|source| DatapathError::Link { path: path.to_owned(), source: Box::new(source) })?;
    pins::pin(link, path)
}

/// Gives the program to the pinned link in one step; `false` when there is none, or it is defunct.
pub(super) fn update(
    program: &mut SchedClassifier,
    interface: &str,
    path: &Path,
) -> Result<bool, DatapathError> {
    let failed = DatapathError::attach(interface);
    let Some(link) = pinned(path)? else { return Ok(false) };
    let link = SchedClassifierLink::try_from(link)
        .map_err(|source| DatapathError::Link { path: path.to_owned(), source: Box::new(source) })?;
    match program.attach_to_link(link) {
        Ok(id) => {
            drop(program.take_link(id).map_err(&failed)?);
            Ok(true)
        }
        Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOLINK) => {
            Ok(false)
        }
        Err(source) => Err(failed(source)),
    }
}

/// Number of the program of the pinned link, where it runs on the interface that has this name now.
///
/// Asks the kernel about the link alone: programs it gives by number only to `CAP_SYS_ADMIN`.
pub(super) fn attached(interface: &str, path: &Path) -> Result<Option<u32>, DatapathError> {
    let Some(link) = pinned(path)? else { return Ok(None) };
    let Ok(index) = if_nametoindex(interface) else { return Ok(None) };
    let info = link
        .info()
        .map_err(|source| DatapathError::Link { path: path.to_owned(), source: Box::new(source) })?;
    Ok((index_of(info.id())? == Some(index)).then_some(info.program_id()))
}

/// Index of the interface of a link that this process has open, 0 of a defunct one: the kernel tells it with the descriptor
/// (proc_pid_fdinfo(5)).
fn index_of(link: u32) -> Result<Option<u32>, DatapathError> {
    const OPEN: &str = "/proc/self/fdinfo";
    let failed = |source| DatapathError::Proc { path: OPEN.into(), source };
    for entry in fs::read_dir(OPEN).map_err(failed)? {
        // Other threads close theirs meanwhile.
        let Ok(told) = fs::read_to_string(entry.map_err(failed)?.path()) else { continue };
        if number(&told, "link_id") == Some(link) {
            return Ok(number(&told, "ifindex"));
        }
    }
    Ok(None)
}

/// The number in the line that begins with `name`.
fn number(told: &str, name: &str) -> Option<u32> {
    told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

fn pinned(path: &Path) -> Result<Option<FdLink>, DatapathError> {
    match PinnedLink::from_pin(path) {
        Ok(pinned) => Ok(Some(FdLink::from(pinned))),
        Err(LinkError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DatapathError::Link { path: path.to_owned(), source: Box::new(source) }),
    }
}
