//! Loads the kernel programs and attaches them so that they outlive the daemon.
//!
//! Invariants: an interface that was matched before is matched at every moment of a restart, since
//! a pinned link gets the new program in one step, and a socket lookup is replaced only after the
//! new one is in place; only "not found" counts as "no pin"; after [`attach`] exactly the
//! configured interfaces are matched.
//!
//! Does not fill maps: the caller does, before it attaches.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{Link as _, LinkOrder, ProgramError, SchedClassifier, SkLookup, TcAttachType};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use portreeve_core::config::daemon::DatapathConfig;
use portreeve_ebpf::names;

use super::DatapathError;
use super::object::object;
use super::pins::{Attachment, Pins};

/// Kernel mechanism by which the TC program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcMechanism {
    /// TCX link, kernel 6.6 and later.
    Tcx,
    /// Filter of a clsact qdisc.
    Clsact,
}

/// Ours come first among the filters of an interface, and are found again by this handle.
const CLSACT_PRIORITY: u16 = 1;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 0x7072);

impl TcMechanism {
    /// The best that the running kernel has.
    pub fn of_this_kernel() -> Self {
        match KernelVersion::current() {
            Ok(version) if version >= KernelVersion::new(6, 6, 0) => Self::Tcx,
            Ok(_) | Err(_) => Self::Clsact,
        }
    }

    fn attachment(self, interface: &str) -> Result<Attachment, DatapathError> {
        let index = if_nametoindex(interface)
            .map_err(|_| DatapathError::NoSuchInterface { name: interface.to_owned() })?;
        let interface = interface.to_owned();
        Ok(match self {
            Self::Tcx => Attachment::Tcx { index, interface },
            Self::Clsact => Attachment::Clsact(interface),
        })
    }
}

/// Loads programs and maps; maps that are pinned already are used as they are.
pub(super) fn load(config: &DatapathConfig, pins: &Pins) -> Result<Ebpf, DatapathError> {
    let log_level = if config.kernel_log { aya_log::Level::Debug as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    loader.override_global(names::MARK, &config.mark, true);
    loader.override_global(names::LOG_LEVEL, &log_level, true);
    for name in names::PINNED_MAPS {
        loader.map_pin_path(name, pins.map(name));
    }
    let mut ebpf = loader.load(object()?).map_err(|source| DatapathError::Load(Box::new(source)))?;
    let rejected = |name| move |source| DatapathError::Program { name, source: Box::new(source) };
    classifier(&mut ebpf)?.load().map_err(rejected(names::TC_PROGRAM))?;
    sk_lookup(&mut ebpf)?.load().map_err(rejected(names::SK_LOOKUP_PROGRAM))?;
    Ok(ebpf)
}

/// Attaches to the network namespace and the configured interfaces, and detaches from all others.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    interfaces: &[String],
    pins: &Pins,
    mechanism: TcMechanism,
) -> Result<(), DatapathError> {
    attach_sk_lookup(sk_lookup(ebpf)?, pins)?;
    let mut wanted = BTreeSet::from([Attachment::SkLookup]);
    for interface in interfaces {
        let attachment = mechanism.attachment(interface)?;
        let path = pins.attachment(&attachment);
        let program = classifier(ebpf)?;
        match mechanism {
            TcMechanism::Tcx => attach_tcx(program, interface, &path)?,
            TcMechanism::Clsact => attach_clsact(program, interface, &path)?,
        }
        wanted.insert(attachment);
    }
    for stale in pins.attachments()?.iter().filter(|attachment| !wanted.contains(attachment)) {
        detach(stale, pins)?;
    }
    Ok(())
}

/// Undoes one attachment.
pub(super) fn detach(attachment: &Attachment, pins: &Pins) -> Result<(), DatapathError> {
    if let Attachment::Clsact(interface) = attachment {
        // Without its interface there is no filter either.
        if let Ok(link) = clsact_filter(interface) {
            match link.detach() {
                Err(ProgramError::NetlinkError(error)) if error.raw_os_error() == Some(libc::ENOENT) => {}
                result => result.map_err(attach_failed(interface))?,
            }
        }
    }
    remove_pin(&pins.attachment(attachment))
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, DatapathError> {
    let missing = DatapathError::MissingInObject { name: names::TC_PROGRAM };
    ebpf.program_mut(names::TC_PROGRAM).and_then(|program| program.try_into().ok()).ok_or(missing)
}

fn sk_lookup(ebpf: &mut Ebpf) -> Result<&mut SkLookup, DatapathError> {
    let missing = DatapathError::MissingInObject { name: names::SK_LOOKUP_PROGRAM };
    ebpf.program_mut(names::SK_LOOKUP_PROGRAM).and_then(|program| program.try_into().ok()).ok_or(missing)
}

fn attach_failed(point: &str) -> impl Fn(ProgramError) -> DatapathError {
    move |source| DatapathError::Attach { point: point.to_owned(), source: Box::new(source) }
}

fn pin(link: FdLink, path: &Path) -> Result<(), DatapathError> {
    link.pin(path)
        .map(drop)
        .map_err(|source| DatapathError::Pin { path: path.to_owned(), source: Box::new(source) })
}

fn remove_pin(path: &Path) -> Result<(), DatapathError> {
    fs::remove_file(path).map_err(|source| DatapathError::PinDir { path: path.to_owned(), source })
}

/// A pinned link gets the program, unless its interface is gone; else a new one does.
fn attach_tcx(program: &mut SchedClassifier, interface: &str, path: &Path) -> Result<(), DatapathError> {
    let failed = attach_failed(interface);
    if let Some(link) = pinned_tcx(path)? {
        match program.attach_to_link(link) {
            Ok(id) => {
                drop(program.take_link(id).map_err(&failed)?);
                return Ok(());
            }
            Err(ProgramError::SyscallError(error)) if is_defunct(&error.io_error) => {}
            Err(source) => return Err(failed(source)),
        }
        // The interface was made anew with the index of the old one.
        remove_pin(path)?;
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface, TcAttachType::Ingress, order).map_err(&failed)?;
    let link = program.take_link(id).map_err(&failed)?;
    let link = FdLink::try_from(link)
        .map_err(|source| DatapathError::Link { path: path.to_owned(), source: Box::new(source) })?;
    pin(link, path)
}

fn is_defunct(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOLINK)
}

fn pinned_tcx(path: &Path) -> Result<Option<SchedClassifierLink>, DatapathError> {
    let unusable = |source| DatapathError::Link { path: path.to_owned(), source: Box::new(source) };
    match PinnedLink::from_pin(path) {
        Ok(pinned) => SchedClassifierLink::try_from(FdLink::from(pinned)).map(Some).map_err(unusable),
        Err(LinkError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unusable(source)),
    }
}

/// Replaces the program of our filter, or, when that fails, makes the filter; the kernel keeps it
/// without a link. The pin only says that it is there.
fn attach_clsact(program: &mut SchedClassifier, interface: &str, path: &Path) -> Result<(), DatapathError> {
    let failed = attach_failed(interface);
    let qdisc = |source| DatapathError::Clsact { interface: interface.to_owned(), source: Box::new(source) };
    let existing = clsact_filter(interface).map_err(|source| qdisc(TcError::IoError(source)))?;
    let replaced = program.attach_to_link(existing).ok();
    let id = match replaced {
        Some(id) => id,
        None => {
            match tc::qdisc_add_clsact(interface) {
                Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
                result => result.map_err(qdisc)?,
            }
            let options = NlOptions { priority: CLSACT_PRIORITY, handle: CLSACT_HANDLE, classid: None };
            let options = TcAttachOptions::Netlink(options);
            program.attach_with_options(interface, TcAttachType::Ingress, options).map_err(&failed)?
        }
    };
    // Dropped, the link would take the filter with it.
    std::mem::forget(program.take_link(id).map_err(&failed)?);
    if path.exists() {
        remove_pin(path)?;
    }
    program.pin(path).map_err(|source| DatapathError::Pin { path: path.to_owned(), source: Box::new(source) })
}

/// Our filter, whether it is there or not; dropped, it is removed.
fn clsact_filter(interface: &str) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(interface, TcAttachType::Ingress, CLSACT_PRIORITY, CLSACT_HANDLE, None)
}

/// Several socket lookups may be attached at once, so the new one is there before the old one goes.
fn attach_sk_lookup(program: &mut SkLookup, pins: &Pins) -> Result<(), DatapathError> {
    const NETNS: &str = "/proc/thread-self/ns/net";
    let failed = attach_failed("the network namespace");
    let path = pins.attachment(&Attachment::SkLookup);
    let new = PathBuf::from(format!("{}-new", path.display()));
    let error = |source| DatapathError::PinDir { path: new.clone(), source };
    match fs::remove_file(&new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
        _ => {}
    }
    let netns = File::open(NETNS).map_err(|source| DatapathError::Proc { path: NETNS.into(), source })?;
    let id = program.attach(netns).map_err(&failed)?;
    pin(program.take_link(id).map_err(&failed)?.into(), &new)?;
    match nix::unistd::unlink(&path) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(DatapathError::PinDir { path, source: errno.into() }),
    }
    fs::rename(&new, &path).map_err(error)
}
