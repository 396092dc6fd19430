//! `rules`: gateway network policies.

use std::collections::HashMap;

use super::super::reader::Object;
use super::super::tree::Node;
use super::Known;
use crate::expression::Expression;
use crate::network_policy::{Action, NetworkPolicy, NetworkPolicySet};

const KEYS: &[&str] = &[
    "name",
    "description",
    "action",
    "enabled",
    "precedence",
    "filters",
    "traffic",
    "identity",
    "device_posture",
    "rule_settings",
];

/// The largest precedence: what every JSON implementation keeps exactly (RFC 8259 section 6).
const MAX_PRECEDENCE: i64 = (1 << 53) - 1;

pub(super) fn read(nodes: &[Node<'_>], known: &Known<'_>) -> NetworkPolicySet {
    let mut names = HashMap::new();
    let mut precedences = HashMap::new();
    let mut policies = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Some(rule) = Object::open(node, known.problems, KEYS) else { continue };
        let name = rule.need_name("name", "name = \"no-guests\"");
        let policy = read_rule(rule, name, known);
        if let (Some(name), Some(at)) = (name, rule.find("name"))
            && let Some(line) = names.insert(name, at.line)
        {
            known
                .problems
                .error(at, format_args!("the rule of line {line} is named {name:?} too: rename one"));
        }
        if let (Some(policy), Some(at)) = (&policy, rule.find("precedence"))
            && let Some(line) = precedences.insert(policy.precedence, at.line)
        {
            let message = "the first match wins, so each rule needs its own";
            known
                .problems
                .error(at, format_args!("the rule of line {line} has this precedence too: {message}"));
        }
        policies.extend(policy);
    }
    NetworkPolicySet::new(policies)
}

fn read_rule(rule: Object<'_>, name: Option<&str>, known: &Known<'_>) -> Option<NetworkPolicy> {
    let action = read_action(rule, known);
    let precedence = rule
        .need("precedence", "precedence = 10 (lower comes first)")
        .and_then(|node| known.problems.integer(node, 0..=MAX_PRECEDENCE));
    for node in rule.list("filters") {
        known.problems.word(node, &[("l4", ())]);
    }
    let enabled = rule.flag("enabled", true);
    let conditions = ["traffic", "identity", "device_posture"].map(|key| read_expression(rule, key, known));
    let [traffic, identity, device_posture] = conditions;
    Some(NetworkPolicy {
        name: name?.into(),
        action: action?,
        enabled,
        precedence: u64::try_from(precedence?).ok()?,
        traffic: traffic.ok()?,
        identity: identity.ok()?,
        device_posture: device_posture.ok()?,
    })
}

fn read_action(rule: Object<'_>, known: &Known<'_>) -> Option<Action> {
    let actions = [
        ("allow", Action::Allow),
        ("block", Action::Block),
        ("audit_ssh", Action::AuditSsh { command_logging: true }),
    ];
    let action =
        rule.need("action", "action = \"block\"").and_then(|node| known.problems.word(node, &actions));
    let settings = rule.object("rule_settings", &["audit_ssh"]);
    let audit = settings.and_then(|settings| settings.object("audit_ssh", &["command_logging"]));
    let Some(audit) = audit else { return action };
    let command_logging = audit.flag("command_logging", true);
    match action? {
        Action::AuditSsh { .. } => Some(Action::AuditSsh { command_logging }),
        other @ (Action::Allow | Action::Block) => {
            known
                .problems
                .error(audit.node, "audit_ssh settings belong to rules with action = \"audit_ssh\"");
            Some(other)
        }
    }
}

/// An absent or empty expression is none; `Err` has been reported.
pub(super) fn read_expression(
    rule: Object<'_>,
    key: &str,
    known: &Known<'_>,
) -> Result<Option<Expression>, ()> {
    let Some(node) = rule.find(key) else { return Ok(None) };
    let source = known.problems.text(node).ok_or(())?;
    if source.trim().is_empty() {
        return Ok(None);
    }
    Expression::parse(source, &known.lists.for_expressions)
        .map(Some)
        .map_err(|error| known.problems.error(node, format_args!("in the expression, {error}")))
}
