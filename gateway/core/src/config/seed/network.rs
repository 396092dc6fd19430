//! `[[interfaces]]`: what the machine's network is made of.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::reader::{Object, Problems};
use super::super::tree::Node;
use super::wireguard::{self, WireGuard};
use crate::net::interface::InterfaceName;

const KEYS: &[&str] = &[
    "name",
    "mac",
    "addresses",
    "dhcp",
    "routes",
    "vlan",
    "bond",
    "wireguard",
    "router_advertisements",
    "dhcp_server",
    "mtu",
];

/// An interface of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    /// The hardware address that it is found by.
    pub(super) mac: Option<String>,
    pub(super) kind: Kind,
    /// With the length of the network's prefix.
    pub(super) addresses: Vec<IpNet>,
    pub(super) dhcp: Dhcp,
    pub(super) routes: Vec<Route>,
    pub(super) router_advertisements: bool,
    pub(super) dhcp_server: bool,
    pub(super) mtu: Option<u32>,
}

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A network card.
    Card,
    /// A VLAN on another one.
    Vlan { on: String, id: u16 },
    /// Several cards as one.
    Bond { ports: Vec<String>, mode: &'static str },
    /// A tunnel to peers.
    WireGuard(WireGuard),
}

impl Interface {
    /// Its name and private key, where it is a WireGuard interface.
    pub(super) fn wireguard(&self) -> Option<(&str, Option<&str>)> {
        let Kind::WireGuard(device) = &self.kind else { return None };
        Some((&self.name, device.private_key.as_ref().map(|key| key.0.as_str())))
    }

    /// The cards that it makes one of.
    pub(super) fn ports(&self) -> &[String] {
        if let Kind::Bond { ports, .. } = &self.kind { ports } else { &[] }
    }

    /// Whether it is a bond of this card and others.
    pub(super) fn has_port(&self, name: &str) -> bool {
        self.ports().iter().any(|port| port == name)
    }

    /// Whether it is a card that gets a name, and nothing else.
    fn is_only_named(&self) -> bool {
        let named = Self { mac: self.mac.clone(), ..Self::card(self.name.clone()) };
        *self == named
    }

    /// A card by its name.
    const fn card(name: String) -> Self {
        Self {
            name,
            mac: None,
            kind: Kind::Card,
            addresses: Vec::new(),
            dhcp: Dhcp::No,
            routes: Vec::new(),
            router_advertisements: false,
            dhcp_server: false,
            mtu: None,
        }
    }

    /// Where peers of WireGuard reach it.
    pub(super) fn listen_port(&self) -> Option<u16> {
        if let Kind::WireGuard(device) = &self.kind { Some(device.listen_port) } else { None }
    }
}

/// What an interface asks for by DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dhcp {
    No,
    Ipv4,
    Ipv6,
    Both,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) to: IpNet,
    pub(super) via: IpAddr,
}

/// Reads all of them.
pub(super) fn read(seed: &Object<'_>, problems: &Problems) -> Vec<Interface> {
    seed.need("interfaces", "[[interfaces]] with name = \"lan0\"");
    let nodes = seed.list("interfaces");
    let mut interfaces: Vec<Interface> = Vec::new();
    for node in nodes {
        let Some(interface) = read_one(node, problems) else { continue };
        if interfaces.iter().any(|other| other.name == interface.name) {
            problems.error(node, format_args!("two interfaces are named {:?}", interface.name));
        }
        interfaces.push(interface);
    }
    check_links(&interfaces, nodes, problems);
    interfaces
}

/// A VLAN needs its interface, and a port of a bond is nothing else.
fn check_links(interfaces: &[Interface], nodes: &[Node<'_>], problems: &Problems) {
    for (interface, node) in interfaces.iter().zip(nodes) {
        let bond_of = |port: &str| interfaces.iter().find(|bond| bond.has_port(port)).map(|bond| &bond.name);
        if let Kind::Vlan { on, .. } = &interface.kind {
            if let Some(bond) = bond_of(on) {
                problems.error(node, format_args!("the VLAN is on a port of {bond}: put it on {bond}"));
            } else if !interfaces.iter().any(|other| other.name == *on) {
                let told = format_args!("the VLAN is on {on:?}, which is none of the interfaces: add it");
                problems.error(node, told);
            }
        }
        if let Some(bond) = bond_of(&interface.name).filter(|_| !interface.is_only_named()) {
            let told =
                format_args!("it is a port of {bond}, which has the rest: leave `name` and `mac` only");
            problems.error(node, told);
        }
        for port in interface.ports() {
            if interfaces.iter().any(|other| other.name != interface.name && other.has_port(port)) {
                problems.error(node, format_args!("{port:?} is a port of two bonds: leave it in one"));
            }
        }
    }
}

fn read_one(node: &Node<'_>, problems: &Problems) -> Option<Interface> {
    let object = Object::open(node, problems, KEYS)?;
    let name = object.need("name", "name = \"lan0\"").and_then(|node| interface_name(node, problems));
    let words = [("no", Dhcp::No), ("ipv4", Dhcp::Ipv4), ("ipv6", Dhcp::Ipv6), ("both", Dhcp::Both)];
    let kind = read_kind(&object, problems);
    if matches!(kind, Some(Kind::Vlan { .. } | Kind::Bond { .. }))
        && let Some(node) = object.find("mac")
    {
        problems.error(node, "only a card is found by its hardware address: take it out");
    }
    if matches!(kind, Some(Kind::WireGuard(_))) {
        for key in ["mac", "dhcp", "dhcp_server", "router_advertisements"] {
            if let Some(node) = object.find(key) {
                problems.error(node, "a WireGuard interface has peers, and no such thing: take it out");
            }
        }
    }
    Some(Interface {
        mac: object.find("mac").and_then(|node| problems.parsed(node, mac)),
        addresses: object
            .list("addresses")
            .iter()
            .filter_map(|node| problems.parsed(node, address))
            .collect(),
        dhcp: object.find("dhcp").and_then(|node| problems.word(node, &words)).unwrap_or(Dhcp::No),
        routes: object.list("routes").iter().filter_map(|node| read_route(node, problems)).collect(),
        router_advertisements: object.flag("router_advertisements", false),
        dhcp_server: object.flag("dhcp_server", false),
        mtu: object.find("mtu").and_then(|node| problems.integer(node, 1280..=9216)),
        name: name?,
        kind: kind?,
    })
}

fn read_kind(object: &Object<'_>, problems: &Problems) -> Option<Kind> {
    match (object.find("vlan"), object.find("bond"), object.find("wireguard")) {
        (None, None, None) => Some(Kind::Card),
        (Some(node), None, None) => {
            let vlan = Object::open(node, problems, &["on", "id"])?;
            let on = vlan.need("on", "on = \"lan0\"").and_then(|node| interface_name(node, problems));
            let id = vlan.need("id", "id = 100").and_then(|node| problems.integer(node, 1..=4094));
            Some(Kind::Vlan { on: on?, id: id? })
        }
        (None, Some(node), None) => read_bond(node, problems),
        (None, None, Some(node)) => wireguard::read(node, problems).map(Kind::WireGuard),
        (Some(_), ..) | (None, Some(_), Some(_)) => {
            problems.error(object.node, "an interface is a VLAN, a bond or WireGuard: leave one of them");
            None
        }
    }
}

fn read_bond(node: &Node<'_>, problems: &Problems) -> Option<Kind> {
    const MODES: [(&str, &str); 4] = [
        ("802.3ad", "802.3ad"),
        ("active-backup", "active-backup"),
        ("balance-xor", "balance-xor"),
        ("balance-rr", "balance-rr"),
    ];
    let bond = Object::open(node, problems, &["ports", "mode"])?;
    let ports = bond.need("ports", "ports = [\"eno1\", \"eno2\"]");
    let ports = problems.list(ports?).iter().filter_map(|node| interface_name(node, problems)).collect();
    let mode = bond.find("mode").map_or(Some("802.3ad"), |node| problems.word(node, &MODES));
    Some(Kind::Bond { ports, mode: mode? })
}

fn read_route(node: &Node<'_>, problems: &Problems) -> Option<Route> {
    let route = Object::open(node, problems, &["to", "via"])?;
    let to =
        route.need("to", "to = \"0.0.0.0/0\"").and_then(|node| problems.parsed(node, crate::prefix::parse));
    let via =
        route.need("via", "via = \"192.0.2.1\"").and_then(|node| problems.parsed(node, str::parse::<IpAddr>));
    let (to, via) = (to?, via?);
    if to.addr().is_ipv4() != via.is_ipv4() {
        problems.error(node, "`to` and `via` must be of one family");
    }
    Some(Route { to, via })
}

fn interface_name(node: &Node<'_>, problems: &Problems) -> Option<String> {
    problems.parsed(node, InterfaceName::new).map(|name| name.to_string())
}

/// An address with the length of its network's prefix; its own bits stay.
fn address(text: &str) -> Result<IpNet, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no address with a prefix length: write it as \"192.0.2.1/24\""))
}

fn mac(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let good = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts.len() == 6 && parts.iter().all(good) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("{text:?} is no hardware address: write it as \"52:54:00:12:34:56\""))
}
