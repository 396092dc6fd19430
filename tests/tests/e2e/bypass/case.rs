//! One row of the corpus: frames, and what may become of them.

use std::net::IpAddr;

use portreeve_tests::frames::{self, IPV4, IPV6, Ipv4, Ipv6, Mac, TCP, Tcp};
use portreeve_tests::topology::{GATEWAY4, GATEWAY6, OPEN4, OPEN6, SSH_PORT, TARGET4, TARGET6};
use portreeve_tests::wire::Deferred;

use super::scene::{GHOST, GHOST4, GHOST6};

/// Stands in every frame of the corpus, as sequence number or as payload: a frame that has it is the
/// client's, whoever it says it is from.
pub(super) const MARK: [u8; 4] = *b"PTR0";

/// What may become of a case's frames while the gateway protects the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing arrives at the server.
    Closed,
    /// It may arrive, as something other than TCP to a target.
    NotTcp,
}

/// A row of the corpus.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) frames: Vec<Vec<u8>>,
    /// What the frames leave to the device that sends them.
    pub(super) deferred: Option<Deferred>,
    pub(super) fate: Fate,
    /// Whether a router without the gateway forwards it. The direct route proves it, and so proves
    /// that the frames are what they are meant to be, and that the judge sees them.
    pub(super) forwarded: bool,
}

impl Case {
    /// Frames that a router forwards and the gateway must not.
    pub(super) fn closed(name: impl Into<String>, frames: Vec<Vec<u8>>) -> Self {
        Self { name: name.into(), frames, deferred: None, fate: Fate::Closed, forwarded: true }
    }

    /// No router forwards them.
    pub(super) fn for_nobody(self) -> Self {
        Self { forwarded: false, ..self }
    }

    pub(super) fn with_fate(self, fate: Fate) -> Self {
        Self { fate, ..self }
    }
}

/// Hardware addresses of the ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lan {
    pub(super) gateway: Mac,
    pub(super) server: Mac,
}

impl Lan {
    /// A packet of either family in a frame from the ghost to the gateway.
    pub(super) fn frame(&self, packet: &[u8]) -> Vec<u8> {
        frames::ethernet(self.gateway, GHOST, ethertype(packet), packet)
    }

    /// Frames of packets.
    pub(super) fn frames(&self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        packets.iter().map(|packet| self.frame(packet)).collect()
    }
}

/// The EtherType of a packet, by its version.
pub(super) fn ethertype(packet: &[u8]) -> u16 {
    if packet.first().is_some_and(|first| first >> 4 == 6) { IPV6 } else { IPV4 }
}

/// One family: who sends, the target, an address of the same server that is none, and the gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) src: IpAddr,
    pub(super) target: IpAddr,
    pub(super) open: IpAddr,
    pub(super) gateway: IpAddr,
}

/// Both.
pub(super) const FAMILIES: [Family; 2] = [
    Family {
        name: "IPv4",
        src: IpAddr::V4(GHOST4),
        target: IpAddr::V4(TARGET4),
        open: IpAddr::V4(OPEN4),
        gateway: IpAddr::V4(GATEWAY4),
    },
    Family {
        name: "IPv6",
        src: IpAddr::V6(GHOST6),
        target: IpAddr::V6(TARGET6),
        open: IpAddr::V6(OPEN6),
        gateway: IpAddr::V6(GATEWAY6),
    },
];

impl Family {
    /// A marked segment from the ghost to the target's port.
    pub(super) fn packet(&self, segment: &Tcp) -> Vec<u8> {
        frames::packet(self.src, self.target, TCP, &segment.bytes(self.src, self.target))
    }

    /// A marked SYN from one address to another.
    pub(super) fn syn_between(src: IpAddr, dst: IpAddr) -> Vec<u8> {
        frames::packet(src, dst, TCP, &marked(frames::SYN).bytes(src, dst))
    }

    /// A marked SYN from the ghost to the target.
    pub(super) fn syn(&self) -> Vec<u8> {
        self.packet(&marked(frames::SYN))
    }
}

/// A segment to the target's port with the mark for its sequence number.
pub(super) fn marked(flags: u8) -> Tcp {
    Tcp { sequence: u32::from_be_bytes(MARK), ..Tcp::new(40_000, SSH_PORT, flags) }
}

/// The bytes of a marked segment with a payload, from the ghost to an IPv4 target.
pub(super) fn segment4(flags: u8, payload: &[u8]) -> Vec<u8> {
    Tcp { payload: payload.to_vec(), ..marked(flags) }.bytes(GHOST4.into(), TARGET4.into())
}

/// As [`segment4`], to the IPv6 target.
pub(super) fn segment6(flags: u8, payload: &[u8]) -> Vec<u8> {
    Tcp { payload: payload.to_vec(), ..marked(flags) }.bytes(GHOST6.into(), TARGET6.into())
}

/// A header from the ghost to the IPv4 target.
pub(super) fn header4(protocol: u8) -> Ipv4 {
    Ipv4::new(GHOST4, TARGET4, protocol)
}

/// A header from the ghost to the IPv6 target.
pub(super) fn header6(last: u8) -> Ipv6 {
    Ipv6::new(GHOST6, TARGET6, last)
}
