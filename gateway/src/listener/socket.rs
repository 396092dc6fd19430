//! The listening sockets that steered connections arrive on, and how an intercepted one is reset.
//!
//! Invariants: the sockets are transparent, so that they may accept connections to addresses that
//! are not the gateway's; each is bound to the loopback address and an ephemeral port of its own
//! process. Neither matters to steering, which names the socket itself, but the loopback address
//! keeps the network from connecting to them directly, and the port of its own lets an old and a
//! new process serve side by side. They ask for packet information, which [`super::ingress`] reads from
//! each connection.
//!
//! A local process can still connect to a listener. Its connection has the listener's port as local
//! port; [`ListenerPorts::is_direct`] tells it from a steered one, whose local address is the
//! original destination.
//!
//! Does not accept: that is the caller's.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::libc;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, setsockopt, sockopt,
};
use tokio::net::TcpStream;

const BACKLOG: i32 = 4096;

/// One transparent listener per address family.
#[derive(Debug)]
pub struct Listeners {
    v4: TcpListener,
    v6: TcpListener,
    ports: ListenerPorts,
}

/// Both listeners, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct ListenerFds<'a> {
    /// The IPv4 listener.
    pub v4: BorrowedFd<'a>,
    /// The IPv6 listener, which takes no IPv4 connections.
    pub v6: BorrowedFd<'a>,
}

/// The ports that the listeners are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerPorts {
    v4: u16,
    v6: u16,
}

impl Listeners {
    /// Opens both listeners: non-blocking, close-on-exec.
    ///
    /// # Errors
    /// Of the system calls; without `CAP_NET_ADMIN` setting the transparent option fails with
    /// `EPERM`.
    pub fn bind() -> io::Result<Self> {
        let v4 = listen(AddressFamily::Inet)?;
        let v6 = listen(AddressFamily::Inet6)?;
        let ports = ListenerPorts { v4: v4.local_addr()?.port(), v6: v6.local_addr()?.port() };
        Ok(Self { v4, v6, ports })
    }

    /// The sockets, for steering.
    pub fn fds(&self) -> ListenerFds<'_> {
        ListenerFds { v4: self.v4.as_fd(), v6: self.v6.as_fd() }
    }

    /// The ports, to be kept when the listeners are given away.
    pub const fn ports(&self) -> ListenerPorts {
        self.ports
    }

    /// The listeners for tokio: IPv4, IPv6.
    ///
    /// # Errors
    /// When the runtime's poller refuses a socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn into_tokio(self) -> io::Result<[tokio::net::TcpListener; 2]> {
        Ok([tokio::net::TcpListener::from_std(self.v4)?, tokio::net::TcpListener::from_std(self.v6)?])
    }
}

impl ListenerPorts {
    /// Whether an accepted connection with this local address was made to the listener itself, so
    /// that it has no original destination and must be refused.
    ///
    /// A target whose port happens to be the listener's would be refused too: it stays closed.
    pub const fn is_direct(self, local: SocketAddr) -> bool {
        match local {
            SocketAddr::V4(addr) => addr.port() == self.v4,
            SocketAddr::V6(addr) => addr.port() == self.v6,
        }
    }
}

/// Ends a connection with RST instead of FIN.
///
/// # Errors
/// When the option cannot be set; the connection is then closed in the ordinary way.
pub fn reset(stream: TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &linger)?;
    drop(stream);
    Ok(())
}

/// Lets a socket have addresses that are not the gateway's (`IP_TRANSPARENT`, `IPV6_TRANSPARENT`).
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` or else `CAP_NET_RAW`.
pub fn set_transparent(socket: &impl AsFd, v4: bool) -> io::Result<()> {
    if v4 {
        Ok(setsockopt(socket, sockopt::IpTransparent, &true)?)
    } else {
        set_ipv6_transparent(socket.as_fd().as_raw_fd())
    }
}

fn listen(family: AddressFamily) -> io::Result<TcpListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(family, SockType::Stream, flags, None)?;
    set_transparent(&fd, family == AddressFamily::Inet)?;
    if family == AddressFamily::Inet {
        setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
        let addr = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        socket::bind(fd.as_raw_fd(), &addr)?;
    } else {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
        let addr = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0));
        socket::bind(fd.as_raw_fd(), &addr)?;
    }
    socket::listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(fd))
}

/// `IPV6_TRANSPARENT`, which nix has no type for.
#[expect(unsafe_code, reason = "nix has no type for IPV6_TRANSPARENT")]
fn set_ipv6_transparent(fd: RawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len: libc::socklen_t = size_of::<libc::c_int>().try_into().map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe `on`, which outlives the call; the kernel only reads.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, (&raw const on).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads a socket option of any length into `value`; returns how many bytes of it are the option's.
///
/// # Errors
/// Of `getsockopt`.
#[expect(unsafe_code, reason = "nix has no type for options that are control messages")]
pub(super) fn read_option(
    fd: RawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut [u8],
) -> io::Result<usize> {
    let mut length: libc::socklen_t = value.len().try_into().map_err(io::Error::other)?;
    // SAFETY: pointer and length describe `value`, which nobody else has and which outlives the call; the
    // kernel writes at most `length` bytes, of which every value is a valid `u8`.
    let result = unsafe { libc::getsockopt(fd, level, option, value.as_mut_ptr().cast(), &raw mut length) };
    if result == 0 { length.try_into().map_err(io::Error::other) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_connections_have_the_listener_port() {
        let ports = ListenerPorts { v4: 40_001, v6: 40_002 };
        assert!(ports.is_direct("127.0.0.1:40001".parse().unwrap()));
        assert!(ports.is_direct("[::1]:40002".parse().unwrap()));
        assert!(!ports.is_direct("10.0.0.1:22".parse().unwrap()));
        assert!(!ports.is_direct("[2001:db8::1]:40001".parse().unwrap()));
    }

    #[tokio::test]
    async fn reset_is_seen_as_reset() {
        use tokio::io::AsyncReadExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        reset(accepted.unwrap().0).unwrap();
        let error = client.unwrap().read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
