//! Access rules: conditions on who asks, as include, require and exclude lists.
//!
//! Owns the kinds of rules that this gateway can evaluate, and how three lists of them combine. A
//! rule about a fact that is not known does not hold, whichever list it is in: whoever must be kept
//! out for sure is kept out by `require`, not by `exclude`. What a group holds is
//! [`crate::access_group`]'s.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use crate::geo::CountryCode;
use crate::identity::{Email, Identity};
use crate::prefix::PrefixTable;

/// One condition; each holds or does not, there is no third way.
#[derive(Clone, Debug)]
pub enum AccessRule {
    /// Every known identity.
    Everyone,
    /// This user.
    Email(Email),
    /// Users whose address ends in this domain, lower-cased; its subdomains are others.
    EmailDomain(Arc<str>),
    /// Users on a list.
    EmailList {
        /// Name of the list.
        list: Arc<str>,
        /// Who is on it.
        emails: Arc<HashSet<Email>>,
    },
    /// Connections from this prefix.
    Ip(IpNet),
    /// Connections from the prefixes of a list.
    IpList {
        /// Name of the list.
        list: Arc<str>,
        /// The prefixes on it.
        nets: Arc<PrefixTable<()>>,
    },
    /// Connections from this country.
    Geo(CountryCode),
    /// Whoever meets the rules of the access group of this name.
    Group(Arc<str>),
    /// Users who logged in with this method (RFC 8176).
    AuthMethod(String),
    /// Users who logged in with this identity provider.
    LoginMethod(String),
    /// Users whose device passed this posture check.
    DevicePosture(String),
    /// Users with this OIDC claim.
    Oidc(Attribute),
    /// Users with this SAML attribute.
    Saml(Attribute),
    /// Users who showed a client certificate.
    Certificate,
    /// Users who showed a client certificate with this common name.
    CommonName(String),
}

/// A claim or attribute that an identity provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// The value it must have, among others.
    pub value: String,
    /// The identity provider that must have been used, where one is named.
    pub identity_provider: Option<String>,
}

/// Include (any), require (all) and exclude (none) rules.
///
/// An empty include list matches nobody.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// One of these must hold.
    pub include: Vec<AccessRule>,
    /// All of these must hold.
    pub require: Vec<AccessRule>,
    /// None of these may hold.
    pub exclude: Vec<AccessRule>,
}

/// What rules can ask about.
#[derive(Clone, Copy, Debug)]
pub struct RuleFacts<'a> {
    /// Source address of the connection.
    pub client: IpAddr,
    /// Who asks.
    pub identity: &'a Identity,
    /// Country of the source address.
    pub country: Option<&'a str>,
}

/// How a rule set ended; an index points into the list it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleOutcome {
    /// The rules are met, by this include rule among others.
    Matched(usize),
    /// No include rule holds.
    NotIncluded,
    /// This require rule does not hold.
    RequireFailed(usize),
    /// This exclude rule holds.
    Excluded(usize),
}

impl RuleOutcome {
    /// Whether the rules are met.
    pub fn is_match(self) -> bool {
        matches!(self, Self::Matched(_))
    }
}

impl RuleSet {
    /// Asks the three lists; `group` says whether the access group of a name is met.
    pub fn evaluate(&self, facts: &RuleFacts<'_>, group: &mut dyn FnMut(&str) -> bool) -> RuleOutcome {
        let mut holds = |rule: &AccessRule| rule.holds(facts, group);
        let Some(included) = self.include.iter().position(&mut holds) else {
            return RuleOutcome::NotIncluded;
        };
        if let Some(failed) = self.require.iter().position(|rule| !holds(rule)) {
            return RuleOutcome::RequireFailed(failed);
        }
        match self.exclude.iter().position(holds) {
            Some(excluded) => RuleOutcome::Excluded(excluded),
            None => RuleOutcome::Matched(included),
        }
    }

    /// All rules, include first, then require, then exclude.
    pub fn rules(&self) -> impl Iterator<Item = &AccessRule> {
        self.include.iter().chain(&self.require).chain(&self.exclude)
    }
}

impl AccessRule {
    /// Whether the rule holds; `group` says whether the access group of a name is met.
    pub fn holds(&self, facts: &RuleFacts<'_>, group: &mut dyn FnMut(&str) -> bool) -> bool {
        let who = facts.identity;
        match self {
            Self::Everyone => true,
            Self::Email(email) => who.email == *email,
            Self::EmailDomain(domain) => who.email.domain() == &**domain,
            Self::EmailList { emails, .. } => emails.contains(&who.email),
            Self::Ip(net) => net.contains(&facts.client.to_canonical()),
            Self::IpList { nets, .. } => nets.longest(facts.client).is_some(),
            Self::Geo(country) => facts.country == Some(country.as_str()),
            Self::Group(name) => group(name),
            Self::AuthMethod(method) => who.auth_methods.contains(method),
            Self::LoginMethod(method) => who.login_method.as_ref() == Some(method),
            Self::DevicePosture(check) => who.device_posture.contains(check),
            Self::Oidc(claim) => claim.held_by(who, &who.oidc_claims),
            Self::Saml(attribute) => attribute.held_by(who, &who.saml_attributes),
            Self::Certificate => who.certificate_common_name.is_some(),
            Self::CommonName(name) => who.certificate_common_name.as_ref() == Some(name),
        }
    }
}

impl Attribute {
    fn held_by(&self, who: &Identity, held: &BTreeMap<String, Vec<String>>) -> bool {
        let provider = self.identity_provider.is_none() || self.identity_provider == who.login_method;
        provider && held.get(&self.name).is_some_and(|values| values.contains(&self.value))
    }
}

impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("everyone"),
            Self::Email(email) => write!(f, "email {email}"),
            Self::EmailDomain(domain) => write!(f, "email_domain {domain}"),
            Self::EmailList { list, .. } => write!(f, "email_list {list:?}"),
            Self::Ip(net) => write!(f, "ip {net}"),
            Self::IpList { list, .. } => write!(f, "ip_list {list:?}"),
            Self::Geo(country) => write!(f, "geo {country}"),
            Self::Group(name) => write!(f, "group {name:?}"),
            Self::AuthMethod(method) => write!(f, "auth_method {method:?}"),
            Self::LoginMethod(method) => write!(f, "login_method {method:?}"),
            Self::DevicePosture(check) => write!(f, "device_posture {check:?}"),
            Self::Oidc(Attribute { name, value, .. }) => write!(f, "oidc {name:?} = {value:?}"),
            Self::Saml(Attribute { name, value, .. }) => write!(f, "saml {name:?} = {value:?}"),
            Self::Certificate => f.write_str("certificate"),
            Self::CommonName(name) => write!(f, "common_name {name:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Identity {
        Identity {
            name: Some("Alice".to_owned()),
            groups: vec!["staff".to_owned()],
            auth_methods: vec!["mfa".to_owned(), "hwk".to_owned()],
            login_method: Some("idp-1".to_owned()),
            device_posture: vec!["disk".to_owned()],
            oidc_claims: BTreeMap::from([("team".to_owned(), vec!["db".to_owned(), "web".to_owned()])]),
            saml_attributes: BTreeMap::from([("role".to_owned(), vec!["dba".to_owned()])]),
            certificate_common_name: Some("alice-laptop".to_owned()),
            break_glass: false,
            ..Identity::from_email(Email::new("alice@example.com").unwrap())
        }
    }

    fn attribute(name: &str, value: &str, identity_provider: Option<&str>) -> Attribute {
        Attribute {
            name: name.to_owned(),
            value: value.to_owned(),
            identity_provider: identity_provider.map(str::to_owned),
        }
    }

    fn emails(all: &[&str]) -> AccessRule {
        let emails = all.iter().map(|email| Email::new(email).unwrap()).collect();
        AccessRule::EmailList { list: "l".into(), emails: Arc::new(emails) }
    }

    fn nets(all: &[&str]) -> AccessRule {
        let mut nets = PrefixTable::default();
        for net in all {
            nets.insert(net.parse().unwrap(), ()).unwrap();
        }
        AccessRule::IpList { list: "l".into(), nets: Arc::new(nets) }
    }

    #[test]
    fn each_kind_holds_for_what_it_names_and_for_nothing_else() {
        use AccessRule as R;
        let text = str::to_owned;
        let cases = [
            (R::Everyone, true, true),
            (R::Email(Email::new("Alice@Example.com").unwrap()), true, false),
            (R::EmailDomain("example.com".into()), true, false),
            (R::EmailDomain("ample.com".into()), false, false),
            (emails(&["bob@example.com", "ALICE@example.com"]), true, false),
            (emails(&["bob@example.com"]), false, false),
            (R::Ip("10.0.0.0/8".parse().unwrap()), true, false),
            (R::Ip("11.0.0.0/8".parse().unwrap()), false, false),
            (nets(&["192.0.2.0/24", "10.1.0.0/16"]), true, false),
            (nets(&[]), false, false),
            (R::Geo(CountryCode::new("DE").unwrap()), true, false),
            (R::Geo(CountryCode::new("FR").unwrap()), false, false),
            (R::AuthMethod(text("hwk")), true, false),
            (R::LoginMethod(text("idp-1")), true, false),
            (R::DevicePosture(text("disk")), true, false),
            (R::Oidc(attribute("team", "web", None)), true, false),
            (R::Oidc(attribute("team", "web", Some("idp-1"))), true, false),
            (R::Oidc(attribute("team", "web", Some("idp-2"))), false, false),
            (R::Oidc(attribute("team", "we", None)), false, false),
            (R::Oidc(attribute("role", "dba", None)), false, false),
            (R::Saml(attribute("role", "dba", None)), true, false),
            (R::Certificate, true, false),
            (R::CommonName(text("alice-laptop")), true, false),
            (R::CommonName(text("alice")), false, false),
        ];
        let (alice, mallory) = (alice(), Identity::from_email(Email::new("mallory@example.net").unwrap()));
        let known = RuleFacts { client: [10, 1, 2, 3].into(), identity: &alice, country: Some("DE") };
        let unknown = RuleFacts { client: [203, 0, 113, 9].into(), identity: &mallory, country: None };
        for (rule, for_alice, for_mallory) in cases {
            assert_eq!(rule.holds(&known, &mut |_| false), for_alice, "{rule} for alice");
            assert_eq!(rule.holds(&unknown, &mut |_| false), for_mallory, "{rule} for mallory");
        }
    }

    #[test]
    fn a_mapped_client_address_is_ipv4() {
        let alice = alice();
        let client = "::ffff:10.1.2.3".parse().unwrap();
        let facts = RuleFacts { client, identity: &alice, country: None };
        assert!(AccessRule::Ip("10.0.0.0/8".parse().unwrap()).holds(&facts, &mut |_| false));
        assert!(nets(&["10.0.0.0/8"]).holds(&facts, &mut |_| false));
    }

    #[test]
    fn include_any_require_all_exclude_none() {
        use RuleOutcome::{Excluded, Matched, NotIncluded, RequireFailed};
        let alice = alice();
        let facts = RuleFacts { client: [10, 1, 2, 3].into(), identity: &alice, country: None };
        let table: &[(&str, &str, &str, RuleOutcome)] = &[
            ("", "", "", NotIncluded),
            ("", "y", "", NotIncluded),
            ("n", "", "", NotIncluded),
            ("y", "", "", Matched(0)),
            ("ny", "", "", Matched(1)),
            ("y", "y", "", Matched(0)),
            ("y", "yn", "", RequireFailed(1)),
            ("y", "ny", "", RequireFailed(0)),
            ("y", "", "y", Excluded(0)),
            ("y", "y", "ny", Excluded(1)),
            ("y", "y", "n", Matched(0)),
            ("n", "n", "y", NotIncluded),
            ("y", "n", "y", RequireFailed(0)),
        ];
        let list = |pattern: &str| pattern.chars().map(|c| AccessRule::Group(c.to_string().into())).collect();
        for (include, require, exclude, expected) in table {
            let rules = RuleSet { include: list(include), require: list(require), exclude: list(exclude) };
            let outcome = rules.evaluate(&facts, &mut |name| name == "y");
            assert_eq!(outcome, *expected, "{include:?} {require:?} {exclude:?}");
        }
    }
}
