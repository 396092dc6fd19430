//! VLAN devices on the interfaces of the fast path.
//!
//! Those take part that do nothing to a frame but take an 802.1Q tag off and put it on. All others are left
//! out, and what is for them goes through the stack: a device that is down, or with another protocol (802.1ad), that is a
//! port of another, that maps priorities (`egress-qos-map`, `ingress-qos-map`), on another VLAN device, or on an
//! interface of another network namespace.

use std::collections::BTreeMap;

use nix::libc;
use portreeve_core::config::daemon::FastPathMode;
use portreeve_ebpf::fast_path::{FastInterface, GENERIC, MAX_VLANS, Vlan};
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::super::DatapathError;
use super::super::master::Master;
use super::super::netlink::{ask, find, is_kind, number};
use super::device::Device;
use super::error::FastPathError;

/// Bytes of `struct ifinfomsg`: family and kind, then as words the index, the flags, and what changed.
const HEADER: usize = 16;

/// A device that takes a tag off and puts it on, and nothing else.
#[derive(Debug, PartialEq, Eq)]
struct VlanDevice {
    name: String,
    device: Device,
    vlan: Vlan,
}

/// The VLANs on interfaces that take part, given by index, and what the program is told of their devices; without
/// those that `apart` names. No more than there is room for.
pub(super) fn on(
    interfaces: &BTreeMap<u32, FastInterface>,
    apart: impl Fn(&str) -> bool,
) -> Result<BTreeMap<Vlan, FastInterface>, DatapathError> {
    if interfaces.is_empty() {
        return Ok(BTreeMap::new());
    }
    let links =
        ask(NETLINK_ROUTE, libc::RTM_GETLINK, NLM_F_DUMP, &[0; HEADER]).map_err(FastPathError::Vlans)?;
    let mut vlans = BTreeMap::new();
    for found in links.iter().filter_map(|link| read(link)).filter(|found| !apart(&found.name)) {
        let Some(interface) = interfaces.get(&found.vlan.on) else { continue };
        let mode = if interface.flags & GENERIC == 0 { FastPathMode::Native } else { FastPathMode::Generic };
        vlans.insert(found.vlan, found.device.settings(&found.name, mode)?);
        if usize::try_from(MAX_VLANS).is_ok_and(|most| vlans.len() >= most) {
            break;
        }
    }
    Ok(vlans)
}

/// Reads a link as the kernel lists it; `None` when it is no VLAN device, or none that may take part.
fn read(link: &[u8]) -> Option<VlanDevice> {
    /// `IFLA_ADDRESS`, `IFLA_IFNAME`, `IFLA_LINK`, `IFLA_LINKINFO`, `IFLA_LINK_NETNSID`.
    const ADDRESS: u16 = 1;
    const NAME: u16 = 3;
    const LINK: u16 = 5;
    const LINK_INFO: u16 = 18;
    const OTHER_NAMESPACE: u16 = 37;
    /// `IFLA_INFO_DATA`.
    const DATA: u16 = 2;
    /// `IFLA_VLAN_ID`, `IFLA_VLAN_EGRESS_QOS`, `IFLA_VLAN_INGRESS_QOS`, `IFLA_VLAN_PROTOCOL`.
    const VID: u16 = 1;
    const PRIORITIES: [u16; 2] = [3, 4];
    const PROTOCOL: u16 = 5;
    /// `ETH_P_8021Q`, in network order.
    const CUSTOMER_TAG: [u8; 2] = [0x81, 0x00];
    /// `IFF_UP`.
    const UP: u64 = 1;

    let word = |at: usize| link.get(at..at + 4).and_then(number);
    let attributes = link.get(HEADER..)?;
    if !is_kind(attributes, b"vlan\0") {
        return None;
    }
    let data = find(find(attributes, LINK_INFO)?, DATA)?;
    let is_plain = word(8)? & UP != 0
        && find(attributes, OTHER_NAMESPACE).is_none()
        && Master::of(attributes).is_none()
        && find(data, PROTOCOL) == Some(&CUSTOMER_TAG)
        && PRIORITIES.iter().all(|kind| find(data, *kind).is_none());
    if !is_plain {
        return None;
    }
    let index = u32::try_from(word(4)?).ok()?;
    let on = u32::try_from(find(attributes, LINK).and_then(number)?).ok()?;
    let vid = u32::try_from(find(data, VID).and_then(number)?).ok().filter(|vid| (1..4095).contains(vid))?;
    let mac = find(attributes, ADDRESS)?.try_into().ok()?;
    let name = String::from_utf8_lossy(find(attributes, NAME)?).trim_end_matches('\0').to_owned();
    Some(VlanDevice { name, device: Device::new(index, mac), vlan: Vlan { on, vid } })
}

#[cfg(test)]
mod tests {
    use super::super::super::netlink::attribute;
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

    /// What the kernel says of a link, in its order; `more` attributes of the VLAN and of the link.
    fn link(flags: u32, kind: &str, vlan: &[(u16, &[u8])], more: &[(u16, &[u8])]) -> Vec<u8> {
        let join =
            |pairs: &[(u16, &[u8])]| pairs.iter().flat_map(|(k, v)| attribute(*k, v)).collect::<Vec<_>>();
        let data = join(vlan);
        let info = [attribute(1, format!("{kind}\0").as_bytes()), attribute(2, &data)].concat();
        let words = [0x0001_0000_u32, 9, flags, 0].map(u32::to_ne_bytes);
        let own: [(u16, &[u8]); 4] = [(3, b"lan0.5\0"), (5, &7_u32.to_ne_bytes()), (1, &MAC), (18, &info)];
        [words.as_flattened(), &join(&own), &join(more)].concat()
    }

    const FLAGS: (u16, &[u8]) = (2, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    const PROTOCOL: (u16, &[u8]) = (5, &[0x81, 0]);

    #[test]
    fn a_plain_vlan_device_takes_part() {
        let vid = 5_u16.to_ne_bytes();
        let found = read(&link(0x1_1043, "vlan", &[PROTOCOL, (1, &vid), FLAGS], &[])).unwrap();
        let device = Device::new(9, MAC);
        assert_eq!(found, VlanDevice { name: "lan0.5".into(), device, vlan: Vlan { on: 7, vid: 5 } });
    }

    #[test]
    fn devices_that_do_more_do_not() {
        let vid = 5_u16.to_ne_bytes();
        let plain = [PROTOCOL, (1, &vid[..]), FLAGS];
        let index = 3_u32.to_ne_bytes();
        let mapping = attribute(1, &[0; 8]);
        for (what, link) in [
            ("down", link(0x1_0042, "vlan", &plain, &[])),
            ("no VLAN", link(1, "macvlan", &plain, &[])),
            ("begins like one", link(1, "vlanx", &plain, &[])),
            ("802.1ad", link(1, "vlan", &[(5, &[0x88, 0xa8]), (1, &vid), FLAGS], &[])),
            ("no protocol", link(1, "vlan", &[(1, &vid), FLAGS], &[])),
            ("no VID", link(1, "vlan", &[PROTOCOL, FLAGS], &[])),
            ("VID 0", link(1, "vlan", &[PROTOCOL, (1, &[0, 0])], &[])),
            ("priorities out", link(1, "vlan", &[PROTOCOL, (1, &vid), (0x8003, &mapping)], &[])),
            ("priorities in", link(1, "vlan", &[PROTOCOL, (1, &vid), (4, &mapping)], &[])),
            ("port of a bridge", link(1, "vlan", &plain, &[(10, &index)])),
            ("interface of another namespace", link(1, "vlan", &plain, &[(37, &index)])),
            ("cut", link(1, "vlan", &plain, &[])[..40].to_vec()),
            ("nothing", Vec::new()),
        ] {
            assert_eq!(read(&link), None, "{what}");
        }
    }

    #[test]
    fn the_kernel_lists_its_links() {
        let lo = FastInterface { index: 1, mac: [0; 3], flags: 0 };
        on(&BTreeMap::from([(1, lo)]), |_| false).unwrap();
    }
}
