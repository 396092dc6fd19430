//! Hosts in VLANs of the appliance's first card: the client in one, and in another a neighbour, who has taken the client's
//! address beside an own one.
//!
//! Owns the neighbour's addresses and the wires between hosts and switch. Namespaces and sockets go as all of the bed does.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use portreeve_tests::Netns;
use portreeve_tests::topology::{CLIENT4, End, Topology, ip, offload};

use crate::appliance::CardEnd;
use crate::switch::{Port, Switch};

/// The client's VLAN.
pub const CLIENT_VLAN: u16 = 100;
/// The neighbour's VLAN.
pub const NEIGHBOUR_VLAN: u16 = 200;
/// The neighbour's own address.
pub const NEIGHBOUR4: Ipv4Addr = Ipv4Addr::new(10, 1, 3, 2);
/// The gateway's address towards the neighbour.
pub const GATEWAY_NEIGHBOUR4: Ipv4Addr = Ipv4Addr::new(10, 1, 3, 1);

/// Ends of wires at the switch, and those that become a host's `eth0`.
const WIRES: [(&str, &str); 2] = [("client-port", "client-end"), ("neighbour-port", "neighbour-end")];

/// The VLANs of a bed.
#[derive(Debug)]
pub struct Vlans {
    /// Where the neighbour is.
    pub neighbour: Netns,
    _switch: Switch,
}

impl Vlans {
    /// Names the neighbour's namespace of a bed; makes nothing.
    pub(crate) fn neighbour(id: &str) -> Netns {
        Netns::new(format!("{id}-n"))
    }

    /// What the card leads to whose switch has its sockets in `dir`.
    pub(crate) fn trunk(dir: &Path) -> CardEnd {
        let (card, switch) = sockets(dir);
        CardEnd::Cable { card, switch }
    }

    /// Makes the neighbour and the wires, in namespaces that are there, and starts the switch.
    ///
    /// # Errors
    /// What the kernel or a tool refused.
    pub(crate) fn build(topology: &Topology, neighbour: Netns, dir: &Path) -> Result<Self> {
        let (gateway, name) = (topology.gateway.name(), neighbour.name());
        let [(client_port, client_end), (neighbour_port, neighbour_end)] = WIRES;
        ip(&[], &format!("netns add {name}\n"))?;
        let wires = WIRES
            .map(|(port, end)| format!("link add {port} type veth peer name {end}\nlink set {port} up\n"));
        ip(&["-n", gateway], &wires.concat())?;
        topology.plug(End::Client, client_end)?;
        ip(&["-n", gateway], &format!("link set {neighbour_end} netns {name} name eth0\n"))?;
        let addresses = format!(
            "link set lo up\nlink set eth0 up\naddr add {NEIGHBOUR4}/24 dev eth0\naddr add {CLIENT4}/32 dev eth0\n\
             route add default via {GATEWAY_NEIGHBOUR4}\n"
        );
        ip(&["-n", name], &addresses)?;
        // Nobody behind the switch would write a checksum that a host leaves to its card.
        offload(&[(&topology.client, "eth0", "off"), (&neighbour, "eth0", "off")])?;
        let ports = [
            Port { vlan: CLIENT_VLAN, device: client_port },
            Port { vlan: NEIGHBOUR_VLAN, device: neighbour_port },
        ];
        let (card, switch) = sockets(dir);
        let switch = Switch::start(&topology.gateway, card, &switch, &ports)?;
        Ok(Self { neighbour, _switch: switch })
    }
}

/// The card's and the switch's.
fn sockets(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("card"), dir.join("switch"))
}
