//! Who is behind a source address.
//!
//! Owns the static identity table. Invariant: a prefix belongs to one identity only; the longest
//! prefix that holds an address wins. No match means unknown, and unknown is denied. An identity that is
//! bound to interfaces counts on them alone: on any other, and where the interface is not known, nobody is
//! known at its addresses, and no shorter prefix is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use thiserror::Error;

use crate::net::interface::InterfaceName;
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
    /// Whether the user's sessions may use the space of the spool that is kept in reserve.
    pub break_glass: bool,
}

/// An identity, and where it counts.
#[derive(Clone, Debug)]
pub struct BoundIdentity {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// The interfaces on which connections must come in; `None` for any.
    pub interfaces: Option<Arc<BTreeSet<InterfaceName>>>,
}

/// Source prefixes and the identity behind each.
#[derive(Clone, Debug, Default)]
pub struct IdentityTable {
    by_prefix: PrefixTable<BoundIdentity>,
    /// All interfaces that some identity is bound to.
    interfaces: BTreeSet<InterfaceName>,
}

/// Why nobody is known behind a connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unidentified {
    /// No identity has the address.
    #[error("nobody is known at {0}")]
    Unknown(IpAddr),
    /// The identity at the address is bound to interfaces, and the connection did not come in there.
    #[error("{address} is known for connections that come in on {} alone, and this one {}", names(.bound), arrival(.ingress))]
    OtherInterface {
        /// The source address.
        address: IpAddr,
        /// Where its identity counts.
        bound: Arc<BTreeSet<InterfaceName>>,
        /// Where the connection came in, if that is known.
        ingress: Option<InterfaceName>,
    },
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
            break_glass: false,
        }
    }
}

impl IdentityTable {
    /// Builds the table; entries may come in any order.
    ///
    /// # Errors
    /// The prefix that is given twice.
    pub fn new(entries: Vec<(IpNet, BoundIdentity)>) -> Result<Self, IpNet> {
        let mut table = Self::default();
        for (net, bound) in entries {
            table.interfaces.extend(bound.interfaces.iter().flat_map(|names| names.iter().cloned()));
            table.by_prefix.insert(net, bound).map_err(|PrefixTaken(net)| net)?;
        }
        Ok(table)
    }

    /// The identity behind `ip` for a connection that came in on `ingress`, where that is known.
    ///
    /// # Errors
    /// Why nobody is known there.
    pub fn lookup(
        &self,
        ip: IpAddr,
        ingress: Option<&InterfaceName>,
    ) -> Result<&Arc<Identity>, Unidentified> {
        let (_, BoundIdentity { identity, interfaces }) =
            self.by_prefix.longest(ip).ok_or(Unidentified::Unknown(ip))?;
        match interfaces {
            Some(bound) if !ingress.is_some_and(|ingress| bound.contains(ingress)) => {
                let (bound, ingress) = (Arc::clone(bound), ingress.cloned());
                Err(Unidentified::OtherInterface { address: ip, bound, ingress })
            }
            Some(_) | None => Ok(identity),
        }
    }

    /// The interfaces that identities are bound to.
    pub fn interfaces(&self) -> &BTreeSet<InterfaceName> {
        &self.interfaces
    }
}

fn names(interfaces: &BTreeSet<InterfaceName>) -> String {
    interfaces.iter().map(InterfaceName::as_str).collect::<Vec<_>>().join(", ")
}

fn arrival(ingress: &Option<InterfaceName>) -> String {
    ingress.as_ref().map_or_else(
        || "came in on an interface that is not known".to_owned(),
        |ingress| format!("came in on {ingress}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(email: &str) -> BoundIdentity {
        let identity = Arc::new(Identity::from_email(Email::new(email).unwrap()));
        BoundIdentity { identity, interfaces: None }
    }

    fn interface(name: &str) -> InterfaceName {
        InterfaceName::new(name).unwrap()
    }

    #[test]
    fn longest_prefix_wins() {
        let table = IdentityTable::new(vec![
            ("10.0.0.0/8".parse().unwrap(), identity("net@example.com")),
            ("10.1.1.7/32".parse().unwrap(), identity("host@example.com")),
        ])
        .unwrap();
        let email = |ip: &str| table.lookup(ip.parse().unwrap(), None).ok().map(|i| i.email.to_string());
        assert_eq!(email("10.1.1.7").as_deref(), Some("host@example.com"));
        assert_eq!(email("::ffff:10.1.1.7").as_deref(), Some("host@example.com"));
        assert_eq!(email("10.1.1.8").as_deref(), Some("net@example.com"));
        assert_eq!(email("11.0.0.1"), None);
    }

    #[test]
    fn a_bound_identity_counts_on_its_interfaces_alone_and_hides_what_is_wider() {
        let bound = BTreeSet::from(["lan0", "lan1.100"].map(interface));
        let host =
            BoundIdentity { interfaces: Some(Arc::new(bound.clone())), ..identity("host@example.com") };
        let table = IdentityTable::new(vec![
            ("10.0.0.0/8".parse().unwrap(), identity("net@example.com")),
            ("10.1.1.7/32".parse().unwrap(), host),
        ])
        .unwrap();
        let address: IpAddr = "10.1.1.7".parse().unwrap();
        for name in ["lan0", "lan1.100"] {
            assert_eq!(table.lookup(address, Some(&interface(name))).unwrap().email.local_part(), "host");
        }
        for (name, told) in
            [(Some("wan0"), "this one came in on wan0"), (Some("lan1"), "on lan1"), (None, "not known")]
        {
            let denied = table.lookup(address, name.map(interface).as_ref()).unwrap_err().to_string();
            assert!(denied.starts_with("10.1.1.7 is known for connections that come in on lan0, lan1.100"));
            assert!(denied.ends_with(told), "{denied}");
        }
        assert!(table.lookup("10.1.1.8".parse().unwrap(), Some(&interface("wan0"))).is_ok());
        assert_eq!(table.interfaces(), &bound);
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
