//! `connection_rules.ssh.forwards` and `forwards_to_targets`: where forwards may lead.

use std::sync::Arc;

use super::super::reader::{Object, Problems};
use super::super::tree::Node;
use super::applications::read_ports;
use crate::infrastructure::forwarding::{Destination, ForwardKind, ForwardRule, ToTargets};

/// `None` where the list is absent, which allows all.
pub(super) fn read(ssh: &Object<'_>, problems: &Problems) -> Option<Arc<[ForwardRule]>> {
    ssh.find("forwards")?;
    let rules = ssh.list("forwards").iter().filter_map(|node| read_rule(node, problems));
    Some(rules.collect())
}

/// Refused where nothing is said.
pub(super) fn read_to_targets(ssh: &Object<'_>, problems: &Problems) -> ToTargets {
    const WORDS: &[(&str, ToTargets)] = &[("refuse", ToTargets::Refuse), ("inspect", ToTargets::Inspect)];
    let said = ssh.find("forwards_to_targets").and_then(|node| problems.word(node, WORDS));
    said.unwrap_or_default()
}

fn read_rule(node: &Node<'_>, problems: &Problems) -> Option<ForwardRule> {
    let rule = Object::open(node, problems, &["action", "kind", "destination", "port"])?;
    let action = rule.need("action", "action = \"allow\"")?;
    let allow = problems.word(action, &[("allow", true), ("deny", false)])?;
    let kinds =
        [ForwardKind::Local, ForwardKind::Remote, ForwardKind::LocalSocket, ForwardKind::RemoteSocket]
            .map(|kind| (kind.to_string(), kind));
    let kinds: Vec<(&str, ForwardKind)> = kinds.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    let kind = rule.find("kind").map(|node| problems.word(node, &kinds));
    let destination = rule.find("destination").map(|node| problems.parsed(node, Destination::parse));
    let ports = rule.find("port").map(|node| read_ports(node, problems));
    // What is there and wrong was told; without it the rule would be another one.
    Some(ForwardRule {
        allow,
        kind: kind.map_or(Some(None), |kind| kind.map(Some))?,
        destination: destination.map_or(Some(None), |destination| destination.map(Some))?,
        ports,
    })
}
