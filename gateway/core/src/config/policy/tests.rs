//! What a policy file may say, what it must not, and the text of every refusal.

mod refusals;

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::identity::Identity;
use crate::infrastructure::authorize;
use crate::login::Login;
use crate::net::{ClientAddr, FlowTuple, OriginalDst};
use crate::network_policy::NetworkVerdict;
use crate::target::SourceAddress;

const EXAMPLE_TOML: &str = include_str!("../../../../../docs/examples/policy.toml");
const EXAMPLE_JSON: &str = include_str!("../../../../../docs/examples/policy.json");
const REFERENCE: &str = include_str!("../../../../../docs/config.md");
const README: &str = include_str!("../../../../../README.md");
const EXAMPLE_DAEMON: &str = include_str!("../../../../../docs/examples/portreeve.toml");

/// The least file that grants alice the login root on 10.0.0.1.
const LEAST: &str = r#"
[[targets]]
hostname = "db"
ip.ipv4.ip_addr = "10.0.0.1"

[[applications]]
name = "app"
type = "infrastructure"
target_criteria = [{ port = 22, protocol = "SSH", target_attributes = { hostname = ["db"] } }]
[[applications.policies]]
name = "p"
decision = "allow"
include = [{ email = { email = "alice@example.com" } }]
connection_rules = { ssh = { usernames = ["root"] } }

[[identities]]
addresses = ["192.0.2.10"]
email = "alice@example.com"
"#;

fn toml(text: &str) -> Result<LoadedPolicy, ConfigErrors> {
    load(text, Format::Toml, "policy.toml", Generation(1))
}

fn json(text: &str) -> Result<LoadedPolicy, ConfigErrors> {
    load(text, Format::Json, "policy.json", Generation(1))
}

fn flow(from: &str, to: &str) -> FlowTuple {
    let from: std::net::IpAddr = from.parse().unwrap();
    FlowTuple {
        client: ClientAddr::new(SocketAddr::new(from, 40000)),
        original_dst: OriginalDst::new(to.parse().unwrap()),
    }
}

/// Whether the whole path of a connection ends in a grant.
fn admitted(snapshot: &PolicySnapshot, from: &str, to: &str, login: &str) -> bool {
    let flow = flow(from, to);
    let Ok(identity) = snapshot.identify(flow.client.ip(), None) else { return false };
    if matches!(snapshot.network_verdict(flow, Some(identity)), NetworkVerdict::Block { .. }) {
        return false;
    }
    let login = Login::new(login).unwrap();
    authorize(&snapshot.infrastructure, &snapshot.access_request(flow, identity, &login)).is_ok()
}

#[test]
fn the_examples_say_the_same_and_decide_as_they_read() {
    let examples = [toml(EXAMPLE_TOML).unwrap(), json(EXAMPLE_JSON).unwrap()];
    let cases = [
        ("192.0.2.10", "10.1.2.3:22", "root", true),
        ("192.0.2.10", "[2001:db8:2::3]:22", "postgres", true),
        ("2001:db8:1::10", "10.1.2.3:22", "root", true),
        ("192.0.2.10", "10.1.2.3:22", "alice", false),
        ("192.0.2.11", "10.1.2.3:22", "root", false),
        ("192.0.2.11", "10.1.3.77:22", "bob", true),
        ("192.0.2.11", "10.1.3.77:22", "alice", false),
        ("192.0.2.11", "10.1.3.77:2222", "bob", false),
        ("192.0.2.12", "10.1.3.77:22", "bob", false),
    ];
    for example in &examples {
        assert_eq!(example.warnings, Vec::<String>::new());
        for (from, to, login, expected) in cases {
            assert_eq!(admitted(&example.snapshot, from, to, login), expected, "{from} {to} {login}");
        }
        let steered: Vec<_> = example.snapshot.infrastructure.steered().into_iter().collect();
        let texts: Vec<_> = steered.iter().map(|(net, ports)| format!("{net} {ports}")).collect();
        assert_eq!(texts, ["10.1.2.3/32 22", "10.1.3.0/24 22", "2001:db8:2::3/128 22"]);
    }
    crate::config::daemon::load(EXAMPLE_DAEMON, "portreeve.toml").unwrap();
}

#[test]
fn the_snippets_of_the_reference_make_whole_files() {
    let snippets = |tag: &str| -> String {
        let opening = format!("```toml {tag}\n");
        REFERENCE.split(&opening).skip(1).filter_map(|rest| rest.split("```").next()).collect()
    };
    assert_eq!(toml(&snippets("policy")).unwrap().warnings, Vec::<String>::new());
    crate::config::daemon::load(&snippets("portreeve"), "portreeve.toml").unwrap();
}

#[test]
fn the_quick_start_of_the_readme_is_a_gateway_that_works() {
    let mut snippets = README.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    crate::config::daemon::load(snippets.next().unwrap(), "portreeve.toml").unwrap();
    let policy = toml(snippets.next().unwrap()).unwrap();
    assert_eq!(policy.warnings, Vec::<String>::new());
    assert!(admitted(&policy.snapshot, "192.0.2.10", "10.1.2.3:22", "postgres"));
    assert!(admitted(&policy.snapshot, "192.0.2.10", "10.1.2.3:22", "alice"));
    assert!(!admitted(&policy.snapshot, "192.0.2.10", "10.1.2.3:22", "root"));
}

#[test]
fn only_targets_that_say_so_are_legacy() {
    for (line, expected) in [("", false), ("legacy = false", false), ("legacy = true", true)] {
        let text = LEAST.replace("hostname = \"db\"\n", &format!("hostname = \"db\"\n{line}\n"));
        let loaded = toml(&text).unwrap();
        let target =
            loaded.snapshot.infrastructure.target_at(OriginalDst::new("10.0.0.1:22".parse().unwrap()));
        assert_eq!(target.unwrap().legacy, expected, "{line}");
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }
}

#[test]
fn a_target_is_dialled_from_the_address_that_its_entry_says() {
    for (line, expected) in [
        ("", SourceAddress::Gateway),
        ("source_address = \"gateway\"", SourceAddress::Gateway),
        ("source_address = \"client\"", SourceAddress::Client),
    ] {
        let snapshot = toml(&LEAST.replace("hostname = \"db\"\n", &format!("hostname = \"db\"\n{line}\n")));
        let dst = OriginalDst::new("10.0.0.1:22".parse().unwrap());
        let source = snapshot.unwrap().snapshot.infrastructure.target_at(dst).unwrap().source_address;
        assert_eq!(source, expected, "{line}");
    }
}

#[test]
fn a_file_without_targets_is_refused() {
    for cut_short in [toml(""), json("{}"), json("{\"targets\": null}"), toml("applications = []")] {
        let text = cut_short.unwrap_err().to_string();
        assert!(text.contains("there are no targets") && text.contains("targets = []"), "{text}");
    }
}

#[test]
fn a_file_that_says_nothing_denies_everything() {
    for loaded in [toml("targets = []").unwrap(), json("{\"targets\": []}").unwrap()] {
        assert!(loaded.snapshot.infrastructure.steered().is_empty());
        assert!(!admitted(&loaded.snapshot, "192.0.2.10", "10.0.0.1:22", "root"));
    }
    assert!(admitted(&toml(LEAST).unwrap().snapshot, "192.0.2.10", "10.0.0.1:22", "root"));
}

#[test]
fn facts_hold_what_the_file_says_of_both_ends() {
    let text = LEAST.replace(
        "ip.ipv4.ip_addr = \"10.0.0.1\"",
        "ip.ipv4 = { ip_addr = \"10.0.0.1\", virtual_network_id = \"v1\" }",
    ) + "geo = []\n";
    let text = text.replace("geo = []", "[[geo]]\ncountry = \"de\"\nprefixes = [\"192.0.2.0/24\"]");
    let snapshot = toml(&text).unwrap().snapshot;
    let identity = snapshot.identify("192.0.2.10".parse().unwrap(), None).ok();
    let facts = snapshot.facts(flow("192.0.2.10", "[::ffff:10.0.0.1]:22"), identity.map(|one| &**one));
    assert_eq!(facts.source_country, Some("DE"));
    assert_eq!(facts.vnet_id, Some("v1"));
    assert_eq!(facts.target, Some("db"));
    assert_eq!(facts.identity.map(|one| one.email.as_str()), Some("alice@example.com"));
    let nowhere = snapshot.facts(flow("198.51.100.1", "10.0.0.2:22"), None);
    assert_eq!((nowhere.source_country, nowhere.vnet_id, nowhere.target), (None, None, None));
}

#[test]
fn every_kind_of_rule_is_read() {
    let rules = r#"[
        { email = { email = "alice@example.com" } }, { email_domain = { domain = "Example.com" } },
        { email_list = { id = "people" } }, { everyone = {} }, { ip = { ip = "192.0.2.0/24" } },
        { ip_list = { id = "8e1" } }, { geo = { country_code = "de" } }, { group = { id = "g-1" } },
        { group = { id = "inner" } }, { auth_method = { auth_method = "mfa" } }, { login_method = { id = "idp" } },
        { device_posture = { integration_uid = "disk" } },
        { oidc = { claim_name = "team", claim_value = "db", identity_provider_id = "idp" } },
        { saml = { attribute_name = "role", attribute_value = "dba" } },
        { certificate = {} }, { common_name = { common_name = "laptop" } },
    ]"#;
    let text = LEAST.replace(
        "include = [{ email = { email = \"alice@example.com\" } }]",
        &format!("require = {rules}\ninclude = {rules}"),
    );
    let text = text
        + r#"
name = "Alice"
auth_methods = ["mfa"]
login_method = "idp"
device_posture = ["disk"]
oidc_claims = { team = "db" }
saml_attributes = { role = ["dba", "user"] }
certificate_common_name = "laptop"
[[groups]]
id = "g-1"
name = "outer"
include = [{ group = { id = "inner" } }]
[[groups]]
name = "inner"
include = [{ everyone = {} }]
[[lists]]
name = "people"
type = "EMAIL"
items = [{ value = "ALICE@example.com" }]
[[lists]]
id = "8e1"
name = "nets"
type = "IP"
items = [{ value = "198.51.100.1" }, { value = "192.0.2.9..192.0.2.17", description = "desks" }]
[[geo]]
country = "DE"
prefixes = ["192.0.2.0/24"]
"#;
    let loaded = toml(&text).unwrap_or_else(|errors| panic!("{errors}"));
    // Every rule is required, so the grant shows that each of them holds.
    assert!(admitted(&loaded.snapshot, "192.0.2.10", "10.0.0.1:22", "root"));
    let fewer = text.replace("\"192.0.2.9..192.0.2.17\"", "\"192.0.2.11..192.0.2.17\"");
    assert!(!admitted(&toml(&fewer).unwrap().snapshot, "192.0.2.10", "10.0.0.1:22", "root"));
}

#[test]
fn network_rules_come_first_and_a_block_is_final() {
    let block = "[[rules]]\nname = \"no ssh\"\naction = \"block\"\nprecedence = 1\ntraffic = \"net.dst.port == 22\"\n";
    assert!(!admitted(
        &toml(&(LEAST.to_owned() + block)).unwrap().snapshot,
        "192.0.2.10",
        "10.0.0.1:22",
        "root"
    ));
    let off = LEAST.to_owned() + block + "enabled = false\n";
    assert!(admitted(&toml(&off).unwrap().snapshot, "192.0.2.10", "10.0.0.1:22", "root"));
    let escaped = r#"
[[rules]]
name = "by regex"
action = "block"
precedence = 1
identity = 'identity.email matches ".*@example\\.com"'
"#;
    let escaped = toml(&(LEAST.to_owned() + escaped)).unwrap();
    assert!(!admitted(&escaped.snapshot, "192.0.2.10", "10.0.0.1:22", "root"));
}

#[test]
fn audit_rules_say_whether_commands_are_logged() {
    let logging = |settings: &str| {
        let rule = format!("[[rules]]\nname = \"a\"\naction = \"audit_ssh\"\nprecedence = 1\n{settings}");
        let snapshot = toml(&(LEAST.to_owned() + &rule)).unwrap().snapshot;
        match snapshot.network_verdict(flow("192.0.2.10", "10.0.0.1:22"), None) {
            NetworkVerdict::Intercept { command_logging, .. } => command_logging,
            NetworkVerdict::Block { .. } => panic!("blocked"),
        }
    };
    assert!(logging(""));
    assert!(logging("rule_settings = { audit_ssh = { command_logging = true } }"));
    assert!(!logging("rule_settings = { audit_ssh = { command_logging = false } }"));
}

#[test]
fn permissions_and_alias_are_read() {
    let text = LEAST.replace(
        "usernames = [\"root\"]",
        "allow_email_alias = true, permit_pty = false, permit_x11_forwarding = false",
    );
    let snapshot = toml(&text).unwrap().snapshot;
    let identity = Identity::clone(snapshot.identify("192.0.2.10".parse().unwrap(), None).unwrap());
    let login = Login::new("alice").unwrap();
    let flow = flow("192.0.2.10", "10.0.0.1:22");
    let request = snapshot.access_request(flow, &identity, &login);
    let permissions = authorize(&snapshot.infrastructure, &request).unwrap().permissions();
    assert!(!permissions.pty && !permissions.x11_forwarding);
    assert!(permissions.port_forwarding && permissions.agent_forwarding && permissions.user_rc);
}

#[test]
fn file_transfer_is_both_ways_unless_it_is_said() {
    let rights = |said: &str| {
        let text = LEAST.replace("usernames = [\"root\"]", &format!("usernames = [\"root\"]{said}"));
        let snapshot = toml(&text).unwrap().snapshot;
        let identity = Identity::clone(snapshot.identify("192.0.2.10".parse().unwrap(), None).unwrap());
        let (login, flow) = (Login::new("root").unwrap(), flow("192.0.2.10", "10.0.0.1:22"));
        let request = snapshot.access_request(flow, &identity, &login);
        let rights = authorize(&snapshot.infrastructure, &request).unwrap().permissions().file_transfer;
        (rights.upload, rights.download)
    };
    assert_eq!(rights(""), (true, true));
    assert_eq!(rights(", file_transfer = []"), (false, false));
    assert_eq!(rights(", file_transfer = [\"upload\"]"), (true, false));
    assert_eq!(rights(", file_transfer = [\"download\", \"upload\"]"), (true, true));
    let wrong =
        LEAST.replace("usernames = [\"root\"]", "usernames = [\"root\"], file_transfer = [\"uplaod\"]");
    let errors = toml(&wrong).unwrap_err().to_string();
    assert!(errors.contains("uplaod") && errors.contains("upload"), "{errors}");
}

#[test]
fn tag_criteria_may_be_one_object_or_a_list() {
    let with = |criteria: &str| {
        let text = LEAST.replace(
            "ip.ipv4.ip_addr = \"10.0.0.1\"",
            "ip.ipv4.ip_addr = \"10.0.0.1\"\ntags = { env = [\"a\", \"b\"] }",
        );
        let text = text.replace("target_attributes = { hostname = [\"db\"] }", criteria);
        admitted(&toml(&text).unwrap().snapshot, "192.0.2.10", "10.0.0.1:22", "root")
    };
    assert!(with("include = { tags = { env = [\"b\"] } }"));
    assert!(with(
        "include = [{ tags = { env = [\"c\"] } }, { target_attributes = { hostname = [\"DB\"] } }]"
    ));
    assert!(!with("include = [{ tags = { env = [\"c\"] } }]"));
    assert!(!with("target_attributes = { hostname = [\"db\"] }, exclude = [{ tags = { env = [\"a\"] } }]"));
    assert!(!with("target_attributes = { hostname = [\"db\"] }, require = [{ tags = { zone = [\"a\"] } }]"));
}

proptest! {
    /// Files that are nearly right never panic, and a refusal always says something.
    #[test]
    fn mutilated_files_are_read_without_panic(
        cut in any::<prop::sample::Index>(), length in 0usize..12, insert in "[\\[\\]{}=,:\"'a1.\n# -]{0,4}", use_json in any::<bool>()
    ) {
        let (text, format) =
            if use_json { (EXAMPLE_JSON, Format::Json) } else { (EXAMPLE_TOML, Format::Toml) };
        let start = cut.index(text.len());
        let end = (start + length).min(text.len());
        if let (Some(head), Some(tail)) = (text.get(..start), text.get(end..)) {
            let text = format!("{head}{insert}{tail}");
            if let Err(errors) = load(&text, format, "policy", Generation(1)) {
                prop_assert!(!errors.errors.is_empty());
                prop_assert!(errors.errors.iter().all(|error| !error.message.is_empty()));
            }
        }
    }
}

#[test]
fn an_application_covers_ports_ranges_and_lists_of_them() {
    for (port, expected) in
        [("22", "22"), ("\"8000-8002\"", "8000-8002"), ("[\"8000-8002\", 22]", "22, 8000-8002")]
    {
        let text = EXAMPLE_TOML.replace("port = 22", &format!("port = {port}"));
        let snapshot = toml(&text).unwrap().snapshot;
        let steered = snapshot.infrastructure.steered();
        assert!(steered.values().all(|ports| ports.to_string() == expected), "{port}: {steered:?}");
        assert!(admitted(&snapshot, "192.0.2.10", "10.1.2.3:8001", "root") == (port != "22"), "{port}");
    }
}
