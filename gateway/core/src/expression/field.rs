//! The fields of the language: their names, types, and the facts behind them.
//!
//! The one place that knows what `net.dst.port` is. A name that is not known is refused with what
//! was probably meant. Deliberately absent: fields of other protocols and products.

use std::net::IpAddr;

use super::FlowFacts;
use super::value::{TextType, ValueType};
use crate::suggest::{is_nearly, nearest};

/// What `net.protocol` is of every flow.
pub(super) const PROTOCOL: &str = "tcp";

/// A field that an expression may ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Address of the user's side.
    SourceIp,
    /// TCP port of the user's side.
    SourcePort,
    /// Country of the address of the user's side.
    SourceCountry,
    /// Original destination address.
    DestinationIp,
    /// Original destination TCP port.
    DestinationPort,
    /// Always [`PROTOCOL`].
    Protocol,
    /// Virtual network of the target's address.
    VirtualNetwork,
    /// E-mail address of the user.
    Email,
    /// Display name of the user.
    Name,
    /// Names of the user's groups.
    GroupNames,
    /// Hostname of the target.
    Target,
    /// Posture checks that the user's device passed.
    PassedChecks,
}

/// The value of a field, or of one of its elements.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fact<'a> {
    /// An address.
    Ip(IpAddr),
    /// A port.
    Port(u16),
    /// A text.
    Text(&'a str),
}

/// Every spelling of every field; the first of a field is the one that messages use.
const SPELLINGS: [(&str, Field); 13] = [
    ("net.src.ip", Field::SourceIp),
    ("net.src.port", Field::SourcePort),
    ("net.src.geo.country", Field::SourceCountry),
    ("net.dst.ip", Field::DestinationIp),
    ("net.dst.port", Field::DestinationPort),
    ("net.protocol", Field::Protocol),
    ("net.vnet_id", Field::VirtualNetwork),
    ("identity.email", Field::Email),
    ("identity.name", Field::Name),
    ("identity.groups[*].name", Field::GroupNames),
    ("identity.groups.name[*]", Field::GroupNames),
    ("access.target", Field::Target),
    ("device_posture.checks.passed[*]", Field::PassedChecks),
];

impl Field {
    /// The field written as `spelling`.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn parse(spelling: &str) -> Result<Self, String> {
        let known = SPELLINGS.iter().find(|(name, _)| *name == spelling);
        known.map(|(_, field)| *field).ok_or_else(|| unknown(spelling))
    }

    /// The name that messages use.
    pub(super) fn name(self) -> &'static str {
        SPELLINGS.iter().find(|(_, field)| *field == self).map_or("", |(name, _)| name)
    }

    /// Whether the field has any number of elements, so that a comparison needs `any`.
    pub(super) const fn is_plural(self) -> bool {
        matches!(self, Self::GroupNames | Self::PassedChecks)
    }

    /// The type of the field, or of one of its elements.
    pub(super) const fn value_type(self) -> ValueType {
        match self {
            Self::SourceIp | Self::DestinationIp => ValueType::Ip,
            Self::SourcePort | Self::DestinationPort => ValueType::Port,
            Self::SourceCountry => ValueType::Text(TextType::Country),
            Self::Protocol => ValueType::Text(TextType::Protocol),
            Self::Email => ValueType::Text(TextType::Email),
            Self::Target => ValueType::Text(TextType::Hostname),
            Self::VirtualNetwork | Self::Name | Self::GroupNames | Self::PassedChecks => {
                ValueType::Text(TextType::Exact)
            }
        }
    }

    /// The values of the field: none when the fact is absent, several only when it is plural.
    pub(super) fn facts<'a>(self, facts: &FlowFacts<'a>) -> Facts<'a> {
        let client = facts.flow.client.socket_addr();
        let original_dst = facts.flow.original_dst.socket_addr();
        let identity = facts.identity;
        match self {
            Self::SourceIp => Facts::One(Fact::Ip(client.ip())),
            Self::SourcePort => Facts::One(Fact::Port(client.port())),
            Self::SourceCountry => Facts::optional(facts.source_country),
            Self::DestinationIp => Facts::One(Fact::Ip(original_dst.ip())),
            Self::DestinationPort => Facts::One(Fact::Port(original_dst.port())),
            Self::Protocol => Facts::One(Fact::Text(PROTOCOL)),
            Self::VirtualNetwork => Facts::optional(facts.vnet_id),
            Self::Email => Facts::optional(identity.map(|identity| identity.email.as_str())),
            Self::Name => Facts::optional(identity.and_then(|identity| identity.name.as_deref())),
            Self::GroupNames => Facts::Many(identity.map_or(&[], |identity| &identity.groups)),
            Self::Target => Facts::optional(facts.target),
            Self::PassedChecks => Facts::Many(identity.map_or(&[], |identity| &identity.device_posture)),
        }
    }
}

/// The values of one field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Facts<'a> {
    /// The fact is absent.
    Absent,
    /// A single value.
    One(Fact<'a>),
    /// The elements of a plural field.
    Many(&'a [String]),
}

impl<'a> Facts<'a> {
    fn optional(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, |text| Self::One(Fact::Text(text)))
    }

    /// The values, one by one.
    pub(super) fn iter(self) -> impl Iterator<Item = Fact<'a>> {
        let (one, many): (_, &[String]) = match self {
            Self::Absent => (None, &[]),
            Self::One(fact) => (Some(fact), &[]),
            Self::Many(texts) => (None, texts),
        };
        one.into_iter().chain(many.iter().map(|text| Fact::Text(text)))
    }
}

fn unknown(spelling: &str) -> String {
    let lower = spelling.to_ascii_lowercase();
    if lower.starts_with("device_posture.checks.failed") {
        return "failed posture checks are not known here, only passed ones: write \
                `not any(device_posture.checks.passed[*] == \"...\")`"
            .to_owned();
    }
    if lower.starts_with("identity.groups") && !nearly_group_names(&lower) {
        return format!(
            "`{spelling}` is not supported: groups have names only, write `any(identity.groups[*].name == \"...\")`"
        );
    }
    if !spelling.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return format!("a comparison begins with a field, as in `net.dst.port == 22`; `{spelling}` is none");
    }
    let nearest = nearest(&lower, SPELLINGS.iter().map(|(name, _)| *name));
    nearest.map_or_else(
        || {
            let names: Vec<_> = SPELLINGS.iter().map(|(name, _)| *name).collect();
            format!("there is no field `{spelling}`; the fields are {}", names.join(", "))
        },
        |name| format!("there is no field `{spelling}`; did you mean `{name}`?"),
    )
}

/// Whether only the `[*]` is missing, misplaced, or a letter is wrong.
fn nearly_group_names(spelling: &str) -> bool {
    is_nearly(&spelling.replace("[*]", ""), "identity.groups.name", 2)
}
