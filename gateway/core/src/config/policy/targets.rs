//! `targets`: hostname, addresses, tags, legacy, source address.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use super::super::reader::{Object, Problems};
use super::super::tree::Node;
use crate::infrastructure::TargetTable;
use crate::prefix;
use crate::target::{Hostname, SourceAddress, Tags, Target, TargetAddress};

/// What the file says about targets, beside the table.
#[derive(Debug, Default)]
pub(super) struct KnownTargets {
    /// Every valid hostname, also of targets that are wrong in other respects.
    pub(super) hostnames: BTreeSet<Hostname>,
    /// Index in the file of each target of the table.
    pub(super) positions: Vec<usize>,
    /// Line of the target that has an address.
    lines: HashMap<IpNet, usize>,
}

pub(super) fn read<'t>(nodes: &'t [Node<'t>], problems: &'t Problems) -> (TargetTable, KnownTargets) {
    let mut table = TargetTable::default();
    let mut known = KnownTargets::default();
    for (position, node) in nodes.iter().enumerate() {
        if let Some(target) = read_target(node, problems, &table, &mut known) {
            if let Err(taken) = table.insert(target) {
                problems.error(node, format_args!("the address {taken}"));
                continue;
            }
            known.positions.push(position);
        }
    }
    (table, known)
}

fn read_target<'t>(
    node: &'t Node<'t>,
    problems: &'t Problems,
    table: &TargetTable,
    known: &mut KnownTargets,
) -> Option<Target> {
    let target = Object::open(node, problems, &["hostname", "ip", "tags", "legacy", "source_address"])?;
    let hostname =
        target.need("hostname", "hostname = \"db1\"").and_then(|node| problems.parsed(node, Hostname::new));
    known.hostnames.extend(hostname.clone());
    let tags = target.find("tags").map(|node| read_tags(node, problems));
    let legacy = target.flag("legacy", false);
    let sources = [("gateway", SourceAddress::Gateway), ("client", SourceAddress::Client)];
    let source_address = target.find("source_address").and_then(|node| problems.word(node, &sources));
    let node = target.need("ip", "ip = { ipv4 = { ip_addr = \"10.1.2.3\" } }")?;
    let ip = Object::open(node, problems, &["ipv4", "ipv6"])?;
    let mut addresses = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let Some(object) = ip.object(family, &["ip_addr", "virtual_network_id"]) else { continue };
        let Some(node) = object.need("ip_addr", "ip_addr = \"10.1.2.3\"") else { continue };
        let virtual_network_id = object.name("virtual_network_id").map(Arc::from);
        let Some(net) = problems.parsed(node, |text| address(text, family)) else { continue };
        match table.owner(net) {
            Some(owner) => {
                let line = known.lines.get(&net).copied().unwrap_or_default();
                let taken = "an address or prefix belongs to one target only";
                let message =
                    format!("{net} is already an address of {:?} (line {line}): {taken}", owner.hostname);
                problems.error(node, message);
            }
            None => {
                known.lines.insert(net, node.line);
                addresses.push(TargetAddress { net, virtual_network_id });
            }
        }
    }
    if addresses.is_empty() && ["ipv4", "ipv6"].iter().all(|family| ip.find(family).is_none()) {
        problems.error(node, "give ipv4, ipv6 or both, for example ipv4 = { ip_addr = \"10.1.2.3\" }");
    }
    Some(Target {
        hostname: hostname?,
        addresses,
        tags: tags.unwrap_or_default(),
        legacy,
        source_address: source_address.unwrap_or_default(),
    })
    .filter(|target| !target.addresses.is_empty())
}

fn address(text: &str, family: &str) -> Result<IpNet, String> {
    let net = prefix::parse(text).map_err(|error| error.to_string())?;
    match net {
        IpNet::V4(_) if family == "ipv4" => Ok(net),
        IpNet::V6(_) if family == "ipv6" => Ok(net),
        IpNet::V4(_) => Err(format!("{net} is IPv4: write it under ipv4")),
        IpNet::V6(_) => Err(format!("{net} is IPv6: write it under ipv6")),
    }
}

/// Tags: a table of arrays of strings.
pub(super) fn read_tags<'t>(node: &'t Node<'t>, problems: &'t Problems) -> Tags {
    let mut tags = Tags::new();
    for entry in problems.entries(node).unwrap_or_default() {
        let values: BTreeSet<String> = problems
            .list(&entry.node)
            .iter()
            .filter_map(|node| problems.name(node))
            .map(str::to_owned)
            .collect();
        tags.insert(entry.key.clone().into_owned(), values);
    }
    tags
}
