//! Loads the kernel programs and attaches them so that they outlive the daemon.
//!
//! Invariants: an interface that was matched before is matched at every moment of a restart, since
//! a pinned link gets the new program in one step, and a socket lookup is replaced only after the
//! new one is in place; only "not found" counts as "no pin"; after [`attach`] exactly the
//! configured interfaces are matched. How a program gets to an interface is for `tcx` and `clsact`.
//!
//! Does not fill maps: the caller does, before it attaches.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use aya::programs::{SchedClassifier, SkLookup};
use aya::{Ebpf, EbpfLoader};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use portreeve_core::config::daemon::{DatapathConfig, ReversePath};
use portreeve_ebpf::names;

use super::DatapathError;
use super::header::Header;
use super::kernel_types::KernelTypes;
use super::object::object;
use super::pins::{self, Attachment, Pins};
use super::{clsact, features, tcx};

/// Kernel mechanism by which the TC program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcMechanism {
    /// TCX link (Linux 6.6).
    Tcx,
    /// Filter of a clsact qdisc.
    Clsact,
}

impl TcMechanism {
    /// The best that the running kernel has.
    pub fn of_this_kernel() -> Self {
        if features::has_tcx() { Self::Tcx } else { Self::Clsact }
    }

    /// The attachment to the interface that has this name now.
    pub(super) fn attachment(self, interface: &str) -> Result<Attachment, DatapathError> {
        let index = if_nametoindex(interface)
            .map_err(|_| DatapathError::NoSuchInterface { name: interface.to_owned() })?;
        let interface = interface.to_owned();
        Ok(match self {
            Self::Tcx => Attachment::Tcx { index, interface },
            Self::Clsact => Attachment::Clsact(interface),
        })
    }
}

/// Loads maps, and the programs but those that an interface decides about; maps that are pinned already are used as they are.
pub(super) fn load(config: &DatapathConfig, pins: &Pins) -> Result<Ebpf, DatapathError> {
    let log_level = if config.kernel_log { aya_log::Level::Debug as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    loader.override_global(names::MARK, &config.mark, true);
    let strict = u8::from(config.reverse_path == ReversePath::Strict);
    loader.override_global(names::REVERSE_PATH, &strict, true);
    let (all, of_source) = (rate(config.new_connections), rate(config.new_connections_per_source));
    loader.override_global(names::RATE_OF_ALL, &all, true);
    loader.override_global(names::RATE_OF_SOURCE, &of_source, true);
    loader.override_global(names::LOG_LEVEL, &log_level, true);
    let types = KernelTypes::of_this_kernel()?;
    let mut sk_buff = [0; names::SK_BUFF_MEMBERS.len()];
    for (offset, member) in sk_buff.iter_mut().zip(names::SK_BUFF_MEMBERS) {
        *offset = types.offset("sk_buff", member)?;
    }
    loader.override_global(names::SK_BUFF, &sk_buff, true);
    for name in names::PINNED_MAPS.into_iter().chain(names::FAST_PATH_MAPS) {
        loader.map_pin_path(name, pins.map(name));
    }
    let mut ebpf = loader.load(object()?).map_err(|source| DatapathError::Load(Box::new(source)))?;
    let name = names::SK_LOOKUP_PROGRAM;
    sk_lookup(&mut ebpf)?
        .load()
        .map_err(|source| DatapathError::Program { name, source: Box::new(source) })?;
    Ok(ebpf)
}

/// Interval and burst in nanoseconds: what may come in a second may come at once.
fn rate(per_second: u32) -> [u64; 2] {
    const SECOND: u64 = 1_000_000_000;
    SECOND.checked_div(u64::from(per_second)).map_or([0, 0], |interval| [interval, SECOND])
}

/// Attaches to the network namespace and the configured interfaces, and detaches from all others.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    interfaces: &[String],
    pins: &Pins,
    mechanism: TcMechanism,
) -> Result<(), DatapathError> {
    attach_one(ebpf, &Attachment::SkLookup, pins)?;
    let mut wanted = BTreeSet::from([Attachment::SkLookup]);
    for interface in interfaces {
        let attachment = mechanism.attachment(interface)?;
        attach_one(ebpf, &attachment, pins)?;
        wanted.insert(attachment);
    }
    for stale in pins.attachments()?.iter().filter(|attachment| !wanted.contains(attachment)) {
        detach(stale, pins)?;
    }
    Ok(())
}

/// Makes one attachment, or gives it the program where it is there already.
pub(super) fn attach_one(ebpf: &mut Ebpf, attachment: &Attachment, pins: &Pins) -> Result<(), DatapathError> {
    let path = pins.attachment(attachment);
    match attachment {
        Attachment::Tcx { interface, .. } => tcx::attach(classifier(ebpf, interface)?, interface, &path),
        Attachment::Clsact(interface) => clsact::attach(classifier(ebpf, interface)?, interface, &path),
        Attachment::SkLookup => attach_sk_lookup(sk_lookup(ebpf)?, pins),
    }
}

/// Whether an attachment is there, and not only its pin.
pub(super) fn is_attached(
    ebpf: &mut Ebpf,
    attachment: &Attachment,
    pins: &Pins,
) -> Result<bool, DatapathError> {
    let path = pins.attachment(attachment);
    match attachment {
        // A link that takes the program it has is one that lives.
        Attachment::Tcx { interface, .. } => tcx::update(classifier(ebpf, interface)?, interface, &path),
        Attachment::Clsact(interface) => Ok(clsact::attached(interface)?.is_some()),
        Attachment::SkLookup => Ok(path.exists()),
    }
}

/// Undoes one attachment.
pub(super) fn detach(attachment: &Attachment, pins: &Pins) -> Result<(), DatapathError> {
    if let Attachment::Clsact(interface) = attachment {
        clsact::detach(interface)?;
    }
    pins::remove(&pins.attachment(attachment))
}

/// The program for the interface that has this name now; the first interface that needs it has it loaded, since
/// the kernel takes its time over each.
fn classifier<'a>(ebpf: &'a mut Ebpf, interface: &str) -> Result<&'a mut SchedClassifier, DatapathError> {
    let name = Header::of(interface)?.program();
    let missing = DatapathError::MissingInObject { name };
    let program: &mut SchedClassifier =
        ebpf.program_mut(name).and_then(|program| program.try_into().ok()).ok_or(missing)?;
    if program.fd().is_err() {
        program.load().map_err(|source| DatapathError::Program { name, source: Box::new(source) })?;
    }
    Ok(program)
}

fn sk_lookup(ebpf: &mut Ebpf) -> Result<&mut SkLookup, DatapathError> {
    let missing = DatapathError::MissingInObject { name: names::SK_LOOKUP_PROGRAM };
    ebpf.program_mut(names::SK_LOOKUP_PROGRAM).and_then(|program| program.try_into().ok()).ok_or(missing)
}

/// Several socket lookups may be attached at once, so the new one is there before the old one goes.
fn attach_sk_lookup(program: &mut SkLookup, pins: &Pins) -> Result<(), DatapathError> {
    const NETNS: &str = "/proc/thread-self/ns/net";
    let failed = DatapathError::attach("the network namespace");
    let path = pins.attachment(&Attachment::SkLookup);
    let new = PathBuf::from(format!("{}-new", path.display()));
    let error = |source| DatapathError::PinDir { path: new.clone(), source };
    match fs::remove_file(&new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
        _ => {}
    }
    let netns = File::open(NETNS).map_err(|source| DatapathError::Proc { path: NETNS.into(), source })?;
    let id = program.attach(netns).map_err(&failed)?;
    pins::pin(program.take_link(id).map_err(&failed)?.into(), &new)?;
    match nix::unistd::unlink(&path) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(DatapathError::PinDir { path, source: errno.into() }),
    }
    fs::rename(&new, &path).map_err(error)
}
