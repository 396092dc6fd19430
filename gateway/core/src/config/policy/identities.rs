//! `identities`: the static table of who is behind which address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use super::super::reader::{Object, Problems};
use super::super::tree::{Node, Value};
use crate::identity::{BoundIdentity, Email, Identity, IdentityTable};
use crate::net::interface::InterfaceName;
use crate::prefix;

const KEYS: &[&str] = &[
    "addresses",
    "interfaces",
    "email",
    "name",
    "groups",
    "auth_methods",
    "login_method",
    "device_posture",
    "oidc_claims",
    "saml_attributes",
    "certificate_common_name",
    "break_glass",
];

/// Reads the table; `None` when it makes none, which has been reported.
pub(super) fn read<'t>(nodes: &'t [Node<'t>], problems: &'t Problems) -> Option<IdentityTable> {
    let mut entries = Vec::new();
    let mut lines: HashMap<IpNet, usize> = HashMap::new();
    for node in nodes {
        let Some(object) = Object::open(node, problems, KEYS) else { continue };
        let interfaces = object.find("interfaces").map(|node| Arc::new(read_interfaces(node, problems)));
        let identity = read_identity(object, problems)
            .map(|identity| BoundIdentity { identity: Arc::new(identity), interfaces });
        let addresses = object.need("addresses", "addresses = [\"192.0.2.10\"]");
        let nets = addresses.map_or(&[][..], |node| problems.list(node));
        if let Some(node) = addresses.filter(|_| nets.is_empty()) {
            problems.error(node, "name at least one address or prefix");
        }
        for node in nets {
            let Some(net) = problems.parsed(node, prefix::parse) else { continue };
            if let Some(line) = lines.insert(net, node.line) {
                let message = "an address or prefix belongs to one identity only";
                problems.error(node, format_args!("{net} is given already in line {line}: {message}"));
            } else if let Some(identity) = &identity {
                entries.push((net, identity.clone()));
            }
        }
    }
    let table = IdentityTable::new(entries);
    if let (Err(net), Some(node)) = (&table, nodes.first()) {
        problems.error(node, format_args!("{net} is given twice"));
    }
    table.ok()
}

fn read_identity(object: Object<'_>, problems: &Problems) -> Option<Identity> {
    let email = object
        .need("email", "email = \"alice@example.com\"")
        .and_then(|node| problems.parsed(node, Email::new));
    let owned = |key: &str| object.name(key).map(str::to_owned);
    Some(Identity {
        name: owned("name"),
        groups: object.texts("groups"),
        auth_methods: object.texts("auth_methods"),
        login_method: owned("login_method"),
        device_posture: object.texts("device_posture"),
        oidc_claims: attributes(object.find("oidc_claims"), problems),
        saml_attributes: attributes(object.find("saml_attributes"), problems),
        certificate_common_name: owned("certificate_common_name"),
        break_glass: object.flag("break_glass", false),
        email: email?,
    })
}

/// Where an identity counts. None at all would be nowhere, which is not what leaving the key out means.
fn read_interfaces<'t>(node: &'t Node<'t>, problems: &Problems) -> BTreeSet<InterfaceName> {
    let nodes = problems.list(node);
    if nodes.is_empty() {
        problems.error(node, "name at least one interface, or leave the key out for all of them");
    }
    nodes.iter().filter_map(|node| problems.parsed(node, InterfaceName::new)).collect()
}

/// A table whose values are strings or arrays of strings.
fn attributes(node: Option<&Node<'_>>, problems: &Problems) -> BTreeMap<String, Vec<String>> {
    let mut attributes = BTreeMap::new();
    for entry in node.and_then(|node| problems.entries(node)).unwrap_or_default() {
        let values = match &entry.node.value {
            Value::Text(_) => std::slice::from_ref(&entry.node),
            Value::Null
            | Value::Boolean(_)
            | Value::Integer(_)
            | Value::List(_)
            | Value::Table(_)
            | Value::Foreign(_) => problems.list(&entry.node),
        };
        let texts = values.iter().filter_map(|node| problems.text(node)).map(str::to_owned);
        attributes.insert(entry.key.clone().into_owned(), texts.collect());
    }
    attributes
}
