//! What the fast path must know of a device.

use std::io;

use aya::util::KernelVersion;
use nix::net::if_::if_nametoindex;
use portreeve_core::config::daemon::FastPathMode;
use portreeve_ebpf::fast_path::{
    CHECKED_SOURCE, FORWARD, FastInterface, GENERIC, STRICT_SOURCE, WITHOUT_NEIGHBOUR,
};

use super::super::master::Master;
use super::super::netlink::{self, ask_generic, attribute, find, is_kind, number, values};
use super::super::preflight::sysctl;
use super::error::FastPathError;

/// Properties of an interface at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Its index.
    pub(super) index: u32,
    mac: [u8; 6],
    has_master: bool,
    is_veth: bool,
}

impl Device {
    /// Asks for an interface by name; `None` when there is none.
    pub(super) fn find(interface: &str) -> Result<Option<Self>, FastPathError> {
        let Ok(index) = if_nametoindex(interface) else { return Ok(None) };
        let failed = |source| FastPathError::Device { interface: interface.to_owned(), source };
        let without_frames = || FastPathError::WithoutFrames { interface: interface.to_owned() };
        match netlink::link(index) {
            Ok(attributes) => Ok(Some(Self {
                has_master: Master::of(&attributes).is_some(),
                is_veth: is_kind(&attributes, b"veth\0"),
                ..Self::new(index, mac(&attributes).ok_or_else(without_frames)?)
            })),
            // Gone while it was looked at.
            Err(_) if if_nametoindex(interface).is_err() => Ok(None),
            Err(source) => Err(failed(source)),
        }
    }

    /// A device that is a part of no other, and no veth.
    pub(super) const fn new(index: u32, mac: [u8; 6]) -> Self {
        Self { index, mac, has_master: false, is_veth: false }
    }

    /// Says what cannot be found out from here: a veth hands over a tag beside the frame when its other end,
    /// which may be in another namespace, does not put it in (`skb->vlan_tci`), and the program does not see it.
    pub(super) fn warn(&self, interface: &str) {
        if self.is_veth {
            tracing::warn!(
                interface,
                "the fast path takes frames for untagged that the other end of a veth tags beside them: make sure \
                 that it leaves tags in (there: `ethtool -K PEER txvlan off tx-vlan-stag-hw-insert off`)"
            );
        }
    }

    /// Refuses an interface on which frames are not what they look like, or not what they will be.
    pub(super) fn check(&self, interface: &str, mode: FastPathMode) -> Result<(), FastPathError> {
        let named = || interface.to_owned();
        if self.has_master {
            return Err(FastPathError::HasMaster { interface: named() });
        }
        let failed = |source| FastPathError::Device { interface: named(), source };
        let features = features(self.index).map_err(failed)?;
        if features.iter().any(|name| STRIPS_TAGS.contains(&name.as_str())) {
            return Err(FastPathError::StripsTags { interface: named() });
        }
        // In native mode what a sender has left to later devices is lost, and nothing is written.
        if mode == FastPathMode::Generic && features.iter().any(|name| name.starts_with(WRITES_SUMS)) {
            return Err(FastPathError::WritesSums { interface: named() });
        }
        Ok(())
    }

    /// Refuses an interface that could not send what others give it, which is known once it has the program.
    pub(super) fn check_egress(&self, interface: &str, mode: FastPathMode) -> Result<(), FastPathError> {
        let failed = |source| FastPathError::Device { interface: interface.to_owned(), source };
        if mode == FastPathMode::Native && !transmits(self.index).map_err(failed)? {
            return Err(FastPathError::CannotTransmit { interface: interface.to_owned() });
        }
        Ok(())
    }

    /// What the program is told; `rp_filter` is as the stack takes it, the greater of two.
    pub(super) fn settings(
        &self,
        interface: &str,
        mode: FastPathMode,
    ) -> Result<FastInterface, super::DatapathError> {
        let mut flags = FORWARD;
        if mode == FastPathMode::Generic {
            flags |= GENERIC;
        }
        if matches!(KernelVersion::current(), Ok(version) if version >= KernelVersion::new(6, 3, 0)) {
            flags |= WITHOUT_NEIGHBOUR;
        }
        let all = sysctl(&["ipv4", "conf", "all", "rp_filter"])?.unwrap_or_default();
        let own = sysctl(&["ipv4", "conf", interface, "rp_filter"])?.unwrap_or_default();
        match all.max(own).as_str() {
            "0" => {}
            "1" => flags |= CHECKED_SOURCE | STRICT_SOURCE,
            _ => flags |= CHECKED_SOURCE,
        }
        let [a, b, c, d, e, f] = self.mac;
        let mac = [[a, b], [c, d], [e, f]].map(u16::from_ne_bytes);
        Ok(FastInterface { index: self.index, mac, flags })
    }
}

/// Hardware address; devices without Ethernet frames have none of that length.
fn mac(attributes: &[u8]) -> Option<[u8; 6]> {
    /// `IFLA_ADDRESS`.
    const ADDRESS: u16 = 1;
    find(attributes, ADDRESS)?.try_into().ok()
}

/// Features: `rx-vlan-offload`, by the kernel's name, and the same for tags of 802.1ad.
const STRIPS_TAGS: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];
/// Features: `tx-checksumming`, by what the kernel's names begin with.
const WRITES_SUMS: &str = "tx-checksum-";

/// Names of the features that are on.
fn features(index: u32) -> io::Result<Vec<String>> {
    /// `ETHTOOL_MSG_FEATURES_GET`; `ETHTOOL_A_FEATURES_HEADER`, `ETHTOOL_A_HEADER_DEV_INDEX`,
    /// `ETHTOOL_A_FEATURES_ACTIVE`; in its `ETHTOOL_A_BITSET_BITS` a list, whose items have an
    /// `ETHTOOL_A_BITSET_BIT_NAME`.
    const GET_FEATURES: u8 = 11;
    const HEADER: u16 = 1;
    const DEVICE: u16 = 1;
    const ACTIVE: u16 = 4;
    const BITS: u16 = 3;
    const BIT_NAME: u16 = 2;
    const NESTED: u16 = 1 << 15;
    let header = attribute(HEADER | NESTED, &attribute(DEVICE, &index.to_ne_bytes()));
    let answers = ask_generic("ethtool", GET_FEATURES, &header)?;
    let active = answers.first().and_then(|answer| find(answer, ACTIVE)).and_then(|set| find(set, BITS));
    let names = values(active.ok_or(io::ErrorKind::InvalidData)?).filter_map(|bit| find(bit, BIT_NAME));
    Ok(names.map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()).collect())
}

/// Whether the device sends frames of other devices in native mode; before Linux 6.3 the kernel does not
/// tell, and they are taken to.
fn transmits(index: u32) -> io::Result<bool> {
    /// `NETDEV_CMD_DEV_GET`; `NETDEV_A_DEV_IFINDEX`, `NETDEV_A_DEV_XDP_FEATURES`; `NETDEV_XDP_ACT_NDO_XMIT`.
    const GET_DEVICE: u8 = 1;
    const INDEX: u16 = 1;
    const FEATURES: u16 = 3;
    const TRANSMIT: u64 = 4;
    match ask_generic("netdev", GET_DEVICE, &attribute(INDEX, &index.to_ne_bytes())) {
        Ok(answers) => {
            let features = answers.first().and_then(|answer| find(answer, FEATURES)).and_then(number);
            Ok(features.ok_or(io::ErrorKind::InvalidData)? & TRANSMIT != 0)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
