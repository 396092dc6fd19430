//! `applications`: criteria, policies, connection rules.

use std::collections::{BTreeSet, HashSet};
use std::str::FromStr as _;
use std::sync::Arc;

use super::super::reader::{Object, Problems};
use super::super::tree::{Node, Value};
use super::{Known, access_rules, forwards, targets};
use crate::infrastructure::forwarding::{ForwardRule, ToTargets};
use crate::infrastructure::{Application, InfrastructurePolicy, SshPermissions, TransferRights};
use crate::login::Login;
use crate::port::{PortRange, PortSet};
use crate::suggest::instead;
use crate::target::{Hostname, TargetCriteria, TargetSelector};

pub(super) fn read(nodes: &[Node<'_>], known: &Known<'_>) -> Vec<Application> {
    let mut seen = HashSet::new();
    nodes.iter().filter_map(|node| read_application(node, known, &mut seen)).collect()
}

fn read_application<'t>(
    node: &'t Node<'t>,
    known: &Known<'t>,
    seen: &mut HashSet<&'t str>,
) -> Option<Application> {
    let application = Object::open(node, known.problems, &["name", "type", "target_criteria", "policies"])?;
    let name = application.need_name("name", "name = \"databases\"");
    check_unique(name, &application, "applications", seen, known);
    if let Some(node) = application.need("type", "type = \"infrastructure\"") {
        known.problems.word(node, &[("infrastructure", ())]);
    }
    let example = "target_criteria = [{ port = 22, protocol = \"SSH\", \
         target_attributes = { hostname = [\"db1\"] } }]";
    let list = application.need("target_criteria", example);
    let nodes = list.map_or(&[][..], |node| known.problems.list(node));
    if let Some(node) = list.filter(|_| application.is_empty("target_criteria")) {
        known.problems.error(node, format_args!("this covers no target: write for example {example}"));
    }
    let criteria = nodes.iter().filter_map(|node| read_criteria(node, known)).collect();
    let mut seen = HashSet::new();
    if application.is_empty("policies") {
        known.problems.warn(node, "this application has no policies: nobody may log in to its targets");
    }
    let policies = application.list("policies");
    let policies = policies.iter().filter_map(|node| read_policy(node, known, &mut seen)).collect();
    Some(Application { name: name?.into(), criteria, policies })
}

fn check_unique<'t>(
    name: Option<&'t str>,
    object: &Object<'t>,
    kinds: &str,
    seen: &mut HashSet<&'t str>,
    known: &Known<'t>,
) {
    if let Some((name, node)) = name.zip(object.find("name"))
        && !seen.insert(name)
    {
        known.problems.error(node, format_args!("two {kinds} are named {name:?}: rename one"));
    }
}

fn read_criteria(node: &Node<'_>, known: &Known<'_>) -> Option<TargetCriteria> {
    let keys = ["port", "protocol", "target_attributes", "include", "require", "exclude"];
    let criteria = Object::open(node, known.problems, &keys)?;
    let ports = criteria.need("port", "port = 22").map(|node| read_ports(node, known.problems));
    if let Some(node) = criteria.need("protocol", "protocol = \"SSH\"") {
        known.problems.word(node, &[("SSH", ())]);
    }
    let attributes = criteria
        .find("target_attributes")
        .map(|node| TargetSelector { hostnames: read_attributes(node, known), ..TargetSelector::default() });
    let selectors = |key: &str| {
        let nodes = match criteria.find(key) {
            Some(node) if matches!(node.value, Value::Table(_)) => std::slice::from_ref(node),
            Some(_) | None => criteria.list(key),
        };
        nodes.iter().filter_map(|node| read_selector(node, known)).collect::<Vec<_>>()
    };
    let (include, require, exclude) = (selectors("include"), selectors("require"), selectors("exclude"));
    if attributes.is_none() && criteria.find("include").is_none() {
        let example = "target_attributes = { hostname = [\"db1\"] }";
        known.problems.error(node, format_args!("this selects no target: add {example} or an include list"));
    }
    Some(TargetCriteria { ports: ports?, attributes, include, require, exclude })
}

/// A port, a text with a range, or a list of these.
pub(super) fn read_ports(node: &Node<'_>, problems: &Problems) -> PortSet {
    let nodes = if let Value::List(nodes) = &node.value { nodes } else { std::slice::from_ref(node) };
    if nodes.is_empty() {
        problems.error(node, "name at least one port");
    }
    let range = |node: &Node<'_>| {
        if let Value::Text(_) = node.value {
            return problems.parsed(node, PortRange::from_str);
        }
        problems.integer(node, 1..=u16::MAX).and_then(|port| PortRange::new(port, port).ok())
    };
    nodes.iter().filter_map(range).collect()
}

fn read_selector(node: &Node<'_>, known: &Known<'_>) -> Option<TargetSelector> {
    let selector = Object::open(node, known.problems, &["target_attributes", "tags"])?;
    let hostnames = selector.find("target_attributes").map(|node| read_attributes(node, known));
    let tags = selector.find("tags").map(|node| targets::read_tags(node, known.problems));
    if hostnames.is_none() && tags.as_ref().is_none_or(|tags| tags.is_empty()) {
        known.problems.error(node, "this asks for nothing: write target_attributes, tags or both");
        return None;
    }
    let selector =
        TargetSelector { hostnames: hostnames.unwrap_or_default(), tags: tags.unwrap_or_default() };
    if let Some((name, _)) = selector.tags.iter().find(|(_, values)| values.is_empty()) {
        known.problems.error(node, format_args!("the tag {name:?} is asked for without a value: write one"));
    }
    Some(selector)
}

/// The hostnames of a `target_attributes` table; each must be a target's.
fn read_attributes(node: &Node<'_>, known: &Known<'_>) -> BTreeSet<Hostname> {
    let Some(attributes) = Object::open(node, known.problems, &["hostname"]) else { return BTreeSet::new() };
    let Some(list) = attributes.need("hostname", "hostname = [\"db1\"]") else { return BTreeSet::new() };
    let nodes = known.problems.list(list);
    if nodes.is_empty() {
        known.problems.error(list, "name at least one hostname");
    }
    nodes
        .iter()
        .filter_map(|node| {
            let hostname = known.problems.parsed(node, Hostname::new)?;
            if !known.targets.hostnames.contains(&hostname) {
                let all: Vec<&str> = known.targets.hostnames.iter().map(Hostname::as_str).collect();
                let instead = instead(&hostname, &all);
                known
                    .problems
                    .error(node, format_args!("no target has the hostname {hostname:?}: {instead}"));
            }
            Some(hostname)
        })
        .collect()
}

fn read_policy<'t>(
    node: &'t Node<'t>,
    known: &Known<'t>,
    seen: &mut HashSet<&'t str>,
) -> Option<InfrastructurePolicy> {
    let keys = ["name", "decision", "include", "require", "exclude", "connection_rules"];
    let policy = Object::open(node, known.problems, &keys)?;
    let name = policy.need_name("name", "name = \"admins\"");
    check_unique(name, &policy, "policies of this application", seen, known);
    if let Some(node) = policy.need("decision", "decision = \"allow\"") {
        known.problems.word(node, &[("allow", ())]);
    }
    let rules = access_rules::read(policy, known);
    if policy.is_empty("include") {
        known.problems.warn(node, "include is empty: the policy matches nobody");
    }
    let SshRules { usernames, allow_email_alias, permissions, forwards, forwards_to_targets } =
        read_ssh(policy, known)?;
    Some(InfrastructurePolicy {
        name: name?.into(),
        rules,
        usernames,
        allow_email_alias,
        permissions,
        forwards,
        forwards_to_targets,
    })
}

/// `connection_rules.ssh`.
struct SshRules {
    usernames: BTreeSet<Login>,
    allow_email_alias: bool,
    permissions: SshPermissions,
    forwards: Option<Arc<[ForwardRule]>>,
    forwards_to_targets: ToTargets,
}

const SSH_KEYS: &[&str] = &[
    "usernames",
    "allow_email_alias",
    "permit_pty",
    "permit_port_forwarding",
    "permit_agent_forwarding",
    "permit_x11_forwarding",
    "permit_user_rc",
    "file_transfer",
    "forwards",
    "forwards_to_targets",
];

fn read_ssh(policy: Object<'_>, known: &Known<'_>) -> Option<SshRules> {
    let example = "connection_rules = { ssh = { usernames = [\"root\"] } }";
    let connection = policy.need("connection_rules", example)?;
    let connection = Object::open(connection, known.problems, &["ssh"])?;
    let ssh = connection.need("ssh", "ssh = { usernames = [\"root\"] }")?;
    let ssh = Object::open(ssh, known.problems, SSH_KEYS)?;
    let usernames =
        ssh.list("usernames").iter().filter_map(|node| known.problems.parsed(node, username)).collect();
    let allow_email_alias = ssh.flag("allow_email_alias", false);
    if !allow_email_alias && ssh.is_empty("usernames") {
        known.problems.warn(ssh.node, "the policy grants no login: name usernames or set allow_email_alias");
    }
    let permissions = SshPermissions {
        pty: ssh.flag("permit_pty", true),
        port_forwarding: ssh.flag("permit_port_forwarding", true),
        agent_forwarding: ssh.flag("permit_agent_forwarding", true),
        x11_forwarding: ssh.flag("permit_x11_forwarding", true),
        user_rc: ssh.flag("permit_user_rc", true),
        file_transfer: read_file_transfer(&ssh, known.problems),
    };
    let forwards = forwards::read(&ssh, known.problems);
    let forwards_to_targets = forwards::read_to_targets(&ssh, known.problems);
    for key in ["forwards", "forwards_to_targets"] {
        if ssh.find(key).is_some() && !permissions.port_forwarding {
            known
                .problems
                .warn(ssh.node, format_args!("{key} has no effect: permit_port_forwarding is false"));
        }
    }
    Some(SshRules { usernames, allow_email_alias, permissions, forwards, forwards_to_targets })
}

/// Both ways where nothing is said.
fn read_file_transfer(ssh: &Object<'_>, problems: &Problems) -> TransferRights {
    const WORDS: &[(&str, TransferRights)] = &[
        ("upload", TransferRights { upload: true, download: false }),
        ("download", TransferRights { upload: false, download: true }),
    ];
    if ssh.find("file_transfer").is_none() {
        return TransferRights::ALL;
    }
    let granted = ssh.list("file_transfer").iter().filter_map(|node| problems.word(node, WORDS));
    granted.fold(TransferRights::NONE, TransferRights::union)
}

fn username(text: &str) -> Result<Login, String> {
    if text.contains('*') {
        return Err(format!("{text:?} is no login: there are no wildcards, name each login"));
    }
    Login::new(text).map_err(|error| format!("{text:?} is no login: {error}"))
}
