//! Targets and the criteria that select them.
//!
//! Owns hostnames, the attributes of a target, and how criteria match them. Where a target is found
//! by its address is [`crate::infrastructure`]'s.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;
use thiserror::Error;

use crate::port::PortSet;

/// The longest hostname that is accepted, in bytes (RFC 1035 section 2.3.4, without the final dot).
pub(crate) const MAX_HOSTNAME: usize = 253;

/// Name of a target: ASCII letters, digits, `-` and `.`, stored lower-cased. Several targets may
/// share one, and a policy then covers all of them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Hostname(Arc<str>);

/// Why a text is no hostname.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostnameError {
    /// The text is empty.
    #[error("a hostname must not be empty")]
    Empty,
    /// The text has more than 253 bytes.
    #[error("a hostname has at most {MAX_HOSTNAME} characters")]
    TooLong,
    /// The text contains a character that cannot be part of a hostname.
    #[error("{text:?} is no hostname, because of {character:?}: use letters, digits, '-' and '.'")]
    BadCharacter {
        /// What was written.
        text: String,
        /// The first character that is not allowed.
        character: char,
    },
}

/// A server, as the policy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub hostname: Hostname,
    /// Its addresses or prefixes, at most one per family.
    pub addresses: Vec<TargetAddress>,
    /// Tags: name to values.
    pub tags: Tags,
    /// Whether the gateway offers it algorithms that are no longer secure, after all others.
    pub legacy: bool,
    /// Whose address the gateway dials it from.
    pub source_address: SourceAddress,
}

/// Whose address a target sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceAddress {
    /// The gateway's own.
    #[default]
    Gateway,
    /// The user's.
    Client,
}

/// Tags of a target, or tags that a selector asks for: name to values. Case matters.
pub type Tags = BTreeMap<String, BTreeSet<String>>;

/// One address or prefix of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetAddress {
    /// The prefix; full length for a single address.
    pub net: IpNet,
    /// The virtual network it is in.
    pub virtual_network_id: Option<Arc<str>>,
}

/// What the datapath steers to the proxy: destination prefixes, truncated, and their TCP ports.
pub type Steered = BTreeMap<IpNet, PortSet>;

/// Attributes that a target must have: every one that is given, in any of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetSelector {
    /// Hostnames, one of which the target must have; empty: any.
    pub hostnames: BTreeSet<Hostname>,
    /// Tags, of each of which the target must have one of the values.
    pub tags: Tags,
}

/// Which targets an application covers, and on which ports.
///
/// A target meets the criteria if it has the `attributes`, meets any of `include` (where there is
/// one), all of `require` and none of `exclude`. Criteria with neither `attributes` nor `include`
/// are met by no target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetCriteria {
    /// TCP ports.
    pub ports: PortSet,
    /// What every covered target has.
    pub attributes: Option<TargetSelector>,
    /// One of these must be met, unless the list is empty.
    pub include: Vec<TargetSelector>,
    /// All of these must be met.
    pub require: Vec<TargetSelector>,
    /// None of these may be met.
    pub exclude: Vec<TargetSelector>,
}

impl Hostname {
    /// Checks `text` and lower-cases it.
    ///
    /// # Errors
    /// [`HostnameError`] when the text breaks the invariant of the type.
    pub fn new(text: &str) -> Result<Self, HostnameError> {
        if text.is_empty() {
            return Err(HostnameError::Empty);
        }
        if text.len() > MAX_HOSTNAME {
            return Err(HostnameError::TooLong);
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))) {
            Some(character) => Err(HostnameError::BadCharacter { text: text.to_owned(), character }),
            None => Ok(Self(text.to_ascii_lowercase().into())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Hostname {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<Hostname> for String {
    fn from(hostname: Hostname) -> Self {
        hostname.0.as_ref().to_owned()
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TargetSelector {
    /// Whether the target has the attributes; a selector that asks for nothing selects nothing.
    pub fn selects(&self, target: &Target) -> bool {
        let asks = !self.hostnames.is_empty() || !self.tags.is_empty();
        let hostname = self.hostnames.is_empty() || self.hostnames.contains(&target.hostname);
        asks && hostname && self.tags.iter().all(|(name, values)| has_tag(target, name, values))
    }
}

fn has_tag(target: &Target, name: &str, values: &BTreeSet<String>) -> bool {
    target.tags.get(name).is_some_and(|has| !has.is_disjoint(values))
}

impl TargetCriteria {
    /// Whether the target meets the criteria.
    pub fn met_by(&self, target: &Target) -> bool {
        let selects = |selector: &TargetSelector| selector.selects(target);
        (self.attributes.is_some() || !self.include.is_empty())
            && self.attributes.iter().all(selects)
            && (self.include.is_empty() || self.include.iter().any(selects))
            && self.require.iter().all(selects)
            && !self.exclude.iter().any(selects)
    }

    /// Hostnames, one of which every target that meets the criteria has; `None` when a target of any
    /// name may meet them.
    pub fn hostnames(&self) -> Option<BTreeSet<&Hostname>> {
        let named = |selector: &TargetSelector| !selector.hostnames.is_empty();
        if let Some(one) = self.attributes.iter().chain(&self.require).find(|selector| named(selector)) {
            return Some(one.hostnames.iter().collect());
        }
        (!self.include.is_empty() && self.include.iter().all(named))
            .then(|| self.include.iter().flat_map(|selector| &selector.hostnames).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn target(hostname: &str, tags: Pairs<'_>) -> Target {
        let hostname = Hostname::new(hostname).unwrap();
        Target {
            hostname,
            addresses: Vec::new(),
            tags: tags_of(tags),
            legacy: false,
            source_address: SourceAddress::Gateway,
        }
    }

    fn tags_of(tags: Pairs<'_>) -> Tags {
        let mut all = Tags::new();
        for (name, value) in tags {
            all.entry((*name).to_owned()).or_default().insert((*value).to_owned());
        }
        all
    }

    fn selector(hostnames: &[&str], tags: Pairs<'_>) -> TargetSelector {
        TargetSelector {
            hostnames: hostnames.iter().map(|name| Hostname::new(name).unwrap()).collect(),
            tags: tags_of(tags),
        }
    }

    #[test]
    fn hostnames_ignore_case_and_refuse_other_characters() {
        assert_eq!(Hostname::new("DB-1.Example").unwrap(), Hostname::new("db-1.example").unwrap());
        assert_eq!(Hostname::new(""), Err(HostnameError::Empty));
        assert_eq!(Hostname::new(&"a".repeat(254)), Err(HostnameError::TooLong));
        for (text, character) in [("a b", ' '), ("a_b", '_'), ("web\n", '\n'), ("*", '*'), ("bücher", 'ü')]
        {
            let expected = HostnameError::BadCharacter { text: text.to_owned(), character };
            assert_eq!(Hostname::new(text), Err(expected));
        }
    }

    #[test]
    fn a_selector_asks_for_every_attribute_in_any_value() {
        let db = target("db", &[("env", "prod"), ("env", "blue"), ("team", "data")]);
        let cases: &[(&[&str], Pairs<'_>, bool)] = &[
            (&["db"], &[], true),
            (&["web", "DB"], &[], true),
            (&["web"], &[], false),
            (&[], &[("env", "prod")], true),
            (&[], &[("env", "test"), ("env", "blue")], true),
            (&[], &[("env", "prod"), ("team", "web")], false),
            (&[], &[("zone", "a")], false),
            (&["db"], &[("env", "test")], false),
            (&[], &[], false),
        ];
        for (hostnames, tags, expected) in cases {
            assert_eq!(selector(hostnames, tags).selects(&db), *expected, "{hostnames:?} {tags:?}");
        }
    }

    #[test]
    fn criteria_truth_table() {
        let db = target("db", &[("env", "prod")]);
        let yes = || selector(&["db"], &[]);
        let no = || selector(&["web"], &[]);
        let table = [
            (None, vec![], vec![], vec![], false),
            (Some(yes()), vec![], vec![], vec![], true),
            (Some(no()), vec![], vec![], vec![], false),
            (Some(no()), vec![yes()], vec![], vec![], false),
            (Some(yes()), vec![no()], vec![], vec![], false),
            (None, vec![no(), yes()], vec![], vec![], true),
            (None, vec![no()], vec![], vec![], false),
            (None, vec![yes()], vec![yes(), no()], vec![], false),
            (None, vec![yes()], vec![yes()], vec![no()], true),
            (None, vec![yes()], vec![], vec![no(), yes()], false),
            (None, vec![], vec![yes()], vec![], false),
        ];
        for (attributes, include, require, exclude, expected) in table {
            let ports = PortSet::of(22).unwrap();
            let criteria = TargetCriteria { ports, attributes, include, require, exclude };
            assert_eq!(criteria.met_by(&db), expected, "{criteria:?}");
            if let (true, Some(hostnames)) = (expected, criteria.hostnames()) {
                assert!(hostnames.contains(&db.hostname), "{criteria:?}");
            }
        }
    }
}
