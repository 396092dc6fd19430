//! `[firewall]`: what may reach the machine itself, and a net below steering.
//!
//! Rendered as commands of nft(8) for the table of the base rules, which closes the machine. What is forwarded to
//! targets is dropped: steered packets are delivered to the gateway and never forwarded, so the rule meets only what
//! would pass by it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipnet::IpNet;

use super::super::reader::{Object, Problems};
use super::super::tree::Node;
use super::File;
use crate::port::{PortRange, PortSet};
use crate::prefix;
use crate::target::Steered;

/// What is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Firewall {
    metrics_from: Vec<IpNet>,
    open: Vec<Opening>,
    /// Whether what is forwarded to targets is left to steering alone.
    without_net: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Opening {
    /// What nft(8) is told to match.
    what: String,
    /// Empty: from anywhere.
    from: Vec<IpNet>,
}

pub(super) fn read(seed: &Object<'_>, problems: &Problems) -> Firewall {
    let keys = ["metrics_from", "open", "drop_forwarded_to_targets"];
    let Some(object) = seed.object("firewall", &keys) else { return Firewall::default() };
    Firewall {
        metrics_from: nets(object.list("metrics_from"), problems),
        open: object.list("open").iter().filter_map(|node| read_opening(node, problems)).collect(),
        without_net: !object.flag("drop_forwarded_to_targets", true),
    }
}

fn read_opening(node: &Node<'_>, problems: &Problems) -> Option<Opening> {
    let object = Object::open(node, problems, &["port", "protocol", "from"])?;
    // What a port follows, or all of it. Numbers, since the machine has no list of names: IANA, Assigned Internet Protocol Numbers.
    let (tcp, udp) = (("tcp dport", true), ("udp dport", true));
    let words = [
        ("tcp", tcp),
        ("udp", udp),
        ("ospf", ("meta l4proto 89", false)),
        ("vrrp", ("meta l4proto 112", false)),
    ];
    let protocol = object.find("protocol").map_or(Some(tcp), |node| problems.word(node, &words));
    let from = nets(object.list("from"), problems);
    let (what, has_ports) = protocol?;
    if !has_ports {
        if let Some(port) = object.find("port") {
            problems.error(port, "this protocol has no ports");
        }
        return Some(Opening { what: what.to_owned(), from });
    }
    let port = object.need("port", "port = 179").and_then(|node| problems.integer(node, 1..=u16::MAX))?;
    Some(Opening { what: format!("{what} {port}"), from })
}

fn nets(nodes: &[Node<'_>], problems: &Problems) -> Vec<IpNet> {
    nodes.iter().filter_map(|node| problems.parsed(node, source)).collect()
}

/// An address or prefix; that of an interface stands for its network.
fn source(text: &str) -> Result<IpNet, prefix::PrefixError> {
    text.parse::<IpNet>().map_or_else(|_| prefix::parse(text), |net| Ok(net.trunc()))
}

/// The commands. Those for the metrics only where these are served; `asked` are interfaces where addresses are given out,
/// `listen` ports of WireGuard.
pub(super) fn file<'i>(
    firewall: &Firewall,
    metrics_port: Option<u16>,
    (asked, listen): (impl Iterator<Item = &'i str>, impl Iterator<Item = u16>),
    targets: &Steered,
) -> File {
    let mut text = String::new();
    for interface in asked {
        // Writing to a String cannot fail.
        writeln!(text, "add rule inet portreeve open iifname \"{interface}\" udp dport 67 accept")
            .unwrap_or_default();
    }
    for port in listen {
        admit(&mut text, &format!("udp dport {port}"), &[]);
    }
    if let Some(port) = metrics_port.filter(|_| !firewall.metrics_from.is_empty()) {
        admit(&mut text, &format!("tcp dport {port}"), &firewall.metrics_from);
    }
    for opening in &firewall.open {
        admit(&mut text, &opening.what, &opening.from);
    }
    if !firewall.without_net && !targets.is_empty() {
        text.push_str(
            "add chain inet portreeve targets { type filter hook forward priority 0; policy accept; }\n",
        );
        drop_to(&mut text, targets);
    }
    File { path: "/run/portreeve/nftables/seed.nft".to_owned(), mode: 0o644, text }
}

/// Writing to a String cannot fail.
fn admit(text: &mut String, what: &str, from: &[IpNet]) {
    if from.is_empty() {
        writeln!(text, "add rule inet portreeve open {what} accept").unwrap_or_default();
    }
    for net in from {
        let family = if net.addr().is_ipv4() { "ip" } else { "ip6" };
        writeln!(text, "add rule inet portreeve open {family} saddr {net} {what} accept").unwrap_or_default();
    }
}

/// A set for each set of ports and family, since a policy may have a million targets.
fn drop_to(text: &mut String, targets: &Steered) {
    let mut by_ports: BTreeMap<&PortSet, Vec<IpNet>> = BTreeMap::new();
    for (net, ports) in targets {
        by_ports.entry(ports).or_default().push(*net);
    }
    for (index, (ports, nets)) in by_ports.iter().enumerate() {
        let ports: Vec<String> = ports.ranges().map(|range: PortRange| range.to_string()).collect();
        for (family, kind, v4) in [("ip", "ipv4_addr", true), ("ip6", "ipv6_addr", false)] {
            let nets: Vec<String> =
                nets.iter().filter(|net| net.addr().is_ipv4() == v4).map(IpNet::to_string).collect();
            if nets.is_empty() {
                continue;
            }
            let set = format!("{family}_targets_{index}");
            let elements = nets.join(", ");
            let kind = format!("type {kind}; flags interval; auto-merge; elements = {{ {elements} }}");
            writeln!(text, "add set inet portreeve {set} {{ {kind} }}").unwrap_or_default();
            let ports = ports.join(", ");
            let meets = format!("{family} daddr @{set} tcp dport {{ {ports} }}");
            writeln!(text, "add rule inet portreeve targets {meets} counter drop").unwrap_or_default();
        }
    }
}
