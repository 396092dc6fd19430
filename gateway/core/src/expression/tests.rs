//! The language as a whole: every field with every operator, precedence, absent facts.

pub(crate) mod generated;
mod refused;

use super::*;
use crate::identity::{Email, Identity};
use crate::net::{ClientAddr, FlowTuple, OriginalDst};

fn flow(client: &str, original_dst: &str) -> FlowTuple {
    FlowTuple {
        client: ClientAddr::new(client.parse().unwrap()),
        original_dst: OriginalDst::new(original_dst.parse().unwrap()),
    }
}

fn alice() -> Identity {
    Identity {
        name: Some("Alice Example".to_owned()),
        groups: vec!["Admins".to_owned(), "ops".to_owned()],
        device_posture: vec!["disk-encrypted".to_owned()],
        ..Identity::from_email(Email::new("Alice@example.com").unwrap())
    }
}

fn known(identity: &Identity) -> FlowFacts<'_> {
    FlowFacts {
        flow: flow("10.1.2.3:40000", "192.0.2.7:22"),
        source_country: Some("de"),
        vnet_id: Some("Blue"),
        identity: Some(identity),
        target: Some("Web-1.example.com"),
    }
}

fn unknown() -> FlowFacts<'static> {
    FlowFacts {
        flow: flow("[2001:db8::1]:40000", "[2001:db8::2]:22"),
        source_country: None,
        vnet_id: None,
        identity: None,
        target: None,
    }
}

fn lists() -> Lists {
    let mut lists = Lists::default();
    let mut insert = |name: &str, kind, values: &[&str]| {
        let values: Vec<_> = values.iter().map(|&value| value.to_owned()).collect();
        lists.insert(name, kind, &values).unwrap();
    };
    insert("office", ListKind::Ip, &["10.0.0.0/8", "2001:db8::/32", "192.0.2.1..192.0.2.3"]);
    insert("staff", ListKind::Email, &["ALICE@example.com", "bob@example.com"]);
    insert("web", ListKind::Domain, &["WEB-1.example.com"]);
    insert("dach", ListKind::Location, &["DE", "at", "CH"]);
    insert("roles", ListKind::Serial, &["ops", "dev"]);
    insert("ssh-ports", ListKind::Port, &["22", "2200..2299"]);
    insert("nobody", ListKind::Email, &[]);
    lists
}

fn holds(source: &str, facts: &FlowFacts<'_>) -> bool {
    let expression = Expression::parse(source, &lists()).unwrap_or_else(|error| panic!("{source}: {error}"));
    expression.evaluate(facts).unwrap()
}

#[track_caller]
fn check_table(facts: &FlowFacts<'_>, table: &[(&str, bool)]) {
    for (source, expected) in table {
        assert_eq!(holds(source, facts), *expected, "{source}");
    }
}

#[test]
fn addresses_are_compared_with_values_prefixes_ranges_and_lists() {
    let alice = alice();
    check_table(
        &known(&alice),
        &[
            ("net.src.ip == 10.1.2.3", true),
            ("net.src.ip == 10.1.2.4", false),
            ("net.src.ip == ::ffff:10.1.2.3", true),
            ("net.src.ip != 10.1.2.3", false),
            ("net.src.ip != 10.1.2.4", true),
            ("net.src.ip != 2001:db8::1", true),
            ("net.src.ip in {10.1.2.3}", true),
            ("net.src.ip in {10.0.0.0/8}", true),
            ("net.src.ip in {::ffff:10.0.0.0/104}", true),
            ("net.src.ip in {11.0.0.0/8 10.1.2.0/30}", true),
            ("net.src.ip in {10.1.2.4/30}", false),
            ("net.src.ip in {10.1.2.1..10.1.2.3}", true),
            ("net.src.ip in {10.1.2.4 .. 10.1.2.9}", false),
            ("net.src.ip in {0.0.0.0/0}", true),
            ("net.src.ip in {::/0}", false),
            ("net.src.ip in $office", true),
            ("net.dst.ip in $office", false),
            ("net.dst.ip == 192.0.2.7", true),
        ],
    );
    check_table(
        &unknown(),
        &[
            ("net.src.ip == 2001:db8::1", true),
            ("net.src.ip == 2001:DB8:0::1", true),
            ("net.src.ip in {0.0.0.0/0}", false),
            ("net.src.ip in {::/0}", true),
            ("net.src.ip in {2001:db8::..2001:db8::f}", true),
            ("net.dst.ip in $office", true),
        ],
    );
}

#[test]
fn a_mapped_source_cannot_slip_past_an_ipv4_rule() {
    let facts = FlowFacts { flow: flow("[::ffff:10.1.2.3]:1", "[::ffff:192.0.2.7]:22"), ..unknown() };
    check_table(&facts, &[("net.src.ip in {10.0.0.0/8}", true), ("net.dst.ip == 192.0.2.7", true)]);
}

#[test]
fn overlapping_ranges_hold_all_their_members() {
    let ports: String = (0..200_u32).map(|n| format!("{}..{} ", 1000 + n * 7, 1003 + n * 9)).collect();
    let expression =
        Expression::parse(&format!("net.dst.port in {{ 1 {ports} 1000..1500 }}"), &Lists::default()).unwrap();
    for port in 0..4000_u32 {
        let expected = port == 1
            || (1000..=1500).contains(&port)
            || (0..200).any(|n| (1000 + n * 7..=1003 + n * 9).contains(&port));
        let facts = FlowFacts { flow: flow("10.0.0.1:1", &format!("10.0.0.2:{port}")), ..unknown() };
        assert_eq!(expression.evaluate(&facts), Ok(expected), "{port}");
    }
}

#[test]
fn ports_are_compared_and_ordered_with_or_without_quotes() {
    let alice = alice();
    check_table(
        &known(&alice),
        &[
            ("net.dst.port == 22", true),
            ("net.dst.port == \"22\"", true),
            ("net.dst.port == 23", false),
            ("net.dst.port != 22", false),
            ("net.dst.port != \"23\"", true),
            ("net.dst.port in {22 2222}", true),
            ("net.dst.port in {\"2222\" \"22\"}", true),
            ("net.dst.port in {8000..8100}", false),
            ("net.dst.port in {20..22}", true),
            ("net.dst.port in {\"22\"..\"30\"}", true),
            ("net.dst.port in $ssh-ports", true),
            ("net.src.port in $ssh-ports", false),
            ("net.dst.port > 21", true),
            ("net.dst.port > 22", false),
            ("net.dst.port > 65535", false),
            ("net.dst.port >= 22", true),
            ("net.dst.port >= 23", false),
            ("net.dst.port < 23", true),
            ("net.dst.port < 22", false),
            ("net.dst.port < 0", false),
            ("net.dst.port <= 22", true),
            ("net.dst.port <= \"21\"", false),
            ("net.src.port == 40000", true),
        ],
    );
}

#[test]
fn texts_that_ignore_case() {
    let alice = alice();
    check_table(
        &known(&alice),
        &[
            ("identity.email == \"ALICE@Example.com\"", true),
            ("identity.email != \"alice@EXAMPLE.com\"", false),
            ("identity.email != \"bob@example.com\"", true),
            ("identity.email in {\"bob@example.com\" \"Alice@example.com\"}", true),
            ("identity.email in $staff", true),
            ("identity.email in $nobody", false),
            ("identity.email matches \"^ALICE@\"", true),
            ("net.src.geo.country == \"DE\"", true),
            ("net.src.geo.country == \"de\"", true),
            ("net.src.geo.country != \"DE\"", false),
            ("net.src.geo.country in {\"FR\" \"CH\"}", false),
            ("net.src.geo.country in $dach", true),
            ("net.src.geo.country matches \"^(de|at)$\"", true),
            ("net.protocol == \"tcp\"", true),
            ("net.protocol == \"TCP\"", true),
            ("net.protocol in {\"udp\" \"icmp\"}", false),
            ("net.protocol != \"udp\"", true),
            ("net.protocol matches \"t.p\"", true),
            ("access.target == \"web-1.EXAMPLE.com\"", true),
            ("access.target != \"web-1.example.com\"", false),
            ("access.target in {\"db\" \"web-1.example.com\"}", true),
            ("access.target in $web", true),
            ("access.target matches \"^WEB-\"", true),
        ],
    );
}

#[test]
fn texts_that_are_compared_exactly() {
    let alice = alice();
    check_table(
        &known(&alice),
        &[
            ("identity.name == \"Alice Example\"", true),
            ("identity.name == \"alice example\"", false),
            ("identity.name != \"alice example\"", true),
            ("identity.name in {\"Bob\" \"Alice Example\"}", true),
            ("identity.name in $roles", false),
            ("identity.name matches \"Ali.* Ex\"", true),
            ("identity.name matches \"ali\"", false),
            ("net.vnet_id == \"Blue\"", true),
            ("net.vnet_id == \"blue\"", false),
            ("net.vnet_id != \"blue\"", true),
            ("net.vnet_id in {\"Blue\"}", true),
            ("net.vnet_id matches \"^Blue$\"", true),
        ],
    );
}

#[test]
fn any_looks_for_one_element() {
    let alice = alice();
    check_table(
        &known(&alice),
        &[
            ("any(identity.groups[*].name == \"ops\")", true),
            ("any(identity.groups.name[*] == \"ops\")", true),
            ("any(identity.groups[*].name == \"admins\")", false),
            ("any(identity.groups[*].name != \"ops\")", true),
            ("any(identity.groups[*].name in {\"x\" \"Admins\"})", true),
            ("any(identity.groups[*].name in $roles)", true),
            ("any(identity.groups[*].name matches \"^op\")", true),
            ("any((identity.groups[*].name == \"ops\"))", true),
            ("any(device_posture.checks.passed[*] == \"disk-encrypted\")", true),
            ("any(device_posture.checks.passed[*] in {\"firewall\"})", false),
            ("any(device_posture.checks.passed[*] != \"disk-encrypted\")", false),
            ("any(device_posture.checks.passed[*] matches \"disk\")", true),
            ("not(any(identity.groups[*].name == \"dev\"))", true),
        ],
    );
}

#[test]
fn an_absent_fact_satisfies_no_comparison() {
    check_table(
        &unknown(),
        &[
            ("identity.email == \"alice@example.com\"", false),
            ("identity.email != \"alice@example.com\"", false),
            ("not identity.email == \"alice@example.com\"", true),
            ("not identity.email != \"alice@example.com\"", true),
            ("identity.email in $staff", false),
            ("identity.email matches \"\"", false),
            ("identity.name != \"x\"", false),
            ("net.vnet_id != \"x\"", false),
            ("access.target != \"x\"", false),
            ("net.src.geo.country != \"DE\"", false),
            ("any(identity.groups[*].name != \"x\")", false),
            ("any(device_posture.checks.passed[*] matches \"\")", false),
            ("not any(device_posture.checks.passed[*] == \"x\")", true),
        ],
    );
}

#[test]
fn a_pattern_is_unescaped_before_it_is_compiled() {
    let identity = |email: &str| Identity::from_email(Email::new(email).unwrap());
    let rule = r#"identity.email matches ".*@example\\.com""#;
    assert!(holds(rule, &known(&identity("a@example.com"))));
    assert!(!holds(rule, &known(&identity("a@exampleXcom"))));
    assert!(holds(r#"identity.email matches "@example\\.com""#, &known(&identity("a@example.com.test"))));
    assert!(!holds(r#"identity.email matches "@example\\.com$""#, &known(&identity("a@example.com.test"))));
}

#[test]
fn strings_are_unescaped() {
    let named = |name: &str| Identity { name: Some(name.to_owned()), ..alice() };
    for (text, name) in
        [(r#""a \"b\"""#, "a \"b\""), (r#""a\\b""#, r"a\b"), (r#""\t\r\n""#, "\t\r\n"), (r#""ä ☃""#, "ä ☃")]
    {
        assert!(holds(&format!("identity.name == {text}"), &known(&named(name))), "{text}");
    }
}

#[test]
fn not_binds_tighter_than_and_and_tighter_than_or() {
    for a in [false, true] {
        for b in [false, true] {
            for c in [false, true] {
                let name = |value: bool| if value { "net.dst.port == 22" } else { "net.dst.port == 23" };
                let (x, y, z) = (name(a), name(b), name(c));
                check_table(
                    &unknown(),
                    &[
                        (&format!("{x} or {y} and {z}"), a || (b && c)),
                        (&format!("{x} and {y} or {z}"), (a && b) || c),
                        (&format!("({x} or {y}) and {z}"), (a || b) && c),
                        (&format!("not {x} and {y}"), !a && b),
                        (&format!("not {x} or {y}"), !a || b),
                        (&format!("not ({x} and {y})"), !(a && b)),
                        (&format!("not not {x}"), a),
                        (&format!("{x} and not({y})and {z}"), a && !b && c),
                        (&format!("\n{x}\n\tor\n{y}\n"), a || b),
                    ],
                );
            }
        }
    }
}

#[test]
fn an_empty_expression_holds() {
    check_table(&unknown(), &[("", true), (" \n", true)]);
}

#[test]
fn an_error_wins_in_any_order() {
    let long = Identity { name: Some("x".repeat(MAX_MATCHED_TEXT + 1)), ..alice() };
    let error = EvaluationError::TextTooLong { field: "identity.name", length: MAX_MATCHED_TEXT + 1 };
    let failing = "identity.name matches \"x\"";
    for source in [
        failing.to_owned(),
        format!("not {failing}"),
        format!("{failing} or net.dst.port == 22"),
        format!("net.dst.port == 22 or {failing}"),
        format!("{failing} and net.dst.port == 23"),
        format!("net.dst.port == 23 and {failing}"),
    ] {
        let expression = Expression::parse(&source, &Lists::default()).unwrap();
        assert_eq!(expression.evaluate(&known(&long)), Err(error.clone()), "{source}");
    }
    let fits = Identity { name: Some("x".repeat(MAX_MATCHED_TEXT)), ..alice() };
    assert!(holds(failing, &known(&fits)));
    let groups = Identity { groups: vec!["x".to_owned(), "y".repeat(MAX_MATCHED_TEXT + 1)], ..alice() };
    let expression = Expression::parse("any(identity.groups[*].name matches \"x\")", &Lists::default());
    assert!(expression.unwrap().evaluate(&known(&groups)).is_err());
}

#[test]
fn an_expression_keeps_its_source() {
    let source = "net.dst.port  ==  22";
    let expression = Expression::parse(source, &Lists::default()).unwrap();
    assert_eq!((expression.source(), expression.to_string().as_str()), (source, source));
    assert_eq!(serde_json::to_string(&expression).unwrap(), format!("{source:?}"));
}

#[test]
fn a_list_names_its_bad_value_and_stays_out() {
    let mut lists = Lists::default();
    let values = |values: &[&str]| values.iter().map(|&v| v.to_owned()).collect::<Vec<_>>();
    let mut insert = |kind, given: &[&str]| lists.insert("l", kind, &values(given)).unwrap_err().to_string();
    let bad = [
        (ListKind::Ip, &["10.0.0.1", "10.0.0.1/8"][..], "value 1: \"10.0.0.1/8\" has bits set"),
        (ListKind::Ip, &["10.0.0.0/33"], "value 0: \"10.0.0.0/33\" is no IP address or prefix"),
        (ListKind::Ip, &["example.com"], "value 0: \"example.com\" is no IP address"),
        (ListKind::Email, &["alice"], "value 0: \"alice\" is no e-mail address"),
        (ListKind::Email, &["*@example.com"], "value 0: \"*@example.com\" has a wildcard"),
        (ListKind::Domain, &["a", "a b"], "value 1: \"a b\" is no hostname"),
        (ListKind::Location, &["Germany"], "value 0: \"Germany\" is no country"),
        (ListKind::Serial, &[""], "value 0: the text is empty"),
        (ListKind::Port, &["22..21"], "value 0: the range 22..21 ends before it begins"),
        (ListKind::Port, &["65536"], "value 0: \"65536\" is no port"),
    ];
    for (kind, given, expected) in bad {
        let message = insert(kind, given);
        assert!(message.starts_with(expected), "{message}");
    }
    lists.insert("l", ListKind::Ip, &values(&["10.0.0.1"])).unwrap();
    assert_eq!(lists.insert("l", ListKind::Ip, &[]), Err(ListError::Duplicate("l".to_owned())));
}

#[test]
fn list_kinds_are_read_from_their_names() {
    for name in ["IP", "EMAIL", "DOMAIN", "LOCATION", "SERIAL", "PORT"] {
        assert_eq!(name.parse::<ListKind>().unwrap().to_string(), name);
    }
    assert_eq!("ip".parse(), Ok(ListKind::Ip));
    assert_eq!("URL".parse::<ListKind>(), Err(ListKindError("URL".to_owned())));
}
