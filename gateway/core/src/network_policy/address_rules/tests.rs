//! What boxes decide is what evaluation decides, for random sets of policies and random flows.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::expression::tests::generated::{Model, World, flow_model, model, world};
use crate::expression::{Expression, FlowFacts, ListKind, Lists, MAX_MATCHED_TEXT};
use crate::identity::{Email, Identity};
use crate::net::{ClientAddr, OriginalDst};
use crate::network_policy::{NetworkVerdict, evaluate};

const AUDIT: Action = Action::AuditSsh { command_logging: false };

fn expression(source: &str) -> Expression {
    let mut lists = Lists::default();
    let office = ["10.0.0.0/8", "192.0.2.1..192.0.2.3", "2001:db8::/32"].map(str::to_owned);
    lists.insert("office", ListKind::Ip, &office).unwrap();
    Expression::parse(source, &lists).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn policy(name: &str, action: Action, traffic: &str, identity: &str) -> NetworkPolicy {
    let condition = |source: &str| (!source.is_empty()).then(|| expression(source));
    NetworkPolicy {
        name: name.into(),
        action,
        enabled: true,
        precedence: 0,
        traffic: condition(traffic),
        identity: condition(identity),
        device_posture: None,
    }
}

fn compiled(policies: &[(&str, Action, &str, &str)]) -> AddressRules {
    let policies =
        policies.iter().map(|(name, action, traffic, identity)| policy(name, *action, traffic, identity));
    NetworkPolicySet::new(policies.collect()).address_rules()
}

fn flow(client: &str, original_dst: &str) -> FlowTuple {
    FlowTuple {
        client: ClientAddr::new(client.parse().unwrap()),
        original_dst: OriginalDst::new(original_dst.parse().unwrap()),
    }
}

fn blocks(rules: &AddressRules, client: &str, original_dst: &str) -> Option<String> {
    rules.blocks(flow(client, original_dst)).map(|name| name.to_string())
}

#[test]
fn pure_policies_become_boxes_in_their_order() {
    let rules = compiled(&[
        ("admins", Action::Allow, "net.src.ip == 10.0.0.9", ""),
        ("guests", Action::Block, "net.src.ip in $office and net.dst.port in {22 2200..2201}", ""),
        ("rest", AUDIT, "", ""),
        ("unreachable", Action::Block, "", ""),
    ]);
    assert_eq!((rules.stopped.clone(), rules.rules.len()), (None, 1 + 3 * 2));
    assert_eq!(rules.policies.iter().map(|name| &**name).collect::<Vec<_>>(), ["admins", "guests"]);
    assert_eq!(rules.blocking().map(|name| &**name).collect::<Vec<_>>(), ["guests"]);
    for (client, original_dst, blocked) in [
        ("10.0.0.9:5", "192.0.2.7:22", false),
        ("10.0.0.8:5", "192.0.2.7:22", true),
        ("10.0.0.8:5", "192.0.2.7:2201", true),
        ("10.0.0.8:5", "192.0.2.7:2202", false),
        ("192.0.2.3:5", "192.0.2.7:22", true),
        ("192.0.2.4:5", "192.0.2.7:22", false),
        ("[2001:db8::5]:5", "[2001:db8::7]:22", true),
        ("[::a00:8]:5", "[2001:db8::7]:22", false),
    ] {
        assert_eq!(blocks(&rules, client, original_dst).is_some(), blocked, "{client} {original_dst}");
    }
}

#[test]
fn a_port_takes_one_box_for_both_families() {
    let rules = compiled(&[("ssh", Action::Block, "net.dst.port == 22", "")]);
    let expected = FlowBox { dst_port: crate::net::flow_box::Span { first: 22, last: 22 }, ..FlowBox::ALL };
    let only = AddressRule { flows: expected, verdict: AddressVerdict::Block, policy: 0 };
    assert_eq!(rules.rules, [only]);
}

#[test]
fn a_policy_about_users_leaves_its_own_flows_to_user_space_and_no_others() {
    let ops = "any(identity.groups[*].name == \"ops\")";
    let rules = compiled(&[
        ("ops", Action::Allow, "net.dst.port == 22", ops),
        ("no-ops", Action::Block, "net.dst.port == 23", ops),
        ("old-or-ops", Action::Block, "net.dst.port == 24 or net.src.ip == 10.0.0.3", ""),
        ("low", Action::Block, "net.dst.port < 1024", ""),
    ]);
    let at = |port: u16| blocks(&rules, "10.0.0.1:5", &format!("192.0.2.7:{port}"));
    assert_eq!((at(22), at(23)), (None, None));
    assert_eq!((at(24).as_deref(), at(25).as_deref(), at(1024)), (Some("old-or-ops"), Some("low"), None));
    // Blocked by addresses whoever connects, and perhaps more.
    let either = format!("net.dst.port == 22 or not {ops}");
    let rules = compiled(&[("either", Action::Block, &either, ""), ("all", Action::Block, "", "")]);
    let at = |port: u16| blocks(&rules, "10.0.0.1:5", &format!("192.0.2.7:{port}"));
    assert_eq!((at(22).as_deref(), at(23)), (Some("either"), None));
}

#[test]
fn compiling_stops_at_what_may_fail_and_at_what_does_not_fit() {
    let stopped = |policies: &[(&str, Action, &str, &str)]| {
        let rules = compiled(policies);
        let stopped = rules.stopped.map(|stopped| (stopped.policy.to_string(), stopped.reason));
        (rules.rules.len(), stopped)
    };
    let first = ("first", Action::Block, "net.dst.port == 22", "");
    let all = ("all", Action::Block, "", "");
    let may_fail = Some(("pattern".to_owned(), StopReason::MayFail));
    let pattern = ("pattern", Action::Allow, "net.dst.port == 99", "identity.email matches \"x\"");
    assert_eq!(stopped(&[first, pattern, all]), (1, may_fail));
    assert_eq!(stopped(&[all, pattern]), (1, None), "nothing gets there");
    let short = "net.src.geo.country matches \"D\" or access.target matches \"x\"";
    assert_eq!(stopped(&[first, ("short", Action::Allow, short, ""), all]).1, None);
    let odd = |count: u16| {
        let ports: Vec<_> = (0..count).map(|n| (2 * n + 1).to_string()).collect();
        format!("net.src.port in {{{}}}", ports.join(" "))
    };
    let (most, more) = (odd(255), odd(256));
    assert_eq!(stopped(&[first, ("most", Action::Block, &most, "")]), (256, None));
    let too_many = |name: &str| Some((name.to_owned(), StopReason::TooManyBoxes));
    assert_eq!(stopped(&[first, ("more", Action::Block, &more, ""), all]), (1, too_many("more")));
    let product = format!("{more} and not ({})", more.replace("src", "dst"));
    assert_eq!(stopped(&[first, ("product", Action::Block, &product, "")]), (1, too_many("product")));
}

#[test]
fn a_disabled_policy_has_no_boxes_and_stops_nothing() {
    let disabled =
        NetworkPolicy { enabled: false, ..policy("off", Action::Allow, "", "identity.name matches \"x\"") };
    let set = NetworkPolicySet::new(vec![disabled, policy("all", Action::Block, "", "")]);
    let rules = set.address_rules();
    assert_eq!((rules.stopped, rules.policies), (None, vec![Arc::from("all")]));
}

/// One random policy; its name is its place in the set.
type Draft = (Action, bool, Option<Model>, Option<Model>);

fn draft(model: impl Strategy<Value = Model> + Clone) -> impl Strategy<Value = Draft> {
    let condition = || prop::option::weighted(0.8, model.clone());
    let action = select(vec![Action::Block, Action::Block, Action::Allow, AUDIT]);
    (action, prop::bool::weighted(0.9), condition(), condition())
}

fn set(drafts: Vec<Draft>) -> NetworkPolicySet {
    let policy = |(place, (action, enabled, traffic, identity)): (usize, Draft)| {
        let print = |model: Option<Model>| model.map(|model| model.print()).unwrap_or_default();
        let policy = policy(&place.to_string(), action, &print(traffic), &print(identity));
        NetworkPolicy { enabled, ..policy }
    };
    NetworkPolicySet::new(drafts.into_iter().enumerate().map(policy).collect())
}

fn verdict(set: &NetworkPolicySet, flow: FlowTuple, identity: Option<&Identity>) -> NetworkVerdict {
    let facts = FlowFacts { flow, source_country: None, vnet_id: None, identity, target: None };
    evaluate(set, &facts)
}

/// Nobody, somebody, and somebody whom no pattern can be asked about.
fn identities(world: &World) -> [Option<Identity>; 3] {
    let endless = Email::new(&format!("{}@example.com", "x".repeat(MAX_MATCHED_TEXT))).unwrap();
    [None, world.identity(), Some(Identity::from_email(endless))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_a_box_blocks_is_blocked_by_its_policy_whoever_connects(
        drafts in prop::collection::vec(prop_oneof![draft(model().boxed()), draft(flow_model().boxed())], 0..6),
        worlds in prop::collection::vec(world(), 16),
    ) {
        let set = set(drafts);
        let rules = set.address_rules();
        for world in worlds {
            let Some(policy) = rules.blocks(world.flow()).cloned() else { continue };
            let expected = NetworkVerdict::Block { policy, evaluation_error: None };
            for identity in identities(&world) {
                let found = verdict(&set, world.flow(), identity.as_ref());
                prop_assert_eq!(&found, &expected, "{:?} {:?}", set, world);
            }
        }
    }

    #[test]
    fn boxes_block_all_that_pure_policies_block(
        drafts in prop::collection::vec(draft(flow_model().boxed()), 0..6),
        worlds in prop::collection::vec(world(), 16),
    ) {
        let set = set(drafts);
        let rules = set.address_rules();
        prop_assume!(rules.stopped.is_none());
        for world in worlds {
            let blocked_by = match verdict(&set, world.flow(), world.identity().as_ref()) {
                NetworkVerdict::Block { policy, .. } => Some(policy),
                NetworkVerdict::Intercept { .. } => None,
            };
            prop_assert_eq!(rules.blocks(world.flow()), blocked_by.as_ref(), "{:?} {:?}", set, world);
        }
    }
}
