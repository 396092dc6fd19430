//! What packets of an interface begin with, so which of the programs it gets.
//!
//! A program that reads one header where there is another would match nothing and so pass targets: what
//! is not known here is refused. Devices without a header of the link are known by their kind, since some kinds
//! let packets of theirs keep the header of another link.

use nix::libc;
use nix::net::if_::if_nametoindex;
use portreeve_ebpf::names;

use super::DatapathError;
use super::netlink::{is_kind, link_and_hardware};

/// Kinds of devices whose packets begin with the IP header.
const BARE: [&[u8]; 2] = [b"wireguard\0", b"tun\0"];

/// The header in front of that of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// An Ethernet header.
    Ethernet,
    /// None.
    Bare,
}

impl Header {
    /// That of the interface that has this name now.
    ///
    /// # Errors
    /// [`DatapathError::NoSuchInterface`]; [`DatapathError::UnknownFrames`] for other ones;
    /// [`DatapathError::Netlink`] when the kernel does not answer.
    pub(super) fn of(interface: &str) -> Result<Self, DatapathError> {
        let index = if_nametoindex(interface)
            .map_err(|_| DatapathError::NoSuchInterface { name: interface.to_owned() })?;
        let (attributes, hardware) = link_and_hardware(index).map_err(DatapathError::Netlink)?;
        Self::told_by(hardware, &attributes)
            .ok_or_else(|| DatapathError::UnknownFrames { name: interface.to_owned() })
    }

    /// Name of the program that reads it.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Ethernet => names::TC_PROGRAM,
            Self::Bare => names::TC_BARE_PROGRAM,
        }
    }

    /// From the kind of hardware (`ARPHRD_*`) and the attributes of a device.
    fn told_by(hardware: u16, attributes: &[u8]) -> Option<Self> {
        match hardware {
            libc::ARPHRD_ETHER => Some(Self::Ethernet),
            libc::ARPHRD_NONE => BARE.iter().any(|kind| is_kind(attributes, kind)).then_some(Self::Bare),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::attribute;
    use super::*;

    #[test]
    fn headers_are_known_by_hardware_and_kind() {
        // `IFLA_LINKINFO`, and in it `IFLA_INFO_KIND`.
        let kind = |kind: &str| attribute(18, &attribute(1, format!("{kind}\0").as_bytes()));
        for (hardware, attributes, header) in [
            (libc::ARPHRD_ETHER, Vec::new(), Some(Header::Ethernet)),
            (libc::ARPHRD_ETHER, kind("tun"), Some(Header::Ethernet)),
            (libc::ARPHRD_NONE, kind("wireguard"), Some(Header::Bare)),
            (libc::ARPHRD_NONE, kind("tun"), Some(Header::Bare)),
            (libc::ARPHRD_NONE, kind("xfrm"), None),
            (libc::ARPHRD_NONE, kind("tunnel"), None),
            (libc::ARPHRD_NONE, Vec::new(), None),
            (libc::ARPHRD_PPP, kind("ppp"), None),
        ] {
            assert_eq!(Header::told_by(hardware, &attributes), header, "{hardware:?}");
        }
    }

    #[test]
    fn other_devices_are_refused() {
        assert!(matches!(Header::of("lo"), Err(DatapathError::UnknownFrames { name }) if name == "lo"));
        assert!(matches!(Header::of("none-such"), Err(DatapathError::NoSuchInterface { .. })));
    }
}
