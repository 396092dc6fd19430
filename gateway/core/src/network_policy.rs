//! Gateway network policies: the first decision about a flow.
//!
//! Ordered by precedence, first match wins. No match means intercept, and the infrastructure
//! policies decide. Invariants:
//! - A policy matches when all its conditions hold; an absent one holds. A disabled policy is
//!   neither evaluated nor able to fail.
//! - All conditions of a policy are evaluated, in whatever order, and one that cannot be evaluated
//!   blocks the flow, whatever the policy's action and its other conditions. A failing condition
//!   that another one could hide would decide differently from flow to flow.
//! - A policy behind the one that decides cannot change the verdict, not even by failing.
//!
//! Deliberately absent: logins and targets; an allow here skips nothing that comes later.

pub mod address_rules;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::expression::{Expression, FlowFacts};

/// What a matching policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Go on to the infrastructure policies.
    Allow,
    /// Reset the connection before any SSH byte.
    Block,
    /// Go on to the infrastructure policies; says whether commands and streams are logged.
    AuditSsh {
        /// Whether commands and streams are kept; events always are.
        command_logging: bool,
    },
}

/// One network policy; an absent expression holds.
#[derive(Clone, Debug)]
pub struct NetworkPolicy {
    /// Its name, unique in the set.
    pub name: Arc<str>,
    /// What it does.
    pub action: Action,
    /// Whether it is asked at all.
    pub enabled: bool,
    /// Order: lower first.
    pub precedence: u64,
    /// Condition on the traffic.
    pub traffic: Option<Expression>,
    /// Condition on the identity.
    pub identity: Option<Expression>,
    /// Condition on the device posture.
    pub device_posture: Option<Expression>,
}

/// Network policies in order of precedence.
#[derive(Clone, Debug, Default)]
pub struct NetworkPolicySet {
    policies: Vec<NetworkPolicy>,
}

/// The decision about a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkVerdict {
    /// Terminate the SSH connection and ask the infrastructure policies.
    Intercept {
        /// The policy that matched; `None` when none did.
        policy: Option<Arc<str>>,
        /// Whether commands and streams are kept.
        command_logging: bool,
    },
    /// Reset before any SSH byte.
    Block {
        /// The policy that matched or failed.
        policy: Arc<str>,
        /// Set when the policy could not be evaluated, which blocks.
        evaluation_error: Option<String>,
    },
}

/// The three conditions of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The condition on the traffic.
    Traffic,
    /// The condition on the identity.
    Identity,
    /// The condition on the device posture.
    DevicePosture,
}

/// A condition that does not hold.
#[derive(Clone, Debug, Serialize)]
pub struct FailedCondition {
    /// Which one.
    pub condition: Condition,
    /// Its text, shared with the policy.
    pub expression: Expression,
}

/// What became of one policy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyOutcome {
    /// All conditions hold.
    Matched,
    /// At least one condition does not hold.
    NotMatched {
        /// The conditions that do not hold.
        failed: Vec<FailedCondition>,
    },
    /// The policy is switched off and was not evaluated.
    Disabled,
    /// A condition could not be evaluated, which blocks; the text says which and why.
    Error(String),
}

/// One policy and what became of it, for people who ask why.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyTrace {
    /// Name of the policy.
    pub name: String,
    /// What it does when it matches.
    pub action: Action,
    /// Whether it is asked at all.
    pub enabled: bool,
    /// What became of it.
    pub outcome: PolicyOutcome,
    /// Whether it is the one that decides: the first that matched or failed.
    pub decides: bool,
}

impl fmt::Display for PolicyTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Allow => "allow",
            Action::Block => "block",
            Action::AuditSsh { .. } => "audit_ssh",
        };
        write!(f, "{:?} ({action}) ", self.name)?;
        match &self.outcome {
            PolicyOutcome::Matched => f.write_str("matches")?,
            PolicyOutcome::Disabled => f.write_str("is switched off")?,
            PolicyOutcome::Error(error) => write!(f, "cannot be evaluated, which blocks: {error}")?,
            PolicyOutcome::NotMatched { failed } => {
                f.write_str("does not match:")?;
                for failed in failed {
                    let condition = match failed.condition {
                        Condition::Traffic => "traffic",
                        Condition::Identity => "identity",
                        Condition::DevicePosture => "device_posture",
                    };
                    write!(f, " not {condition} ({})", failed.expression)?;
                }
            }
        }
        if self.decides { f.write_str(" -> decides") } else { Ok(()) }
    }
}

impl NetworkPolicySet {
    /// Orders `policies` by precedence; equal ones keep the order given.
    pub fn new(mut policies: Vec<NetworkPolicy>) -> Self {
        policies.sort_by_key(|policy| policy.precedence);
        Self { policies }
    }

    /// The policies in the order in which they are asked.
    pub fn policies(&self) -> &[NetworkPolicy] {
        &self.policies
    }
}

impl NetworkPolicy {
    /// What becomes of this policy for a flow.
    pub fn outcome(&self, facts: &FlowFacts<'_>) -> PolicyOutcome {
        if !self.enabled {
            return PolicyOutcome::Disabled;
        }
        let mut failed = Vec::new();
        let mut errors = Vec::new();
        for (condition, expression) in self.conditions() {
            match expression.evaluate(facts) {
                Ok(true) => {}
                Ok(false) => failed.push(FailedCondition { condition, expression: expression.clone() }),
                Err(error) => errors.push(format!("{}: {error}", condition.key())),
            }
        }
        if !errors.is_empty() {
            return PolicyOutcome::Error(errors.join("; "));
        }
        if failed.is_empty() { PolicyOutcome::Matched } else { PolicyOutcome::NotMatched { failed } }
    }

    /// Whether it is asked, and depends on the port that the user's side connects from.
    pub fn asks_source_port(&self) -> bool {
        self.enabled && self.conditions().any(|(_, expression)| expression.asks_source_port())
    }

    fn conditions(&self) -> impl Iterator<Item = (Condition, &Expression)> {
        [
            (Condition::Traffic, &self.traffic),
            (Condition::Identity, &self.identity),
            (Condition::DevicePosture, &self.device_posture),
        ]
        .into_iter()
        .filter_map(|(condition, expression)| Some((condition, expression.as_ref()?)))
    }
}

impl Condition {
    /// The key of the condition in a policy file.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Traffic => "traffic",
            Self::Identity => "identity",
            Self::DevicePosture => "device_posture",
        }
    }
}

/// Decides about a flow.
pub fn evaluate(set: &NetworkPolicySet, facts: &FlowFacts<'_>) -> NetworkVerdict {
    set.policies
        .iter()
        .find_map(|policy| verdict(policy, policy.outcome(facts)))
        .unwrap_or(NetworkVerdict::Intercept { policy: None, command_logging: true })
}

/// What becomes of every policy of the set, in order, those behind the deciding one included.
pub fn explain(set: &NetworkPolicySet, facts: &FlowFacts<'_>) -> Vec<PolicyTrace> {
    let mut decided = false;
    let trace = |policy: &NetworkPolicy| {
        let outcome = policy.outcome(facts);
        let decides = !decided && verdict(policy, outcome.clone()).is_some();
        decided |= decides;
        PolicyTrace {
            name: policy.name.to_string(),
            action: policy.action,
            enabled: policy.enabled,
            outcome,
            decides,
        }
    };
    set.policies.iter().map(trace).collect()
}

/// The verdict that a policy's outcome leads to; `None` passes the flow on to the next policy.
fn verdict(policy: &NetworkPolicy, outcome: PolicyOutcome) -> Option<NetworkVerdict> {
    let name = Arc::clone(&policy.name);
    match outcome {
        PolicyOutcome::NotMatched { .. } | PolicyOutcome::Disabled => None,
        PolicyOutcome::Error(error) => {
            Some(NetworkVerdict::Block { policy: name, evaluation_error: Some(error) })
        }
        PolicyOutcome::Matched => Some(match policy.action {
            Action::Block => NetworkVerdict::Block { policy: name, evaluation_error: None },
            Action::Allow => NetworkVerdict::Intercept { policy: Some(name), command_logging: true },
            Action::AuditSsh { command_logging } => {
                NetworkVerdict::Intercept { policy: Some(name), command_logging }
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::expression::{Lists, MAX_MATCHED_TEXT};
    use crate::identity::{Email, Identity};
    use crate::net::{ClientAddr, FlowTuple, OriginalDst};

    fn expression(source: &str) -> Expression {
        Expression::parse(source, &Lists::default()).unwrap()
    }

    fn policy(name: &str, precedence: u64, action: Action, traffic: &str) -> NetworkPolicy {
        NetworkPolicy {
            name: name.into(),
            action,
            enabled: true,
            precedence,
            traffic: Some(expression(traffic)),
            identity: None,
            device_posture: None,
        }
    }

    fn facts(port: u16, identity: Option<&Identity>) -> FlowFacts<'_> {
        FlowFacts {
            flow: FlowTuple {
                client: ClientAddr::new("10.0.0.1:40000".parse().unwrap()),
                original_dst: OriginalDst::new(([192, 0, 2, 1], port).into()),
            },
            source_country: None,
            vnet_id: None,
            identity,
            target: None,
        }
    }

    fn named(name: &str) -> Identity {
        Identity {
            name: Some(name.to_owned()),
            ..Identity::from_email(Email::new("alice@example.com").unwrap())
        }
    }

    fn block(name: &str) -> NetworkVerdict {
        NetworkVerdict::Block { policy: name.into(), evaluation_error: None }
    }

    fn intercept(name: &str, command_logging: bool) -> NetworkVerdict {
        NetworkVerdict::Intercept { policy: Some(name.into()), command_logging }
    }

    const NO_MATCH: NetworkVerdict = NetworkVerdict::Intercept { policy: None, command_logging: true };
    const AUDIT_WITHOUT_COMMANDS: Action = Action::AuditSsh { command_logging: false };

    #[test]
    fn no_policy_and_no_match_intercept_with_logging() {
        assert_eq!(evaluate(&NetworkPolicySet::default(), &facts(22, None)), NO_MATCH);
        let set = NetworkPolicySet::new(vec![policy("b", 1, Action::Block, "net.dst.port == 23")]);
        assert_eq!(evaluate(&set, &facts(22, None)), NO_MATCH);
    }

    #[test]
    fn the_first_match_in_order_of_precedence_wins() {
        let set = NetworkPolicySet::new(vec![
            policy("audit", 30, AUDIT_WITHOUT_COMMANDS, "net.dst.port <= 2222"),
            policy("block-22", 10, Action::Block, "net.dst.port == 22"),
            policy("allow", 20, Action::Allow, "net.dst.port in {22 2222}"),
        ]);
        let names: Vec<_> = set.policies().iter().map(|policy| &*policy.name).collect();
        assert_eq!(names, ["block-22", "allow", "audit"]);
        assert_eq!(evaluate(&set, &facts(22, None)), block("block-22"));
        assert_eq!(evaluate(&set, &facts(2222, None)), intercept("allow", true));
        assert_eq!(evaluate(&set, &facts(23, None)), intercept("audit", false));
        assert_eq!(evaluate(&set, &facts(8080, None)), NO_MATCH);
    }

    #[test]
    fn policies_of_equal_precedence_keep_their_order() {
        let first = policy("first", 1, Action::Block, "");
        let second = policy("second", 1, Action::Allow, "");
        let set = NetworkPolicySet::new(vec![first.clone(), second.clone()]);
        assert_eq!(evaluate(&set, &facts(22, None)), block("first"));
        let set = NetworkPolicySet::new(vec![second, first]);
        assert_eq!(evaluate(&set, &facts(22, None)), intercept("second", true));
    }

    #[test]
    fn all_three_conditions_must_hold() {
        let alice = named("Alice");
        let lost = Identity { device_posture: vec!["lost".to_owned()], ..alice.clone() };
        let bob = named("Bob");
        let all = NetworkPolicy {
            identity: Some(expression("identity.name == \"Alice\"")),
            device_posture: Some(expression("not any(device_posture.checks.passed[*] == \"lost\")")),
            ..policy("p", 1, Action::Block, "net.dst.port == 22")
        };
        let verdict = |policy: NetworkPolicy, port, identity: Option<&Identity>| {
            evaluate(&NetworkPolicySet::new(vec![policy]), &facts(port, identity))
        };
        assert_eq!(verdict(all.clone(), 22, Some(&alice)), block("p"));
        assert_eq!(verdict(all.clone(), 23, Some(&alice)), NO_MATCH);
        assert_eq!(verdict(all.clone(), 22, Some(&bob)), NO_MATCH);
        assert_eq!(verdict(all.clone(), 22, None), NO_MATCH);
        assert_eq!(verdict(all.clone(), 22, Some(&lost)), NO_MATCH);
        let none = NetworkPolicy { traffic: None, identity: None, device_posture: None, ..all };
        assert_eq!(verdict(none, 1, None), block("p"));
    }

    #[test]
    fn a_disabled_policy_is_skipped_even_if_it_would_fail() {
        let disabled = NetworkPolicy {
            enabled: false,
            ..policy("off", 1, Action::Block, "identity.name matches \"x\"")
        };
        let set = NetworkPolicySet::new(vec![disabled]);
        assert_eq!(evaluate(&set, &facts(22, Some(&named(&"x".repeat(MAX_MATCHED_TEXT + 1))))), NO_MATCH);
    }

    #[test]
    fn a_condition_that_cannot_be_evaluated_blocks_whatever_the_others_say() {
        let long = named(&"x".repeat(MAX_MATCHED_TEXT + 1));
        let failing = || Some(expression("identity.name matches \"x\""));
        for action in [Action::Allow, Action::Block, AUDIT_WITHOUT_COMMANDS] {
            for traffic in ["net.dst.port == 22", "net.dst.port == 23"] {
                let base = policy("p", 1, action, traffic);
                for failing in [
                    NetworkPolicy { identity: failing(), ..base.clone() },
                    NetworkPolicy { device_posture: failing(), ..base.clone() },
                    NetworkPolicy { traffic: failing(), identity: base.traffic.clone(), ..base.clone() },
                ] {
                    let later = policy("later", 2, Action::Allow, "");
                    let set = NetworkPolicySet::new(vec![failing, later]);
                    let NetworkVerdict::Block { policy, evaluation_error: Some(error) } =
                        evaluate(&set, &facts(22, Some(&long)))
                    else {
                        panic!("{action:?} {traffic} did not block");
                    };
                    assert_eq!(&*policy, "p");
                    assert!(error.contains("`identity.name` has a value of 4097 bytes"), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_policy_behind_the_deciding_one_cannot_fail() {
        let set = NetworkPolicySet::new(vec![
            policy("first", 1, Action::Allow, "net.dst.port == 22"),
            policy("failing", 2, Action::Block, "identity.name matches \"x\""),
        ]);
        let long = named(&"x".repeat(MAX_MATCHED_TEXT + 1));
        assert_eq!(evaluate(&set, &facts(22, Some(&long))), intercept("first", true));
    }

    #[test]
    fn explain_says_what_became_of_every_policy() {
        let off = NetworkPolicy { enabled: false, ..policy("off", 1, Action::Block, "") };
        let identity = Some(expression("identity.email == \"bob@example.com\""));
        let set = NetworkPolicySet::new(vec![
            off,
            NetworkPolicy { identity, ..policy("bob", 2, Action::Block, "net.dst.port == 23") },
            policy("audit", 3, AUDIT_WITHOUT_COMMANDS, "net.dst.port == 22"),
            policy("failing", 4, Action::Allow, "identity.name matches \"x\""),
        ]);
        let long = named(&"x".repeat(MAX_MATCHED_TEXT + 1));
        let traces = serde_json::to_value(explain(&set, &facts(22, Some(&long)))).unwrap();
        let expected = serde_json::json!([
            {"name": "off", "action": "block", "enabled": false, "outcome": "disabled", "decides": false},
            {"name": "bob", "action": "block", "enabled": true, "decides": false, "outcome": {"not_matched": {"failed": [
                {"condition": "traffic", "expression": "net.dst.port == 23"},
                {"condition": "identity", "expression": "identity.email == \"bob@example.com\""},
            ]}}},
            {"name": "audit", "action": {"audit_ssh": {"command_logging": false}}, "enabled": true,
             "outcome": "matched", "decides": true},
            {"name": "failing", "action": "allow", "enabled": true, "decides": false,
             "outcome": {"error": "traffic: `identity.name` has a value of 4097 bytes, and patterns are run on 4096 at most"}},
        ]);
        assert_eq!(traces, expected);
    }

    fn any_policies() -> impl Strategy<Value = Vec<NetworkPolicy>> {
        let action = select(vec![Action::Allow, Action::Block, AUDIT_WITHOUT_COMMANDS]);
        let traffic = select(vec![
            "net.dst.port == 22",
            "net.dst.port > 22",
            "identity.email matches \"^a\"",
            "identity.name matches \"x\"",
            "",
        ]);
        let policies = prop::collection::vec((action, traffic, any::<bool>()), 0..8);
        policies.prop_map(|policies| {
            let numbered = policies.into_iter().zip(0_u64..);
            numbered
                .map(|((action, traffic, enabled), index)| NetworkPolicy {
                    enabled,
                    ..policy(&format!("p{index}"), index * 10, action, traffic)
                })
                .collect()
        })
    }

    fn any_identity() -> impl Strategy<Value = Option<Identity>> {
        let name = select(vec![1, MAX_MATCHED_TEXT + 1]).prop_map(|length| named(&"x".repeat(length)));
        prop::option::of(name)
    }

    proptest! {
        #[test]
        fn the_order_of_the_input_does_not_matter(
            (policies, shuffled) in any_policies().prop_flat_map(|p| (Just(p.clone()), Just(p).prop_shuffle())),
            port in 20..24_u16,
            identity in any_identity(),
        ) {
            let facts = facts(port, identity.as_ref());
            let (given, shuffled) = (NetworkPolicySet::new(policies), NetworkPolicySet::new(shuffled));
            prop_assert_eq!(evaluate(&given, &facts), evaluate(&shuffled, &facts));
        }

        #[test]
        fn explain_names_the_policy_that_evaluate_obeys(
            policies in any_policies(),
            port in 20..24_u16,
            identity in any_identity(),
        ) {
            let facts = facts(port, identity.as_ref());
            let set = NetworkPolicySet::new(policies);
            let deciding: Vec<_> =
                explain(&set, &facts).into_iter().filter(|trace| trace.decides).map(|trace| trace.name).collect();
            let decided_by = match evaluate(&set, &facts) {
                NetworkVerdict::Intercept { policy, .. } => policy,
                NetworkVerdict::Block { policy, .. } => Some(policy),
            };
            let decided_by: Vec<_> = decided_by.iter().map(ToString::to_string).collect();
            prop_assert_eq!(deciding, decided_by);
        }

        #[test]
        fn a_block_that_matches_first_is_final(mut policies in any_policies(), port in 20..24_u16) {
            let first = policies.iter().map(|policy| policy.precedence).min().unwrap_or(1).saturating_sub(1);
            policies.insert(0, policy("wall", first, Action::Block, ""));
            let verdict = evaluate(&NetworkPolicySet::new(policies), &facts(port, None));
            prop_assert_eq!(verdict, block("wall"));
        }
    }
}
