//! `include`, `require` and `exclude`: lists of rule objects, each with one key.

use std::fmt::Display;
use std::sync::Arc;

use super::super::reader::Object;
use super::super::tree::Node;
use super::Known;
use crate::geo::CountryCode;
use crate::identity::Email;
use crate::prefix;
use crate::rule::{AccessRule, Attribute, RuleSet};
use crate::suggest::instead;

/// Every kind that can be evaluated here.
const KINDS: &[&str] = &[
    "auth_method",
    "certificate",
    "common_name",
    "device_posture",
    "email",
    "email_domain",
    "email_list",
    "everyone",
    "geo",
    "group",
    "ip",
    "ip_list",
    "login_method",
    "oidc",
    "saml",
];

/// Kinds of the management API that ask somebody whom this gateway does not know, and what to use
/// instead.
const NOT_HERE: &[(&str, &str)] = &[
    ("any_valid_service_token", "SSH sessions carry no service token; use ip or common_name"),
    ("auth_context", "use auth_method"),
    ("azureAD", "use oidc or saml with the claim that carries the groups"),
    ("azure_ad", "use oidc or saml with the claim that carries the groups"),
    ("external_evaluation", "no decision leaves this gateway; use a group"),
    ("github-organization", "use oidc or saml with the claim that carries the organisation"),
    ("gsuite", "use oidc or saml with the claim that carries the groups"),
    ("linked_app_token", "SSH sessions carry no application token; use a group"),
    ("okta", "use oidc or saml with the claim that carries the groups"),
    ("service_token", "SSH sessions carry no service token; use ip or common_name"),
    ("user_risk_score", "use device_posture"),
];

/// Reads the three lists of a policy or group.
pub(super) fn read(object: Object<'_>, known: &Known<'_>) -> RuleSet {
    let list =
        |key: &str| object.list(key).iter().filter_map(|node| read_rule(node, known)).collect::<Vec<_>>();
    RuleSet { include: list("include"), require: list("require"), exclude: list("exclude") }
}

fn read_rule(node: &Node<'_>, known: &Known<'_>) -> Option<AccessRule> {
    let problems = known.problems;
    let [entry] = problems.entries(node)? else {
        problems.error(node, "a rule has exactly one key, its kind: write several rules one by one");
        return None;
    };
    let rule = Body { node: &entry.node, known };
    match &*entry.key {
        "everyone" => rule.empty().map(|()| AccessRule::Everyone),
        "certificate" => rule.empty().map(|()| AccessRule::Certificate),
        "email" => rule.value("email", Email::new).map(AccessRule::Email),
        "email_domain" => rule.value("domain", email_domain).map(AccessRule::EmailDomain),
        "email_list" => rule
            .value("id", |reference| known.lists.emails(reference))
            .map(|(list, emails)| AccessRule::EmailList { list, emails }),
        "ip" => rule.value("ip", prefix::parse).map(AccessRule::Ip),
        "ip_list" => rule
            .value("id", |reference| known.lists.networks(reference))
            .map(|(list, nets)| AccessRule::IpList { list, nets }),
        "geo" => rule.geo(),
        "group" => rule.value("id", |reference| known.groups.find(reference)).map(AccessRule::Group),
        "auth_method" => rule.value("auth_method", text).map(AccessRule::AuthMethod),
        "login_method" => rule.value("id", text).map(AccessRule::LoginMethod),
        "device_posture" => rule.value("integration_uid", text).map(AccessRule::DevicePosture),
        "oidc" => rule.attribute(["claim_name", "claim_value"]).map(AccessRule::Oidc),
        "saml" => rule.attribute(["attribute_name", "attribute_value"]).map(AccessRule::Saml),
        "common_name" => rule.value("common_name", text).map(AccessRule::CommonName),
        other => {
            rule.refuse(other);
            None
        }
    }
}

/// What a rule object holds behind its key.
struct Body<'a, 't> {
    node: &'a Node<'a>,
    known: &'a Known<'t>,
}

impl Body<'_, '_> {
    fn empty(&self) -> Option<()> {
        Object::open(self.node, self.known.problems, &[]).map(|_| ())
    }

    fn value<T, E: Display>(&self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let object = Object::open(self.node, self.known.problems, &[key])?;
        let node = object.need(key, &format!("{{ {key} = \"…\" }}"))?;
        self.known.problems.parsed(node, parse)
    }

    fn geo(&self) -> Option<AccessRule> {
        let country = self.value("country_code", CountryCode::new)?;
        if !self.known.has_geo {
            self.known.problems.warn(
                self.node,
                "this file says of no address which country it is in (see the key geo): the rule never holds",
            );
        }
        Some(AccessRule::Geo(country))
    }

    fn attribute(&self, [name, value]: [&'static str; 2]) -> Option<Attribute> {
        let object = Object::open(self.node, self.known.problems, &[name, value, "identity_provider_id"])?;
        let identity_provider = object.name("identity_provider_id").map(str::to_owned);
        let name = object.need_name(name, &format!("{name} = \"team\""));
        let value = object.need_name(value, &format!("{value} = \"databases\""));
        Some(Attribute { name: name?.to_owned(), value: value?.to_owned(), identity_provider })
    }

    fn refuse(&self, kind: &str) {
        let message = match NOT_HERE.iter().find(|(name, _)| *name == kind) {
            Some((_, instead)) => format!("{kind:?} rules cannot be evaluated by this gateway: {instead}"),
            None => format!("there is no kind of rule {kind:?}: {}", instead(kind, KINDS)),
        };
        self.known.problems.error(self.node, message);
    }
}

fn text(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("write what to compare with: it is empty") } else { Ok(text.to_owned()) }
}

fn email_domain(text: &str) -> Result<Arc<str>, String> {
    let well_formed = !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if well_formed && !text.contains(['@', '*']) {
        Ok(text.to_lowercase().into())
    } else {
        Err(format!("{text:?} is no domain: write what follows the @, as \"example.com\""))
    }
}
