//! Golden texts: every refusal and warning, word for word.

use super::{LEAST, json, toml};

fn refusal(text: &str) -> String {
    toml(text).expect_err("the file should be refused").to_string()
}

fn warnings(text: &str) -> String {
    toml(text).expect("the file should load").warnings.join("\n")
}

/// One mistake each, put into the least file: what is replaced, by what, and the refusal.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "hostname = \"db\"",
        "hostnmae = \"db\"",
        "policy.toml:2: targets[0].hostname: this key is missing: write for example hostname = \"db1\"\npolicy.toml:3: targets[0].hostnmae: there is no key \"hostnmae\" here: did you mean \"hostname\"?\npolicy.toml:9: applications[0].target_criteria[0].target_attributes.hostname[0]: no target has the hostname \"db\": there is none",
    ),
    (
        "hostname = \"db\"",
        "hostname = \"d b\"",
        "policy.toml:3: targets[0].hostname: \"d b\" is no hostname, because of ' ': use letters, digits, '-' and '.'\npolicy.toml:9: applications[0].target_criteria[0].target_attributes.hostname[0]: no target has the hostname \"db\": there is none",
    ),
    (
        "[\"db\"]",
        "[\"dbs\"]",
        "policy.toml:9: applications[0].target_criteria[0].target_attributes.hostname[0]: no target has the hostname \"dbs\": did you mean \"db\"?",
    ),
    (
        "\"10.0.0.1\"",
        "\"10.0.0.1/24\"",
        "policy.toml:4: targets[0].ip.ipv4.ip_addr: \"10.0.0.1/24\" has bits set behind its prefix length: write 10.0.0.0/24 for the network",
    ),
    (
        "\"10.0.0.1\"",
        "\"db.example.com\"",
        "policy.toml:4: targets[0].ip.ipv4.ip_addr: \"db.example.com\" is no IP address or prefix: write it as 10.1.2.3, 10.1.0.0/16 or 2001:db8::/32",
    ),
    (
        "\"10.0.0.1\"",
        "\"2001:db8::1\"",
        "policy.toml:4: targets[0].ip.ipv4.ip_addr: 2001:db8::1/128 is IPv6: write it under ipv6",
    ),
    (
        "ip.ipv4.ip_addr = \"10.0.0.1\"",
        "ip = {}",
        "policy.toml:4: targets[0].ip: give ipv4, ipv6 or both, for example ipv4 = { ip_addr = \"10.1.2.3\" }",
    ),
    (
        "hostname = \"db\"",
        "hostname = \"db\"\nlegacy = \"yes\"",
        "policy.toml:4: targets[0].legacy: write true or false, not a string",
    ),
    (
        "hostname = \"db\"",
        "hostname = \"db\"\nsource_address = \"clinet\"",
        "policy.toml:4: targets[0].source_address: \"clinet\" is not possible here: did you mean \"client\"?",
    ),
    (
        "port = 22",
        "port = 0",
        "policy.toml:9: applications[0].target_criteria[0].port: write an integer from 1 to 65535",
    ),
    (
        "port = 22",
        "port = 65536",
        "policy.toml:9: applications[0].target_criteria[0].port: write an integer from 1 to 65535",
    ),
    (
        "port = 22",
        "port = \"2200-22\"",
        "policy.toml:9: applications[0].target_criteria[0].port: \"2200-22\" is no port and no range of ports: write for example 22 or \"8000-8100\", from 1 to 65535",
    ),
    (
        "port = 22",
        "port = [22, \"0-9\"]",
        "policy.toml:9: applications[0].target_criteria[0].port[1]: \"0-9\" is no port and no range of ports: write for example 22 or \"8000-8100\", from 1 to 65535",
    ),
    (
        "port = 22",
        "port = []",
        "policy.toml:9: applications[0].target_criteria[0].port: name at least one port",
    ),
    (
        "\"SSH\"",
        "\"RDP\"",
        "policy.toml:9: applications[0].target_criteria[0].protocol: \"RDP\" is not possible here: write \"SSH\"",
    ),
    (
        "target_attributes = { hostname = [\"db\"] }",
        "exclude = []",
        "policy.toml:9: applications[0].target_criteria[0]: this selects no target: add target_attributes = { hostname = [\"db1\"] } or an include list",
    ),
    (
        "target_attributes = { hostname = [\"db\"] }",
        "include = [{}]",
        "policy.toml:9: applications[0].target_criteria[0].include[0]: this asks for nothing: write target_attributes, tags or both",
    ),
    (
        "hostname = [\"db\"]",
        "hostname = []",
        "policy.toml:9: applications[0].target_criteria[0].target_attributes.hostname: name at least one hostname",
    ),
    (
        "type = \"infrastructure\"",
        "type = \"self_hosted\"",
        "policy.toml:8: applications[0].type: \"self_hosted\" is not possible here: write \"infrastructure\"",
    ),
    (
        "decision = \"allow\"",
        "decision = \"deny\"",
        "policy.toml:12: applications[0].policies[0].decision: \"deny\" is not possible here: write \"allow\"",
    ),
    (
        "usernames = [\"root\"]",
        "usernames = [\"root,bob\"]",
        "policy.toml:14: applications[0].policies[0].connection_rules.ssh.usernames[0]: \"root,bob\" is no login: a login must not contain control characters or commas",
    ),
    (
        "usernames = [\"root\"]",
        "usernames = [\"*\"]",
        "policy.toml:14: applications[0].policies[0].connection_rules.ssh.usernames[0]: \"*\" is no login: there are no wildcards, name each login",
    ),
    (
        "usernames = [\"root\"]",
        "usernames = \"root\"",
        "policy.toml:14: applications[0].policies[0].connection_rules.ssh.usernames: write an array in brackets, not a string",
    ),
    (
        "{ email = { email = \"alice@example.com\" } }",
        "{ email = { email = \"alice\" } }",
        "policy.toml:13: applications[0].policies[0].include[0].email.email: \"alice\" is no e-mail address: write it as name@domain",
    ),
    (
        "{ email = { email = \"alice@example.com\" } }",
        "{ email = { address = \"alice@example.com\" } }",
        "policy.toml:13: applications[0].policies[0].include[0].email.address: there is no key \"address\" here: write \"email\"\npolicy.toml:13: applications[0].policies[0].include[0].email.email: this key is missing: write for example { email = \"…\" }",
    ),
    (
        "{ email = { email = \"alice@example.com\" } }",
        "{ emial = { email = \"alice@example.com\" } }",
        "policy.toml:13: applications[0].policies[0].include[0].emial: there is no kind of rule \"emial\": did you mean \"email\"?",
    ),
    (
        "{ email = { email = \"alice@example.com\" } }",
        "{ everyone = {}, certificate = {} }",
        "policy.toml:13: applications[0].policies[0].include[0]: a rule has exactly one key, its kind: write several rules one by one",
    ),
    (
        "{ email = { email = \"alice@example.com\" } }",
        "\"everyone\"",
        "policy.toml:13: applications[0].policies[0].include[0]: write a table, not a string",
    ),
    (
        "{ email = { email = \"alice@example.com\" } }",
        "{ okta = { name = \"dba\", identity_provider_id = \"x\" } }",
        "policy.toml:13: applications[0].policies[0].include[0].okta: \"okta\" rules cannot be evaluated by this gateway: use oidc or saml with the claim that carries the groups",
    ),
    (
        "{ email = { email = \"alice@example.com\" } }",
        "{ group = { id = \"admins\" } }",
        "policy.toml:13: applications[0].policies[0].include[0].group.id: no group has the id or name \"admins\": there is none",
    ),
    (
        "{ email = { email = \"alice@example.com\" } }",
        "{ email_list = { id = \"staff\" } }",
        "policy.toml:13: applications[0].policies[0].include[0].email_list.id: no list has the id or name \"staff\": there is none",
    ),
    (
        "{ email = { email = \"alice@example.com\" } }",
        "{ email_domain = { domain = \"@example.com\" } }",
        "policy.toml:13: applications[0].policies[0].include[0].email_domain.domain: \"@example.com\" is no domain: write what follows the @, as \"example.com\"",
    ),
    (
        "{ email = { email = \"alice@example.com\" } }",
        "{ geo = { country_code = \"Germany\" } }",
        "policy.toml:13: applications[0].policies[0].include[0].geo.country_code: \"Germany\" is no country code: write its two letters of ISO 3166-1, as \"DE\"",
    ),
    (
        "addresses = [\"192.0.2.10\"]",
        "addresses = []",
        "policy.toml:17: identities[0].addresses: name at least one address or prefix",
    ),
    (
        "email = \"alice@example.com\"\n",
        "email = \"alice@example.com\"\ninterfaces = []\n",
        "policy.toml:19: identities[0].interfaces: name at least one interface, or leave the key out for all of them",
    ),
    (
        "email = \"alice@example.com\"\n",
        "email = \"alice@example.com\"\ninterfaces = [\"lan0\", \"lan 1\"]\n",
        "policy.toml:19: identities[0].interfaces[1]: \"lan 1\" is no name of an interface: write one that `ip link` shows, at most 15 characters",
    ),
    (
        "addresses = [\"192.0.2.10\"]",
        "addresses = [\"192.0.2.10\", \"192.0.2.10/32\"]",
        "policy.toml:17: identities[0].addresses[1]: 192.0.2.10/32 is given already in line 17: an address or prefix belongs to one identity only",
    ),
    (
        "\"alice@example.com\"\n",
        "\"alice\"\n",
        "policy.toml:18: identities[0].email: \"alice\" is no e-mail address: write it as name@domain",
    ),
    (
        "[[identities]]",
        "[[identites]]",
        "policy.toml:16: identites: there is no key \"identites\" here: did you mean \"identities\"?",
    ),
    (
        "hostname = \"db\"\n",
        "hostname = \"db\n",
        "policy.toml:3: this is no TOML: invalid basic string, expected `\"`",
    ),
];

#[test]
fn each_mistake_has_one_clear_error() {
    for (good, bad, expected) in MISTAKES {
        assert!(LEAST.contains(good), "{good:?}");
        assert_eq!(refusal(&LEAST.replace(good, bad)), *expected, "{bad:?}");
    }
}

/// One object each, appended to the least file, and the refusal.
const CLASHES: &[(&str, &str)] = &[
    (
        "[[targets]]\nhostname = \"web\"\nip.ipv4.ip_addr = \"10.0.0.1/32\"",
        "policy.toml:22: targets[1].ip.ipv4.ip_addr: 10.0.0.1/32 is already an address of \"db\" (line 4): an address or prefix belongs to one target only",
    ),
    (
        "[[identities]]\naddresses = [\"::ffff:192.0.2.10\"]\nemail = \"bob@example.com\"",
        "policy.toml:21: identities[1].addresses[0]: 192.0.2.10/32 is given already in line 17: an address or prefix belongs to one identity only",
    ),
    (
        "[[applications]]\nname = \"app\"\ntype = \"infrastructure\"\ntarget_criteria = []",
        "policy.toml:21: applications[1].name: two applications are named \"app\": rename one\npolicy.toml:23: applications[1].target_criteria: this covers no target: write for example target_criteria = [{ port = 22, protocol = \"SSH\", target_attributes = { hostname = [\"db1\"] } }]",
    ),
    (
        "[[groups]]\nname = \"a\"\n[[groups]]\nid = \"a\"\nname = \"b\"",
        "policy.toml:22: groups[1]: \"a\" is already the id or name of another group",
    ),
    (
        "[[groups]]\nname = \"a\"\ninclude = [{ group = { id = \"b\" } }]\n[[groups]]\nname = \"b\"\nexclude = [{ group = { id = \"a\" } }]",
        "policy.toml:20: groups[0]: the group \"a\" refers to itself (a -> b -> a): take one of these references out",
    ),
    (
        "[[lists]]\nname = \"l\"\ntype = \"IP\"\nitems = [{ value = \"10.0.0.0/8\" }, { value = \"ten\" }, { value = 7 }]",
        "policy.toml:23: lists[0].items[1].value: \"ten\" is no IP address\npolicy.toml:23: lists[0].items[2].value: write a string in quotes, not an integer",
    ),
    (
        "[[lists]]\nname = \"l\"\ntype = \"URL\"",
        "policy.toml:22: lists[0].type: \"URL\" is no type of list: write one of IP, EMAIL, DOMAIN, LOCATION, SERIAL, PORT",
    ),
    (
        "[[groups]]\nname = \"g\"\ninclude = [{ email_list = { id = \"l\" } }]\n[[lists]]\nname = \"l\"\ntype = \"IP\"",
        "policy.toml:22: groups[0].include[0].email_list.id: the list \"l\" is of type IP: this rule needs one of type EMAIL",
    ),
    (
        "[[geo]]\ncountry = \"DE\"\nprefixes = [\"10.0.0.0/8\", \"10.0.0.0/8\"]",
        "policy.toml:22: geo[0].prefixes[1]: 10.0.0.0/8 is given twice: one country to a prefix",
    ),
    (
        "[[rules]]\nname = \"r\"\naction = \"deny\"\nprecedence = 1",
        "policy.toml:22: rules[0].action: \"deny\" is not possible here: write one of allow, block, audit_ssh",
    ),
    (
        "[[rules]]\nname = \"r\"\naction = \"block\"",
        "policy.toml:20: rules[0].precedence: this key is missing: write for example precedence = 10 (lower comes first)",
    ),
    (
        "[[rules]]\nname = \"r\"\naction = \"block\"\nprecedence = 1\n[[rules]]\nname = \"r\"\naction = \"block\"\nprecedence = 1",
        "policy.toml:25: rules[1].name: the rule of line 21 is named \"r\" too: rename one\npolicy.toml:27: rules[1].precedence: the rule of line 23 has this precedence too: the first match wins, so each rule needs its own",
    ),
    (
        "[[rules]]\nname = \"r\"\naction = \"block\"\nprecedence = 1\nfilters = [\"dns\"]",
        "policy.toml:24: rules[0].filters[0]: \"dns\" is not possible here: write \"l4\"",
    ),
    (
        "[[rules]]\nname = \"r\"\naction = \"block\"\nprecedence = 1\nrule_settings = { audit_ssh = { command_logging = true } }",
        "policy.toml:24: rules[0].rule_settings.audit_ssh: audit_ssh settings belong to rules with action = \"audit_ssh\"",
    ),
    (
        "[[lists]]\nname = \"l\"\ntype = \"IP\"\n[[lists]]\nname = \"l\"\ntype = \"EMAIL\"",
        "policy.toml:23: lists[1]: there are two lists named \"l\": rename one",
    ),
    (
        "[[lists]]\nid = \"x\"\nname = \"l\"\ntype = \"IP\"\n[[lists]]\nid = \"x\"\nname = \"m\"\ntype = \"IP\"",
        "policy.toml:24: lists[1]: \"x\" is already the id or name of another list",
    ),
    (
        "[[lists]]\nname = \"l\"\ntype = \"EMAIL\"\nitems = [{ value = \"*@example.com\" }, {}]",
        "policy.toml:23: lists[0].items[1].value: this key is missing: write for example { value = \"…\" }\npolicy.toml:23: lists[0].items[0].value: \"*@example.com\" has a wildcard, which is taken literally: write `matches \".*@example\\\\.com$\"`",
    ),
    (
        "[[applications]]\nname = \"b\"\ntype = \"infrastructure\"\ntarget_criteria = []\n[[applications.policies]]\nname = \"p\"\ndecision = \"allow\"\nconnection_rules = {}\n[[applications.policies]]\nname = \"p\"\ndecision = \"allow\"",
        "policy.toml:23: applications[1].target_criteria: this covers no target: write for example target_criteria = [{ port = 22, protocol = \"SSH\", target_attributes = { hostname = [\"db1\"] } }]\npolicy.toml:27: applications[1].policies[0].connection_rules.ssh: this key is missing: write for example ssh = { usernames = [\"root\"] }\npolicy.toml:28: applications[1].policies[1].connection_rules: this key is missing: write for example connection_rules = { ssh = { usernames = [\"root\"] } }\npolicy.toml:29: applications[1].policies[1].name: two policies of this application are named \"p\": rename one",
    ),
    (
        "[[groups]]\ninclude = []",
        "policy.toml:20: groups[0].name: this key is missing: write for example name = \"admins\"",
    ),
    (
        "[[geo]]\ncountry = \"Germany\"",
        "policy.toml:20: geo[0].prefixes: this key is missing: write for example prefixes = [\"192.0.2.0/24\"]\npolicy.toml:21: geo[0].country: \"Germany\" is no country code: write its two letters of ISO 3166-1, as \"DE\"",
    ),
    (
        "[[identities]]\nemail = \"bob@example.com\"\noidc_claims = { team = 7 }\ngroups = [\"\"]",
        "policy.toml:20: identities[1].addresses: this key is missing: write for example addresses = [\"192.0.2.10\"]\npolicy.toml:22: identities[1].oidc_claims.team: write an array in brackets, not an integer\npolicy.toml:23: identities[1].groups[0]: write a name: not empty, and without control characters",
    ),
    (
        "contact = \"it@example.com\"",
        "policy.toml:20: identities[0].contact: there is no key \"contact\" here: write one of addresses, interfaces, email, name, groups, auth_methods, login_method, device_posture, oidc_claims, saml_attributes, certificate_common_name, break_glass",
    ),
];

#[test]
fn each_object_that_clashes_has_one_clear_error() {
    for (object, expected) in CLASHES {
        assert_eq!(refusal(&format!("{LEAST}\n{object}\n")), *expected, "{object}");
    }
}

#[test]
fn an_expression_that_cannot_be_parsed_is_named_with_its_position() {
    let rule = "[[rules]]\nname = \"r\"\naction = \"block\"\nprecedence = 1\ntraffic = \"net.dst.port == ssh\"\nidentity = '''\nidentity.email\n  in $nobody'''\n";
    let errors = toml(&format!("{LEAST}\n{rule}")).unwrap_err().errors;
    let places: Vec<_> = errors.iter().map(|error| (error.line, error.key.as_str())).collect();
    assert_eq!(places, [(Some(24), "rules[0].traffic"), (Some(25), "rules[0].identity")]);
    let starts = ["in the expression, line 1, column 17: ", "in the expression, line 2, column 6: "];
    for (error, start) in errors.iter().zip(starts) {
        assert!(error.message.starts_with(start), "{}", error.message);
    }
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let text = r#"{
  "targets": [
    {"hostname": "db", "ip": {"ipv4": {"ip_addr": "10.0.0.1"}}},
    {"hostname": "web", "ip": {"ipv4": {"ip_addr": "10.0.0.1"}}, "labels": {}},
    {"ip": {"ipv6": {"ip_addr": "10.0.0.2"}}}
  ],
  "applications": [
    {"name": "a", "type": "infrastructure",
     "target_criteria": [{"port": 22, "protocol": "SSH", "target_attributes": {"hostname": ["db", "dbb"]}}],
     "policies": [
       {"name": "p", "decision": "bypass",
        "include": [{"email": {"email": "x"}}, {"grup": {"id": "g"}}],
        "connection_rules": {"ssh": {"usernames": [""], "permit_ptty": true}}}
     ]}
  ],
  "identities": [{"addresses": ["10.9.9.9"], "email": "alice"}]
}"#;
    let expected = "\
policy.json:4: targets[1].labels: there is no key \"labels\" here: write one of hostname, ip, tags, legacy, source_address
policy.json:4: targets[1].ip.ipv4.ip_addr: 10.0.0.1/32 is already an address of \"db\" (line 3): an address or prefix belongs to one target only
policy.json:5: targets[2].hostname: this key is missing: write for example hostname = \"db1\"
policy.json:5: targets[2].ip.ipv6.ip_addr: 10.0.0.2/32 is IPv4: write it under ipv4
policy.json:9: applications[0].target_criteria[0].target_attributes.hostname[1]: no target has the hostname \"dbb\": did you mean \"db\"?
policy.json:11: applications[0].policies[0].decision: \"bypass\" is not possible here: write \"allow\"
policy.json:12: applications[0].policies[0].include[0].email.email: \"x\" is no e-mail address: write it as name@domain
policy.json:12: applications[0].policies[0].include[1].grup: there is no kind of rule \"grup\": did you mean \"group\"?
policy.json:13: applications[0].policies[0].connection_rules.ssh.permit_ptty: there is no key \"permit_ptty\" here: did you mean \"permit_pty\"?
policy.json:13: applications[0].policies[0].connection_rules.ssh.usernames[0]: \"\" is no login: a login must not be empty
policy.json:16: identities[0].email: \"alice\" is no e-mail address: write it as name@domain";
    assert_eq!(json(text).unwrap_err().to_string(), expected);
}

#[test]
fn syntax_errors_of_json_name_line_and_column() {
    assert_eq!(
        json("{\n  \"targets\": [}\n").unwrap_err().to_string(),
        "policy.json:2: this is no JSON: expected value (column 15)"
    );
    assert_eq!(json("[]").unwrap_err().to_string(), "policy.json:1: write a table, not an array");
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let file = |change: &dyn Fn(String) -> String| warnings(&change(LEAST.to_owned()));
    assert_eq!(file(&|text| text), "");
    assert_eq!(
        file(&|text| text + "[[targets]]\nhostname = \"lonely\"\nip.ipv4.ip_addr = \"10.0.0.9\"\n"),
        "policy.toml:19: targets[1]: no application covers the target \"lonely\": its port 22 is closed for everybody"
    );
    assert_eq!(
        file(&|text| text.replace("[{ email = { email = \"alice@example.com\" } }]", "[]")),
        "policy.toml:10: applications[0].policies[0]: include is empty: the policy matches nobody"
    );
    assert_eq!(
        file(&|text| text.replace("usernames = [\"root\"]", "")),
        "policy.toml:14: applications[0].policies[0].connection_rules.ssh: the policy grants no login: name usernames or set allow_email_alias"
    );
    assert_eq!(
        file(&|text| text
            .replace("{ email = { email = \"alice@example.com\" } }", "{ geo = { country_code = \"DE\" } }")),
        "policy.toml:13: applications[0].policies[0].include[0].geo: this file says of no address which country it is in (see the key geo): the rule never holds"
    );
    let many: String = (0..15)
        .map(|n| format!("[[targets]]\nhostname = \"t{n}\"\nip.ipv4.ip_addr = \"10.2.0.{n}\"\n"))
        .collect();
    let shown = toml(&(LEAST.to_owned() + &many)).unwrap().warnings;
    assert_eq!(shown.len(), 11);
    assert!(
        shown.iter().any(|warning| warning.ends_with("no application covers 5 more targets")),
        "{shown:?}"
    );
}

#[test]
fn a_flood_of_errors_is_cut() {
    let targets: String = (0..250).map(|_| "[[targets]]\nhostname = \"\"\n".to_owned()).collect();
    let errors = toml(&targets).unwrap_err();
    assert_eq!(errors.errors.len(), 101);
    assert!(errors.to_string().ends_with("\npolicy.toml: and 400 more"), "{errors}");
}
