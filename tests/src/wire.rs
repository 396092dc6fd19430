//! Raw frames on an interface: sent byte by byte, and everything seen that crosses it.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use nix::{setsockopt_impl, sockopt_impl};

use crate::frames::Mac;
use crate::netns::Netns;

/// Room for what comes in while nobody reads, in bytes.
const BUFFER: usize = 16 << 20;
/// How long one look for a frame takes.
const PATIENCE: Duration = Duration::from_millis(200);
/// Longer than any frame.
const LONGEST: usize = 1 << 16;

/// `linux/if_packet.h`.
const PACKET_VNET_HDR: libc::c_int = 15;

sockopt_impl!(
    /// Whether every frame comes with a `struct virtio_net_hdr` before it.
    VnetHeader,
    SetOnly,
    libc::SOL_PACKET,
    PACKET_VNET_HDR,
    bool
);

/// A packet socket on one interface.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    device: LinkAddr,
}

/// A frame that crossed the interface; the kernel has taken one tag off, if it had any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its bytes.
    pub frame: Vec<u8>,
    /// Whether this side sent it.
    pub outgoing: bool,
}

/// What a frame leaves to the device that sends it: a `struct virtio_net_hdr`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deferred {
    /// Where summing begins, and how far behind that the checksum is written.
    pub checksum: Option<(u16, u16)>,
    /// Kind of segments (`VIRTIO_NET_HDR_GSO_*`), length of the headers before them, and of each.
    pub segments: Option<(u8, u16, u16)>,
}

impl Wire {
    /// Sees what crosses any interface of the namespace from now on, and sends on `device`.
    ///
    /// # Errors
    /// When the interface is not there, or without the right to.
    pub fn open(netns: &Netns, device: &str) -> Result<Self> {
        let device = link_address(netns, device)?;
        let all = || {
            Ok(socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?)
        };
        let socket = netns.enter(all).context("a packet socket")?;
        let patience = TimeVal::new(0, PATIENCE.subsec_micros().into());
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        Ok(Self { socket, device })
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        sendto(self.socket.as_raw_fd(), frame, &self.device, MsgFlags::empty())
            .with_context(|| format!("send {} bytes", frame.len()))?;
        Ok(())
    }

    /// Sends a frame of which the device has to finish a part, as a virtual machine may.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn send_deferred(&self, frame: &[u8], deferred: Deferred) -> Result<()> {
        setsockopt(&self.socket, VnetHeader, &true)?;
        let sent = self.send(&[&deferred.header()[..], frame].concat());
        setsockopt(&self.socket, VnetHeader, &false)?;
        sent
    }

    /// The next frame that crossed the interface, if one comes soon.
    ///
    /// # Errors
    /// The kernel's.
    pub fn receive(&self) -> Result<Option<Seen>> {
        let mut frame = vec![0; LONGEST];
        let (length, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(errno).context("receive from a packet socket"),
        };
        if from.is_none_or(|from| from.ifindex() != self.device.ifindex()) {
            return Ok(None);
        }
        frame.truncate(length);
        let outgoing = from.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING);
        Ok(Some(Seen { frame, outgoing }))
    }
}

impl Deferred {
    fn header(self) -> Vec<u8> {
        const NEEDS_CHECKSUM: u8 = 1;
        let (kind, headers, segment) = self.segments.unwrap_or_default();
        let (start, offset) = self.checksum.unwrap_or_default();
        let flags = if self.checksum.is_some() { NEEDS_CHECKSUM } else { 0 };
        let words = [headers, segment, start, offset].map(u16::to_ne_bytes);
        [&[flags, kind][..], words.as_flattened()].concat()
    }
}

/// Hardware address of an interface.
///
/// # Errors
/// When the interface is not there.
pub fn hardware_address(netns: &Netns, device: &str) -> Result<Mac> {
    link_address(netns, device)?.addr().with_context(|| format!("{device} has no hardware address"))
}

fn link_address(netns: &Netns, device: &str) -> Result<LinkAddr> {
    let find = || {
        Ok(getifaddrs()?
            .filter(|entry| entry.interface_name == device)
            .find_map(|entry| entry.address?.as_link_addr().copied()))
    };
    netns.enter(find)?.with_context(|| format!("no {device} in {}", netns.name()))
}
