//! Addresses of one intercepted flow.
//!
//! Invariant: addresses are canonical, an IPv4-mapped IPv6 address is stored as IPv4, so that a
//! policy written for IPv4 cannot be missed by its mapped spelling.

pub mod flow_box;
pub mod interface;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where the user's side of a flow comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(SocketAddr);

/// Where the user's side wanted to go: address and port of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OriginalDst(SocketAddr);

/// The TCP flow between a client and its original destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowTuple {
    /// The user's side.
    pub client: ClientAddr,
    /// The target's side.
    pub original_dst: OriginalDst,
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

impl ClientAddr {
    /// Stores `addr` in canonical form.
    pub fn new(addr: SocketAddr) -> Self {
        Self(canonical(addr))
    }

    /// Address and port.
    pub const fn socket_addr(self) -> SocketAddr {
        self.0
    }

    /// The address alone.
    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }
}

impl OriginalDst {
    /// Stores `addr` in canonical form.
    pub fn new(addr: SocketAddr) -> Self {
        Self(canonical(addr))
    }

    /// Address and port.
    pub const fn socket_addr(self) -> SocketAddr {
        self.0
    }

    /// The address alone.
    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The TCP port.
    pub const fn port(self) -> u16 {
        self.0.port()
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for OriginalDst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_ipv4_is_ipv4() {
        let mapped = ClientAddr::new("[::ffff:10.0.0.1]:99".parse().unwrap());
        assert_eq!(mapped, ClientAddr::new("10.0.0.1:99".parse().unwrap()));
    }
}
