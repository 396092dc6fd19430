//! Tables and properties of the second decision.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::fixture::{criteria, flow, identity, policy, set, target};
use super::*;
use crate::access_group::{AccessGroup, AccessGroups};
use crate::identity::Email;
use crate::port::PortSet;
use crate::rule::AccessRule;
use crate::target::{Hostname, Tags, TargetSelector};

fn login(name: &str) -> Login {
    Login::new(name).unwrap()
}

fn email(email: &str) -> AccessRule {
    AccessRule::Email(Email::new(email).unwrap())
}

fn application(
    name: &str,
    criteria: Vec<TargetCriteria>,
    policies: Vec<InfrastructurePolicy>,
) -> Application {
    Application { name: name.into(), criteria, policies }
}

/// Two hosts, and two applications that overlap on the first.
fn two_applications() -> InfrastructureSet {
    let staff = vec![email("alice@example.com"), email("bob@example.com")];
    let narrow = SshPermissions { pty: true, ..SshPermissions::NONE };
    let forwards = SshPermissions { port_forwarding: true, ..SshPermissions::NONE };
    set(
        vec![target("db", "10.0.0.1/32"), target("web", "10.0.0.0/24")],
        vec![
            application(
                "databases",
                vec![criteria("db", 22), criteria("db", 2222)],
                vec![
                    InfrastructurePolicy { permissions: narrow, ..policy("staff", staff.clone(), &["app"]) },
                    InfrastructurePolicy {
                        permissions: forwards,
                        allow_email_alias: true,
                        ..policy("admins", vec![email("alice@example.com")], &["root", "app"])
                    },
                ],
            ),
            application(
                "all",
                vec![criteria("db", 22), criteria("web", 22)],
                vec![policy("bob", vec![email("bob@example.com")], &["bob"])],
            ),
        ],
    )
}

fn ask(set: &InfrastructureSet, who: &Identity, name: &str, dst: &str) -> Result<AccessGrant, Denial> {
    let login = login(name);
    authorize(set, &AccessRequest { flow: flow(dst), identity: who, source_country: None, login: &login })
}

#[test]
fn logins_are_the_union_over_matching_policies_of_all_applications() {
    let set = two_applications();
    let (alice, bob, eve) =
        (identity("Alice@Example.com"), identity("bob@example.com"), identity("eve@example.com"));
    let granted = |who: &Identity, name: &str, dst: &str| {
        ask(&set, who, name, dst).map(|grant| grant.granted_by().join(" ")).ok()
    };
    let cases: &[(&Identity, &str, &str, Option<&str>)] = &[
        (&alice, "app", "10.0.0.1:22", Some("databases/staff databases/admins")),
        (&alice, "root", "10.0.0.1:22", Some("databases/admins")),
        (&alice, "alice", "10.0.0.1:2222", Some("databases/admins")),
        (&alice, "Alice", "10.0.0.1:22", None),
        (&alice, "bob", "10.0.0.1:22", None),
        (&alice, "app", "10.0.0.1:23", None),
        (&alice, "app", "10.0.0.2:22", None),
        (&bob, "app", "10.0.0.1:22", Some("databases/staff")),
        (&bob, "root", "10.0.0.1:22", None),
        (&bob, "bob", "10.0.0.1:22", Some("all/bob")),
        (&bob, "bob", "10.0.0.1:2222", None),
        (&bob, "bob", "10.0.0.2:22", Some("all/bob")),
        (&bob, "bob", "10.0.1.2:22", None),
        (&eve, "app", "10.0.0.1:22", None),
    ];
    for (who, name, dst, expected) in cases {
        assert_eq!(granted(who, name, dst).as_deref(), *expected, "{} {name} {dst}", who.email);
    }
}

#[test]
fn permissions_are_the_union_over_the_policies_that_grant_the_login() {
    let set = two_applications();
    let alice = identity("alice@example.com");
    let permissions = |name: &str| ask(&set, &alice, name, "10.0.0.1:22").unwrap().permissions();
    let both = SshPermissions { pty: true, port_forwarding: true, ..SshPermissions::NONE };
    assert_eq!(permissions("app"), both);
    assert_eq!(permissions("root"), SshPermissions { pty: false, ..both });
}

#[test]
fn each_denial_says_what_is_missing() {
    let set = two_applications();
    let (alice, eve) = (identity("alice@example.com"), identity("eve@example.com"));
    let denial = |who: &Identity, name: &str, dst: &str| ask(&set, who, name, dst).unwrap_err();
    assert_eq!(denial(&alice, "app", "10.9.9.9:22").to_string(), "10.9.9.9:22 is no target");
    let no_policy = |who: &Identity, hostname: &str| Denial::NoPolicy {
        email: who.email.to_string(),
        hostname: hostname.to_owned(),
    };
    assert_eq!(denial(&eve, "app", "10.0.0.1:22"), no_policy(&eve, "db"));
    assert_eq!(denial(&alice, "app", "10.0.0.2:22"), no_policy(&alice, "web"));
    assert_eq!(
        denial(&alice, "deploy", "10.0.0.1:22"),
        Denial::LoginNotGranted {
            email: "alice@example.com".to_owned(),
            hostname: "db".to_owned(),
            login: login("deploy"),
            granted: ["alice", "app", "root"].into_iter().map(login).collect(),
        }
    );
}

#[test]
fn an_email_alias_that_is_no_login_grants_nothing() {
    let alias =
        InfrastructurePolicy { allow_email_alias: true, ..policy("alias", vec![AccessRule::Everyone], &[]) };
    let set =
        set(vec![target("db", "10.0.0.1/32")], vec![application("a", vec![criteria("db", 22)], vec![alias])]);
    let odd = identity("a,b@example.com");
    let denial = ask(&set, &odd, "a", "10.0.0.1:22").unwrap_err();
    assert!(matches!(denial, Denial::LoginNotGranted { granted, .. } if granted.is_empty()));
}

#[test]
fn a_mapped_destination_is_the_same_target() {
    let set = two_applications();
    assert!(ask(&set, &identity("bob@example.com"), "app", "[::ffff:10.0.0.1]:22").is_ok());
}

#[test]
fn groups_are_asked_and_unknown_ones_refused() {
    let group = |include: Vec<AccessRule>| AccessGroup {
        name: "admins".into(),
        rules: RuleSet { include, ..RuleSet::default() },
    };
    let build = |groups: AccessGroups| {
        let mut table = TargetTable::default();
        table.insert(target("db", "10.0.0.1/32")).unwrap();
        let policy = policy("p", vec![AccessRule::Group("admins".into())], &["root"]);
        InfrastructureSet::new(table, groups, vec![application("a", vec![criteria("db", 22)], vec![policy])])
    };
    let groups = AccessGroups::new(vec![group(vec![email("alice@example.com")])]).unwrap();
    let set = build(groups).unwrap();
    assert!(ask(&set, &identity("alice@example.com"), "root", "10.0.0.1:22").is_ok());
    assert!(ask(&set, &identity("bob@example.com"), "root", "10.0.0.1:22").is_err());
    assert_eq!(
        build(AccessGroups::default()).unwrap_err().to_string(),
        "the policy a/p refers to \"admins\", which is no group"
    );
}

#[test]
fn steered_is_every_address_on_every_covered_port_and_22_where_none() {
    let mut db = target("db", "10.0.0.1/32");
    db.addresses.push(crate::target::TargetAddress {
        net: "2001:db8::/64".parse().unwrap(),
        virtual_network_id: None,
    });
    let tagged = TargetCriteria {
        ports: PortSet::of(2200).unwrap(),
        include: vec![TargetSelector {
            tags: Tags::from([("env".to_owned(), BTreeSet::from(["prod".to_owned()]))]),
            ..TargetSelector::default()
        }],
        ..TargetCriteria::default()
    };
    db.tags.insert("env".to_owned(), BTreeSet::from(["prod".to_owned()]));
    let set = set(
        vec![db, target("lonely", "10.0.0.2/32")],
        vec![
            application("a", vec![criteria("db", 22), criteria("db", 2222)], Vec::new()),
            application("b", vec![criteria("db", 22), tagged], Vec::new()),
        ],
    );
    let steered: Vec<_> = set.steered().iter().map(|(net, ports)| format!("{net} {ports}")).collect();
    let expected = ["10.0.0.1/32 22, 2200, 2222", "10.0.0.2/32 22", "2001:db8::/64 22, 2200, 2222"];
    assert_eq!(steered, expected);
    assert!(set.ports(&target("lonely", "10.0.0.2/32")).is_empty());
}

#[test]
fn the_index_of_applications_agrees_with_the_criteria() {
    let set = two_applications();
    for target in set.targets() {
        for port in [22, 2222, 23] {
            let found: Vec<_> = set.covering(target, port).map(|application| &application.name).collect();
            let expected: Vec<_> = set
                .applications()
                .iter()
                .filter(|one| one.criteria.iter().any(|c| c.ports.contains(port) && c.met_by(target)))
                .map(|application| &application.name)
                .collect();
            assert_eq!(found, expected, "{} {port}", target.hostname);
        }
    }
}

#[test]
fn explain_tells_what_each_policy_says() {
    let mut policies = vec![
        policy("matching", vec![email("alice@example.com")], &["app"]),
        policy("others", vec![email("bob@example.com")], &["root"]),
        policy("mfa", vec![AccessRule::Everyone], &["root"]),
        policy("not-alice", vec![AccessRule::Everyone], &["root"]),
    ];
    policies[2].rules.require.push(AccessRule::AuthMethod("mfa".to_owned()));
    policies[3].rules.exclude.push(email("alice@example.com"));
    let set =
        set(vec![target("db", "10.0.0.1/32")], vec![application("a", vec![criteria("db", 22)], policies)]);
    let alice = identity("alice@example.com");
    let root = login("root");
    let request =
        AccessRequest { flow: flow("10.0.0.1:22"), identity: &alice, source_country: None, login: &root };
    let json = serde_json::to_value(explain(&set, &request)).unwrap();
    let policies = json["applications"][0]["policies"].as_array().unwrap();
    let outcomes: Vec<_> = policies
        .iter()
        .map(|policy| {
            let text = |key: &str| policy[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("outcome"), text("include") + &text("require") + &text("exclude"))
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            "matched email alice@example.com",
            "not_included ",
            "require_failed auth_method \"mfa\"",
            "excluded email alice@example.com",
        ]
    );
    assert_eq!(
        json["verdict"],
        serde_json::json!({
            "verdict": "denied",
            "reason": "no policy grants alice@example.com the login root on db",
            "granted_logins": ["app"],
        })
    );
    let nowhere = explain(&set, &AccessRequest { flow: flow("10.9.9.9:22"), ..request });
    assert_eq!((&nowhere.target, nowhere.applications.len()), (&None, 0));
    assert_eq!(nowhere.to_string(), "denied: 10.9.9.9:22 is no target");
    let uncovered = explain(&set, &AccessRequest { flow: flow("10.0.0.1:23"), ..request });
    assert_eq!(
        uncovered.to_string(),
        "target db\n  no application covers it on this port\n\
         denied: no policy grants alice@example.com access to db"
    );
    assert_eq!(
        explain(&set, &request).to_string(),
        r#"target db
application "a"
  policy "matching" matches: includes email alice@example.com; grants app
  policy "others" does not match: no include rule holds; would grant root
  policy "mfa" does not match: requires auth_method "mfa"; would grant root
  policy "not-alice" does not match: excludes email alice@example.com; would grant root
denied: no policy grants alice@example.com the login root on db; granted there: app"#
    );
    let app = login("app");
    let granted = explain(&set, &AccessRequest { login: &app, ..request }).to_string();
    assert!(granted.ends_with("\ngranted by a/matching"), "{granted}");
}

/// A small universe in which collisions are frequent.
fn rule() -> impl Strategy<Value = AccessRule> {
    prop_oneof![
        Just(AccessRule::Everyone),
        (0..3u8).prop_map(|n| email(&format!("u{n}@example.com"))),
        Just(AccessRule::EmailDomain("example.com".into())),
        Just(AccessRule::Ip("192.0.2.0/24".parse().unwrap())),
        Just(AccessRule::Ip("198.51.100.0/24".parse().unwrap())),
        (0..2u8).prop_map(|n| AccessRule::AuthMethod(format!("m{n}"))),
        Just(AccessRule::Certificate),
    ]
}

fn any_policy() -> impl Strategy<Value = InfrastructurePolicy> {
    let include = prop::collection::vec(rule(), 0..4);
    let few = || prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(rule(), 1..3)];
    let usernames = prop::collection::btree_set(0..3u8, 0..3);
    (0..100u8, include, few(), few(), usernames, any::<bool>()).prop_map(
        |(name, include, require, exclude, usernames, allow_email_alias)| InfrastructurePolicy {
            name: format!("p{name}").into(),
            rules: RuleSet { include, require, exclude },
            usernames: usernames.into_iter().map(|n| login(&format!("u{n}"))).collect(),
            allow_email_alias,
            permissions: SshPermissions { pty: name % 2 == 0, ..SshPermissions::NONE },
            forwards: None,
            forwards_to_targets: ToTargets::Refuse,
        },
    )
}

fn any_criteria() -> impl Strategy<Value = TargetCriteria> {
    let selector = || {
        (prop::collection::btree_set(0..3u8, 0..3), prop::option::of(0..2u8)).prop_map(|(names, tag)| {
            TargetSelector {
                hostnames: names.into_iter().map(|n| Hostname::new(&format!("h{n}")).unwrap()).collect(),
                tags: tag
                    .map(|n| ("env".to_owned(), BTreeSet::from([format!("e{n}")])))
                    .into_iter()
                    .collect(),
            }
        })
    };
    let include = prop::collection::vec(selector(), 0..3);
    let few = || prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(selector(), 1..2)];
    (prop::option::of(selector()), include, few(), few()).prop_map(
        |(attributes, include, require, exclude)| TargetCriteria {
            ports: PortSet::of(22).unwrap(),
            attributes,
            include,
            require,
            exclude,
        },
    )
}

fn any_application() -> impl Strategy<Value = Application> {
    (0..100u8, prop::collection::vec(any_criteria(), 1..3), prop::collection::vec(any_policy(), 0..4))
        .prop_map(|(name, criteria, policies)| application(&format!("a{name}"), criteria, policies))
}

fn three_targets() -> Vec<Target> {
    (0..3u8)
        .map(|n| {
            let mut target = target(&format!("h{n}"), &format!("10.0.0.{n}/32"));
            target.tags.insert("env".to_owned(), BTreeSet::from([format!("e{}", n % 2)]));
            target
        })
        .collect()
}

#[test]
fn the_universe_of_the_properties_holds_grants_and_denials() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let applications = prop::collection::vec(any_application(), 1..4);
    let (mut granting, mut denying) = (0, 0);
    for _ in 0..200 {
        let applications = applications.new_tree(&mut runner).unwrap().current();
        let verdicts = verdicts(&set(three_targets(), applications));
        granting += u32::from(verdicts.iter().any(Option::is_some));
        denying += u32::from(verdicts.iter().any(Option::is_none));
    }
    assert!(granting >= 80, "only {granting} of 200 sets grant anything");
    assert!(denying >= 40, "only {denying} of 200 sets deny anything");
}

/// Every verdict over the universe: `None` is denied.
fn verdicts(set: &InfrastructureSet) -> Vec<Option<(BTreeSet<String>, SshPermissions)>> {
    let mut all = Vec::new();
    for user in 0..4u8 {
        let mut who = identity(&format!("u{user}@example.com"));
        who.auth_methods = vec![format!("m{}", user % 2)];
        for name in 0..4u8 {
            for host in 0..4u8 {
                let verdict = ask(set, &who, &format!("u{name}"), &format!("10.0.0.{host}:22"));
                all.push(
                    verdict
                        .ok()
                        .map(|grant| (grant.granted_by().iter().cloned().collect(), grant.permissions())),
                );
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn an_empty_set_denies_everything(applications in prop::collection::vec(any_application(), 0..3)) {
        let none = |set: &InfrastructureSet| verdicts(set).iter().all(Option::is_none);
        prop_assert!(none(&InfrastructureSet::default()));
        prop_assert!(none(&set(Vec::new(), applications)));
        prop_assert!(none(&set(three_targets(), Vec::new())));
    }

    #[test]
    fn an_exclude_rule_never_grants_more(
        applications in prop::collection::vec(any_application(), 1..3), extra in rule(), pick in any::<prop::sample::Index>()
    ) {
        let before = verdicts(&set(three_targets(), applications.clone()));
        let mut applications = applications;
        let at = pick.index(applications.len());
        for policy in &mut applications[at].policies {
            policy.rules.exclude.push(extra.clone());
        }
        let after = verdicts(&set(three_targets(), applications));
        for (before, after) in before.iter().zip(&after) {
            if let Some((by_now, _)) = after {
                let (by_then, _) = before.as_ref().expect("an exclude rule granted a login");
                prop_assert!(by_now.is_subset(by_then));
            }
        }
    }

    #[test]
    fn a_require_rule_never_grants_more(
        applications in prop::collection::vec(any_application(), 1..3), extra in rule()
    ) {
        let before = verdicts(&set(three_targets(), applications.clone()));
        let mut applications = applications;
        for policy in applications.iter_mut().flat_map(|application| &mut application.policies) {
            policy.rules.require.push(extra.clone());
        }
        let after = verdicts(&set(three_targets(), applications));
        prop_assert!(before.iter().zip(&after).all(|(before, after)| before.is_some() || after.is_none()));
    }

    #[test]
    fn order_never_changes_a_verdict(
        applications in prop::collection::vec(any_application(), 1..4), seed in any::<u64>()
    ) {
        let before = verdicts(&set(three_targets(), applications.clone()));
        let (mut targets, mut applications) = (three_targets(), applications);
        let turn = |length: usize| usize::try_from(seed % u64::try_from(length.max(1)).unwrap()).unwrap();
        let by = turn(targets.len());
        targets.rotate_left(by);
        let by = turn(applications.len());
        applications.rotate_left(by);
        applications.reverse();
        for application in &mut applications {
            application.policies.reverse();
            let by = turn(application.policies.len());
            application.policies.rotate_left(by);
            application.criteria.reverse();
            for policy in &mut application.policies {
                policy.rules.include.reverse();
                policy.rules.require.reverse();
                policy.rules.exclude.reverse();
            }
        }
        prop_assert_eq!(before, verdicts(&set(targets, applications)));
    }

    #[test]
    fn an_approach_is_denied_if_and_only_if_no_policy_is_about_the_user(
        applications in prop::collection::vec(any_application(), 0..4)
    ) {
        let set = set(three_targets(), applications);
        for (user, host) in (0..4u8).flat_map(|user| (0..4u8).map(move |host| (user, host))) {
            let (who, dst) = (identity(&format!("u{user}@example.com")), format!("10.0.0.{host}:22"));
            let user = ApproachingUser { flow: flow(&dst), identity: &who, source_country: None };
            let approached = approach(&set, user).err();
            for name in 0..4u8 {
                let denied = ask(&set, &who, &format!("u{name}"), &dst).err();
                let unknown = denied.filter(|denial| !matches!(denial, Denial::LoginNotGranted { .. }));
                prop_assert_eq!(&approached, &unknown);
            }
        }
    }

    #[test]
    fn a_grant_is_always_explained(applications in prop::collection::vec(any_application(), 1..3)) {
        let set = set(three_targets(), applications);
        let who = identity("u0@example.com");
        for (host, name) in (0..4u8).flat_map(|host| (0..4u8).map(move |name| (host, name))) {
            let login = login(&format!("u{name}"));
            let flow = flow(&format!("10.0.0.{host}:22"));
            let request = AccessRequest { flow, identity: &who, source_country: None, login: &login };
            match (authorize(&set, &request), explain(&set, &request).verdict) {
                (Ok(grant), Verdict::Granted { granted_by, permissions }) => {
                    prop_assert_eq!(grant.granted_by(), &granted_by[..]);
                    prop_assert_eq!(grant.permissions(), permissions);
                }
                (Err(denial), Verdict::Denied { reason, .. }) => {
                    prop_assert_eq!(denial.to_string(), reason);
                }
                (verdict, explained) => prop_assert!(false, "{verdict:?} but {explained:?}"),
            }
        }
    }
}
