//! Who is behind a source address.
//!
//! Owns the static identity table. Invariant: a prefix belongs to one identity only; the longest
//! prefix that holds an address wins. No match means unknown, and unknown is denied.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use thiserror::Error;

use crate::prefix::{PrefixTable, PrefixTaken};

/// An e-mail address, stored lower-cased: comparisons ignore case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Email(Arc<str>);

/// A text that is no e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no e-mail address: write it as name@domain")]
pub struct EmailError(pub String);

/// A user and the facts that policies may ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Names the user.
    pub email: Email,
    /// The display name.
    pub name: Option<String>,
    /// Names of the directory groups the user is in.
    pub groups: Vec<String>,
    /// Authentication methods that were used, as in RFC 8176 (`mfa`, `hwk`, ...).
    pub auth_methods: Vec<String>,
    /// The identity provider's id, for `login_method` rules.
    pub login_method: Option<String>,
    /// Device posture checks that the user's device passed.
    pub device_posture: Vec<String>,
    /// OIDC claims: name to values.
    pub oidc_claims: BTreeMap<String, Vec<String>>,
    /// SAML attributes: name to values.
    pub saml_attributes: BTreeMap<String, Vec<String>>,
    /// Common name of the client certificate that was verified, if any.
    pub certificate_common_name: Option<String>,
}

/// Source prefixes and the identity behind each.
#[derive(Clone, Debug, Default)]
pub struct IdentityTable {
    by_prefix: PrefixTable<Arc<Identity>>,
}

impl Email {
    /// Checks the shape `name@domain` and lower-cases it.
    ///
    /// # Errors
    /// [`EmailError`] when either part is empty, or when there is white space or a control character.
    pub fn new(text: &str) -> Result<Self, EmailError> {
        let ok = text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
            && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        if ok { Ok(Self(text.to_lowercase().into())) } else { Err(EmailError(text.to_owned())) }
    }

    /// The whole address, lower-cased.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the last `@`.
    pub fn local_part(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(local, _)| local)
    }

    /// The part after the last `@`.
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Identity {
    /// An identity with nothing but an e-mail address.
    pub fn from_email(email: Email) -> Self {
        Self {
            email,
            name: None,
            groups: Vec::new(),
            auth_methods: Vec::new(),
            login_method: None,
            device_posture: Vec::new(),
            oidc_claims: BTreeMap::new(),
            saml_attributes: BTreeMap::new(),
            certificate_common_name: None,
        }
    }
}

impl IdentityTable {
    /// Builds the table; entries may come in any order.
    ///
    /// # Errors
    /// The prefix that is given twice.
    pub fn new(entries: Vec<(IpNet, Arc<Identity>)>) -> Result<Self, IpNet> {
        let mut by_prefix = PrefixTable::default();
        for (net, identity) in entries {
            by_prefix.insert(net, identity).map_err(|PrefixTaken(net)| net)?;
        }
        Ok(Self { by_prefix })
    }

    /// The identity behind `ip`, or `None` when nobody is known there.
    pub fn lookup(&self, ip: IpAddr) -> Option<&Arc<Identity>> {
        self.by_prefix.longest(ip).map(|(_, identity)| identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(email: &str) -> Arc<Identity> {
        Arc::new(Identity::from_email(Email::new(email).unwrap()))
    }

    #[test]
    fn longest_prefix_wins() {
        let table = IdentityTable::new(vec![
            ("10.0.0.0/8".parse().unwrap(), identity("net@example.com")),
            ("10.1.1.7/32".parse().unwrap(), identity("host@example.com")),
        ])
        .unwrap();
        let email = |ip: &str| table.lookup(ip.parse().unwrap()).map(|i| i.email.to_string());
        assert_eq!(email("10.1.1.7").as_deref(), Some("host@example.com"));
        assert_eq!(email("::ffff:10.1.1.7").as_deref(), Some("host@example.com"));
        assert_eq!(email("10.1.1.8").as_deref(), Some("net@example.com"));
        assert_eq!(email("11.0.0.1"), None);
    }

    #[test]
    fn a_prefix_given_twice_is_named() {
        let twice = vec![
            ("10.0.0.1/8".parse().unwrap(), identity("a@example.com")),
            ("10.0.0.0/8".parse().unwrap(), identity("b@example.com")),
        ];
        assert_eq!(IdentityTable::new(twice).unwrap_err(), "10.0.0.0/8".parse().unwrap());
    }

    #[test]
    fn email_is_lower_cased_and_split_at_the_last_at() {
        let email = Email::new("Alice.B@Example.COM").unwrap();
        assert_eq!((email.local_part(), email.domain()), ("alice.b", "example.com"));
        assert!(Email::new("nobody").is_err());
        assert!(Email::new("a b@example.com").is_err());
    }
}
