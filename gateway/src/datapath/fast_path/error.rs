//! Why the fast path could not be switched on.

use std::io;
use std::path::PathBuf;

use aya::maps::MapError;
use aya::maps::xdp::XdpMapError;
use aya::programs::ProgramError;
use aya::programs::links::LinkError;
use thiserror::Error;

use super::firewall::Obstacle;

/// An error of the fast path; those that an operator can mend say how.
#[derive(Debug, Error)]
pub enum FastPathError {
    /// The kernel lacks a function that the program needs.
    #[error(
        "the fast path needs Linux 5.18 (bpf_xdp_get_buff_len); take interfaces out of datapath.fast_path"
    )]
    OldKernel,
    /// It would skip what the host does with forwarded packets.
    #[error(
        "{0}: the fast path would skip it; take interfaces out of datapath.fast_path, or set \
         datapath.fast_path_ignores_firewall"
    )]
    Obstacle(Obstacle),
    /// What the host does with forwarded packets could not be found out.
    #[error("cannot find out about {what}, which the fast path would skip")]
    Unknown {
        /// What was asked for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The device's properties could not be read.
    #[error("cannot ask for the properties of interface {interface}")]
    Device {
        /// The interface.
        interface: String,
        /// Why.
        source: io::Error,
    },
    /// The interface has no Ethernet frames.
    #[error("interface {interface} has no Ethernet frames; take it out of datapath.fast_path")]
    WithoutFrames {
        /// The interface.
        interface: String,
    },
    /// The VLAN devices could not be read.
    #[error("cannot ask for the VLAN devices of the host")]
    Vlans(#[source] io::Error),
    /// The interface is a part of another.
    #[error(
        "interface {interface} is a port of another one (bridge, bond or VRF), whose rules the fast path would \
         skip; take it out of datapath.fast_path"
    )]
    HasMaster {
        /// The interface.
        interface: String,
    },
    /// The device takes tags off before the program sees the frame.
    #[error(
        "interface {interface} takes VLAN tags off in hardware, so the fast path cannot tell VLANs apart; switch \
         that off (`ethtool -K {interface} rxvlan off rx-vlan-stag-hw-parse off`)"
    )]
    StripsTags {
        /// The interface.
        interface: String,
    },
    /// The device writes checksums where a sender has said, after the program has seen the frame.
    #[error(
        "interface {interface} finishes checksums of frames, which in \"generic\" makes other frames of some than \
         the fast path has seen; switch that off (`ethtool -K {interface} tx off`), or use \"native\""
    )]
    WritesSums {
        /// The interface.
        interface: String,
    },
    /// The device cannot send what comes from another in native mode.
    #[error(
        "interface {interface} cannot send frames of the fast path (no ndo_xdp_xmit; a veth has it while its \
         peer has gro on); use \"generic\", or take it out of datapath.fast_path"
    )]
    CannotTransmit {
        /// The interface.
        interface: String,
    },
    /// Two interfaces have the same place in the map.
    #[error(
        "the indices {} and {} of two interfaces differ by a multiple of 1,024; make one of them anew, or take it \
         out of datapath.fast_path",
        indices.0,
        indices.1
    )]
    SameSlot {
        /// Both indices.
        indices: (u32, u32),
    },
    /// The kernel did not accept the program, or not on this interface.
    #[error("cannot attach the fast path to {interface}")]
    Attach {
        /// The interface.
        interface: String,
        /// Why.
        source: Box<ProgramError>,
    },
    /// A link could not be opened, or is none that outlives the daemon.
    #[error("cannot use the link {path}")]
    Link {
        /// Its pin.
        path: PathBuf,
        /// Why.
        source: Box<LinkError>,
    },
    /// A map could not be read or changed.
    #[error("map {name}")]
    Map {
        /// Name of the map.
        name: &'static str,
        /// Why.
        source: Box<MapError>,
    },
    /// An egress could not be named.
    #[error("interface {index} cannot be a way out")]
    Egress {
        /// Index of the interface.
        index: u32,
        /// Why.
        source: Box<XdpMapError>,
    },
}
