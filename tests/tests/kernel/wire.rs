//! Raw frames on an interface: sent byte by byte, and everything seen that crosses it.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::network::{Network, PATIENCE};

/// A packet socket of one namespace.
pub(crate) struct Wire {
    socket: OwnedFd,
    device: LinkAddr,
}

impl Wire {
    /// Sees what crosses any interface of the namespace from now on, and sends on `device`.
    pub(crate) fn open(network: &Network, side: &str, device: &str) -> Self {
        let device = link_address(network, side, device);
        let socket = network
            .inside(side, || {
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
            })
            .unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(200)).unwrap();
        Self { socket, device }
    }

    /// Sends a frame as it is.
    pub(crate) fn send(&self, frame: &[u8]) {
        sendto(self.socket.as_raw_fd(), frame, &self.device, MsgFlags::empty()).unwrap();
    }

    /// The frames seen until one that `last` holds for, and that one.
    pub(crate) fn until(&self, what: &str, last: impl Fn(&[u8]) -> bool) -> io::Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        let mut frame = [0; 2048];
        while Instant::now() < deadline {
            match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(length) => {
                    seen.push(frame[..length].to_vec());
                    if last(&frame[..length]) {
                        return Ok(seen);
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::other(format!("no {what} within {PATIENCE:?}")))
    }
}

/// Hardware address of an interface.
pub(crate) fn hardware_address(network: &Network, side: &str, device: &str) -> [u8; 6] {
    link_address(network, side, device).addr().unwrap()
}

/// Whether a frame of either family goes from `src` to `dst`, under whatever tags.
pub(crate) fn is_between(frame: &[u8], src: IpAddr, dst: IpAddr) -> bool {
    let octets = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let addresses = [octets(src), octets(dst)].concat();
    frame.windows(addresses.len()).any(|window| window == addresses)
}

fn link_address(network: &Network, side: &str, device: &str) -> LinkAddr {
    let name = device.to_owned();
    let find = move || {
        getifaddrs()
            .unwrap()
            .filter(|entry| entry.interface_name == name)
            .find_map(|entry| entry.address?.as_link_addr().copied())
    };
    network.inside(side, find).unwrap_or_else(|| panic!("no {device} in {side}"))
}
