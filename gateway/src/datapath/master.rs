//! Devices that have other devices for ports: bridges, bonds, VRFs.
//!
//! The programs see a frame first. Where they steer it they leave it a mark and a socket, which holds in
//! the stack of IP; a bridge comes before that, and forwards by hardware address whatever it is. So no
//! interface whose frames another device takes may be one that targets are closed on.
//!
//! Does not see devices that take frames without a master, such as macvlan.

use nix::net::if_::{if_indextoname, if_nametoindex};

use super::DatapathError;
use super::netlink::{find, link};

/// `IFLA_MASTER`: an index.
const MASTER: u16 = 10;
/// `IFLA_LINKINFO`, and in it `IFLA_INFO_SLAVE_KIND`: the kind of the master, as `ip link` names it.
const LINK_INFO: u16 = 18;
const PORT_KIND: u16 = 4;

/// The one kind that takes no frames: its ports stay interfaces of the stack, with routes of their own.
const VRF: &str = "vrf";
/// Its ports belong to a device without traffic; what is for the host comes out of interfaces that the
/// switch has for that.
const OPEN_VSWITCH: &str = "openvswitch";

/// What an interface is a port of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Master {
    index: u32,
    /// `None` for a master that a driver made for itself.
    kind: Option<String>,
}

/// Refuses an interface whose frames another device takes before the stack of IP.
///
/// # Errors
/// [`DatapathError::Port`]; [`DatapathError::Netlink`] also when there is no such interface.
pub(super) fn refuse_port(interface: &str) -> Result<(), DatapathError> {
    let index = if_nametoindex(interface).map_err(|errno| DatapathError::Netlink(errno.into()))?;
    let attributes = link(index).map_err(DatapathError::Netlink)?;
    let Some(master) = Master::of(&attributes).filter(Master::takes_frames) else { return Ok(()) };
    let name = if_indextoname(master.index).map_err(|errno| DatapathError::Netlink(errno.into()))?;
    let name = name.to_string_lossy().into_owned();
    let instead = match master.kind.as_deref() {
        Some(OPEN_VSWITCH) => "the interface of that switch that has the gateway's address".to_owned(),
        _ => name.clone(),
    };
    Err(DatapathError::Port { name: interface.to_owned(), master: name, instead })
}

impl Master {
    /// Reads it out of the attributes of the interface.
    pub(super) fn of(attributes: &[u8]) -> Option<Self> {
        let index = find(attributes, MASTER)?.try_into().map(u32::from_ne_bytes).ok()?;
        let kind = find(attributes, LINK_INFO).and_then(|details| find(details, PORT_KIND));
        let text = |kind| String::from_utf8_lossy(kind).trim_end_matches('\0').to_owned();
        Some(Self { index, kind: kind.map(text) })
    }

    fn takes_frames(&self) -> bool {
        self.kind.as_deref() != Some(VRF)
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::attribute;
    use super::*;

    /// As the kernel tells it: the kind of the interface itself comes first.
    fn port(kind: Option<&str>) -> Vec<u8> {
        let own = attribute(1, b"veth\0");
        let masters = kind.map(|kind| attribute(PORT_KIND, format!("{kind}\0").as_bytes()));
        let details = [own, masters.unwrap_or_default()].concat();
        [attribute(3, b"lan0\0"), attribute(MASTER, &7_u32.to_ne_bytes()), attribute(LINK_INFO, &details)]
            .concat()
    }

    #[test]
    fn all_masters_but_a_vrf_take_frames() {
        for kind in [None, Some("bridge"), Some("bond"), Some("team"), Some("openvswitch"), Some("batadv")] {
            let master = Master::of(&port(kind)).unwrap();
            assert_eq!(master, Master { index: 7, kind: kind.map(str::to_owned) });
            assert!(master.takes_frames(), "{kind:?}");
        }
        assert!(!Master::of(&port(Some("vrf"))).unwrap().takes_frames());
    }

    #[test]
    fn an_interface_without_a_master_has_none() {
        assert_eq!(Master::of(&attribute(3, b"br0\0")), None);
        refuse_port("lo").unwrap();
    }
}
