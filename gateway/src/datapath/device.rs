//! What the kernel tells of a network device, for people who look at it.

use nix::net::if_::if_nametoindex;

use super::DatapathError;
use super::netlink::{find, link, number};

/// `IFLA_MTU`: bytes.
const MTU: u16 = 4;
/// `IFLA_OPERSTATE` (RFC 2863 section 3.1.14): down, and down because of what it stands on.
const STATE: u16 = 16;
const DOWN: [u8; 2] = [2, 3];

/// A network device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// The largest packet that it takes, in bytes.
    pub mtu: u64,
    /// Whether nothing can come in.
    pub is_down: bool,
}

/// The device of this name in the network namespace of the calling thread.
///
/// # Errors
/// [`DatapathError::NoSuchInterface`], or [`DatapathError::Netlink`].
pub fn device(name: &str) -> Result<Device, DatapathError> {
    let no_such = |_| DatapathError::NoSuchInterface { name: name.to_owned() };
    let attributes = link(if_nametoindex(name).map_err(no_such)?).map_err(DatapathError::Netlink)?;
    Ok(Device::of(&attributes))
}

impl Device {
    fn of(attributes: &[u8]) -> Self {
        let mtu = find(attributes, MTU).and_then(number).unwrap_or_default();
        let is_down =
            find(attributes, STATE).and_then(<[u8]>::first).is_some_and(|state| DOWN.contains(state));
        Self { mtu, is_down }
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::attribute;
    use super::*;

    #[test]
    fn loopback_is_looked_up_and_states_are_told_apart() {
        let loopback = device("lo").unwrap();
        assert!(loopback.mtu >= 1280);
        assert!(matches!(device("none-such"), Err(DatapathError::NoSuchInterface { .. })));
        for (state, is_down) in [(0, false), (2, true), (3, true), (5, false), (6, false)] {
            let attributes = [attribute(MTU, &1500_u32.to_ne_bytes()), attribute(STATE, &[state])].concat();
            assert_eq!(Device::of(&attributes), Device { mtu: 1500, is_down }, "{state}");
        }
    }
}
