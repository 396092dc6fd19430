//! Why the datapath could not do what it was asked to.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::ProgramError;
use aya::programs::links::LinkError;
use aya::programs::tc::TcError;
use thiserror::Error;

use super::fast_path::FastPathError;

/// An error of the datapath; those that an operator can mend say how.
#[derive(Debug, Error)]
pub enum DatapathError {
    /// The gateway was built without kernel programs.
    #[error("this gateway was built without kernel programs; build it with `cargo xtask build`")]
    NotBuilt,
    /// The process lacks capabilities.
    #[error("missing {missing}; run as root, or grant them (systemd: AmbientCapabilities=)")]
    MissingCapabilities {
        /// Their names, separated by commas.
        missing: String,
    },
    /// The kernel has not all that steering needs.
    #[error("this kernel lacks {missing}; use Linux 6.1 or later with these switched on")]
    KernelLacks {
        /// What, each with the version that brought it.
        missing: String,
    },
    /// A configured interface does not exist.
    #[error("interface {name} does not exist; `ip link` lists those that do (datapath.interfaces)")]
    NoSuchInterface {
        /// As configured.
        name: String,
    },
    /// The programs cannot read what comes in on a configured interface.
    #[error(
        "interface {name} is neither Ethernet nor WireGuard nor TUN: targets behind it would not be matched \
         (datapath.interfaces)"
    )]
    UnknownFrames {
        /// As configured.
        name: String,
    },
    /// A configured interface is a port of a device that takes its frames before the stack of IP.
    #[error(
        "interface {name} is a port of {master}, which takes its frames first; configure {instead} \
         (datapath.interfaces)"
    )]
    Port {
        /// As configured.
        name: String,
        /// The device that takes them.
        master: String,
        /// What to configure.
        instead: String,
    },
    /// A kernel setting makes steering impossible, or leads around it.
    #[error("{key} is {value}: {effect}; set it to {wanted} (`sysctl -w {key}={wanted}`)")]
    Sysctl {
        /// Name of the setting.
        key: String,
        /// Its value.
        value: String,
        /// The value that steering needs.
        wanted: &'static str,
        /// What happens otherwise.
        effect: &'static str,
    },
    /// A file below `/proc` could not be read.
    #[error("cannot read {path}")]
    Proc {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pin directory is not on a bpffs.
    #[error("{path} is not on a bpffs; mount one (`mount -t bpf bpf /sys/fs/bpf`) or set datapath.pin_dir")]
    NotBpffs {
        /// The configured directory.
        path: PathBuf,
    },
    /// The pin directory could not be read or changed.
    #[error("cannot use {path}")]
    PinDir {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another version of portreeve left pins of another layout.
    #[error(
        "{path} holds programs of layout {found}, this gateway uses {expected}; targets stay closed until \
         `portreeve datapath detach` removes them"
    )]
    OtherLayout {
        /// The pin directory.
        path: PathBuf,
        /// Name of the layout found.
        found: String,
        /// Name of the layout of this build.
        expected: String,
    },
    /// Another gateway uses the pins.
    #[error(
        "another gateway is running on {path}; take over from it (`portreeve run --takeover`), stop it first, or set another datapath.pin_dir"
    )]
    InUse {
        /// The pin directory.
        path: PathBuf,
    },
    /// The kernel does not say how its packets are laid out.
    #[error(
        "{path} does not tell where the kernel has a packet's checksum: boot one with CONFIG_DEBUG_INFO_BTF"
    )]
    KernelTypes {
        /// The kernel's type information.
        path: &'static str,
        /// Why it cannot be read, if it cannot.
        source: Option<io::Error>,
    },
    /// The kernel did not take the maps or programs.
    #[error("cannot load the kernel programs")]
    Load(#[source] Box<EbpfError>),
    /// The object file lacks a program or map of that name.
    #[error("the kernel programs have no {name}; rebuild with `cargo xtask build`")]
    MissingInObject {
        /// Name of the program or map.
        name: &'static str,
    },
    /// The kernel did not accept a program.
    #[error("cannot load the kernel program {name}")]
    Program {
        /// Name of the program.
        name: &'static str,
        /// Why, with the verifier's log.
        source: Box<ProgramError>,
    },
    /// A program could not be attached.
    #[error("cannot attach to {point}")]
    Attach {
        /// Interface or network namespace.
        point: String,
        /// Why.
        source: Box<ProgramError>,
    },
    /// The clsact qdisc could not be made or its filter removed.
    #[error("cannot change the clsact qdisc of {interface}")]
    Clsact {
        /// Interface.
        interface: String,
        /// Why.
        source: Box<TcError>,
    },
    /// The pins were removed while the gateway ran.
    #[error(
        "the programs were detached (`portreeve datapath detach`); restart the gateway to attach them again"
    )]
    Detached,
    /// A link could not be opened.
    #[error("cannot open the link {path}")]
    Link {
        /// Its pin.
        path: PathBuf,
        /// Why.
        source: Box<LinkError>,
    },
    /// A link or program could not be pinned.
    #[error("cannot pin {path}")]
    Pin {
        /// Its pin.
        path: PathBuf,
        /// Why.
        source: Box<PinError>,
    },
    /// More targets than the maps have room for.
    #[error(
        "the targets need more than {limit} {what}, which is what the kernel's maps have room for: join addresses to prefixes, or split the targets between gateways"
    )]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: u32,
    },
    /// Many entries of a map could not be read or changed.
    #[error("map {name}")]
    Batch {
        /// Name of the map.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A map could not be read or changed.
    #[error("map {name}")]
    Map {
        /// Name of the map.
        name: &'static str,
        /// Why.
        source: Box<MapError>,
    },
    /// A change failed, and so did undoing it: the targets are neither the old nor the new ones.
    #[error("targets are half changed: undoing a failed change failed too ({undo})")]
    HalfApplied {
        /// What failed first.
        source: Box<DatapathError>,
        /// What failed while undoing.
        undo: Box<DatapathError>,
    },
    /// The local route or the rule that leads to it could not be changed.
    #[error("cannot {action}")]
    Route {
        /// What was tried.
        action: String,
        /// Why.
        source: rtnetlink::Error,
    },
    /// The fast path could not be switched on, or its maps not be read.
    #[error("fast path")]
    FastPath(#[from] FastPathError),
    /// The netlink socket could not be opened or closed early.
    #[error("netlink")]
    Netlink(#[source] io::Error),
    /// The reader of the kernel log could not be set up.
    #[error("cannot read the kernel log")]
    KernelLog(#[source] Box<aya_log::Error>),
}

impl DatapathError {
    /// [`DatapathError::Attach`] to `point`.
    pub(super) fn attach(point: &str) -> impl Fn(ProgramError) -> Self {
        move |source| Self::Attach { point: point.to_owned(), source: Box::new(source) }
    }
}
