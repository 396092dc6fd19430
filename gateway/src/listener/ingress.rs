//! The interface on which an intercepted connection came in.
//!
//! A packet that is steered keeps its interface, and the kernel keeps with a connection where its handshake
//! came in: `mc_index` (IPv4) and the packet information of the SYN (IPv6), told by `IP_PKTOPTIONS` and
//! `IPV6_2292PKTOPTIONS` of a socket whose listener asked for packet information. For a frame with a VLAN
//! tag it is the VLAN's interface. What cannot be learnt is none, which no identity may take for a match.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use portreeve_core::net::interface::InterfaceName;
use tokio::net::TcpStream;

use super::socket::read_option;

/// Room for the control messages of one connection; one of at most 40 bytes is asked for.
const ROOM: usize = 256;

/// Where the handshake of an accepted connection came in. To be asked once: packet information of further
/// packets is switched off, since IPv6 would keep a copy of each.
///
/// # Errors
/// Of the system calls, or when the kernel tells no interface that there is.
pub(super) fn interface(stream: &TcpStream) -> io::Result<InterfaceName> {
    let v4 = stream.local_addr()?.is_ipv4();
    let (level, option) =
        if v4 { (libc::SOL_IP, libc::IP_PKTOPTIONS) } else { (libc::SOL_IPV6, libc::IPV6_2292PKTOPTIONS) };
    let mut control = [0; ROOM];
    let length = read_option(stream.as_raw_fd(), level, option, &mut control)?;
    if v4 {
        setsockopt(&stream, sockopt::Ipv4PacketInfo, &false)?;
    } else {
        setsockopt(&stream.as_fd(), sockopt::Ipv6RecvPacketInfo, &false)?;
    }
    let index = index(control.get(..length).unwrap_or_default())
        .ok_or_else(|| io::Error::other("the kernel tells no interface"))?;
    let name = nix::net::if_::if_indextoname(index)?;
    let name = name.to_str().map_err(io::Error::other)?;
    InterfaceName::new(name).map_err(io::Error::other)
}

/// The interface's index in control messages (cmsg(3)); 0, which no interface has, is none.
fn index(mut control: &[u8]) -> Option<u32> {
    const INT: usize = size_of::<libc::c_int>();
    const HEAD: usize = size_of::<libc::cmsghdr>();
    loop {
        let (length, rest) = control.split_at_checked(size_of::<usize>())?;
        let length = usize::from_ne_bytes(length.try_into().ok()?);
        let level = libc::c_int::from_ne_bytes(rest.get(..INT)?.try_into().ok()?);
        let kind = libc::c_int::from_ne_bytes(rest.get(INT..2 * INT)?.try_into().ok()?);
        let content = control.get(HEAD..length)?;
        // `struct in_pktinfo` begins with the index, `struct in6_pktinfo` has it behind the address.
        let at = match (level, kind) {
            (libc::SOL_IP, libc::IP_PKTINFO) => Some(0),
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => Some(size_of::<libc::in6_addr>()),
            _ => None,
        };
        if let Some(at) = at {
            let index = content.get(at..)?.get(..INT)?.try_into().ok().map(u32::from_ne_bytes)?;
            return (index != 0).then_some(index);
        }
        control = control.get(length.next_multiple_of(size_of::<usize>())..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(level: libc::c_int, kind: libc::c_int, content: &[u8]) -> Vec<u8> {
        let length = size_of::<libc::cmsghdr>() + content.len();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend([level.to_ne_bytes(), kind.to_ne_bytes()].concat());
        bytes.extend(content);
        bytes.resize(length.next_multiple_of(size_of::<usize>()), 0);
        bytes
    }

    fn v4(index: u32) -> Vec<u8> {
        message(libc::SOL_IP, libc::IP_PKTINFO, &[&index.to_ne_bytes()[..], &[10; 8]].concat())
    }

    #[test]
    fn the_index_is_found_behind_other_messages() {
        let v6 =
            message(libc::SOL_IPV6, libc::IPV6_PKTINFO, &[&[0xfd; 16][..], &7_u32.to_ne_bytes()].concat());
        let other = message(libc::SOL_IP, libc::IP_TTL, &[64, 0, 0, 0]);
        assert_eq!(index(&v4(3)), Some(3));
        assert_eq!(index(&v6), Some(7));
        assert_eq!(index(&[other.clone(), v4(3)].concat()), Some(3));
        for none in [Vec::new(), other, v4(0), v4(3)[..18].to_vec(), vec![0xff; 24], vec![0; 64]] {
            assert_eq!(index(&none), None, "{none:?}");
        }
    }

    #[tokio::test]
    async fn an_accepted_connection_tells_its_interface() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let address = listener.local_addr().unwrap();
            let connect = async || tokio::join!(TcpStream::connect(address), listener.accept());
            let (_client, accepted) = connect().await;
            interface(&accepted.unwrap().0).expect_err("nobody asked for packet information");
            if address.is_ipv4() {
                setsockopt(&listener, sockopt::Ipv4PacketInfo, &true).unwrap();
            } else {
                setsockopt(&listener, sockopt::Ipv6RecvPacketInfo, &true).unwrap();
            }
            let (_client, accepted) = connect().await;
            assert_eq!(interface(&accepted.unwrap().0).unwrap().as_str(), "lo", "{address}");
        }
    }

    proptest! {
        #[test]
        fn no_control_message_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), count in 0..40_usize) {
            index(&bytes);
            index(&[count.to_ne_bytes().to_vec(), bytes].concat());
        }
    }
}
