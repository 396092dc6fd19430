//! Types of values and their normal forms.
//!
//! Owns what an address, a port, an e-mail address … looks like in an expression or a list.
//! Normal forms: IPv4-mapped addresses as IPv4, e-mail addresses, hostnames and protocols in lower
//! case, countries in upper case. A value that could never equal a fact is refused, because a
//! block that never matches fails open.

use std::borrow::Cow;
use std::net::IpAddr;

use thiserror::Error;

use crate::geo::{CountryCode, CountryCodeError};
use crate::identity::Email;
use crate::prefix::{self, PrefixError};
use crate::target::{Hostname, HostnameError};

/// The type of a field or of the members of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    /// IPv4 or IPv6 address.
    Ip,
    /// TCP port.
    Port,
    /// Text.
    Text(TextType),
}

/// What a text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextType {
    /// E-mail address; case is ignored.
    Email,
    /// Hostname of a target; case is ignored.
    Hostname,
    /// ISO 3166-1 alpha-2 code; case is ignored.
    Country,
    /// Name of a transport protocol; case is ignored.
    Protocol,
    /// Any other text, compared exactly.
    Exact,
}

/// Why a text is no value of a type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ValueError {
    /// Not an address.
    #[error("{0:?} is no IP address")]
    Address(String),
    /// Not a prefix.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// Not a port.
    #[error("{0:?} is no port: write a number from 0 to 65535")]
    Port(String),
    /// Not an e-mail address.
    #[error("{0:?} is no e-mail address: write it as name@domain")]
    Email(String),
    /// An e-mail address with a wildcard.
    #[error("{0:?} has a wildcard, which is taken literally: write `matches \".*@example\\\\.com$\"`")]
    EmailWildcard(String),
    /// Not a hostname.
    #[error(transparent)]
    Hostname(#[from] HostnameError),
    /// Not a country.
    #[error(transparent)]
    Country(#[from] CountryCodeError),
    /// Not a protocol.
    #[error("{0:?} is no protocol: write \"tcp\"")]
    Protocol(String),
    /// A text with nothing in it.
    #[error("the text is empty and would equal nothing")]
    EmptyText,
    /// The ends of a range are of different address families.
    #[error("the range {first}..{last} mixes IPv4 and IPv6")]
    RangeFamilies {
        /// Where it begins.
        first: String,
        /// Where it ends.
        last: String,
    },
    /// A range that ends before it begins.
    #[error("the range {first}..{last} ends before it begins")]
    RangeBackwards {
        /// Where it begins.
        first: String,
        /// Where it ends.
        last: String,
    },
    /// A range of values that have no order.
    #[error("a range has ports or addresses at its ends, not {0}")]
    RangeOfText(&'static str),
}

impl ValueType {
    /// What messages call a value of the type.
    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Ip => "an IP address",
            Self::Port => "a port",
            Self::Text(text_type) => text_type.description(),
        }
    }

    /// Whether values are written in double quotes.
    pub(super) const fn is_text(self) -> bool {
        matches!(self, Self::Text(_))
    }
}

impl TextType {
    /// What messages call a text of the type.
    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Email => "an e-mail address",
            Self::Hostname => "a hostname",
            Self::Country => "a country",
            Self::Protocol => "a protocol",
            Self::Exact => "a text",
        }
    }

    /// Whether case is ignored.
    pub(super) const fn ignores_case(self) -> bool {
        !matches!(self, Self::Exact)
    }

    /// The form in which a text of this type is compared.
    pub(super) fn normal_form(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Exact => text.into(),
            Self::Country if text.bytes().any(|b| b.is_ascii_lowercase()) => text.to_ascii_uppercase().into(),
            Self::Country => text.into(),
            Self::Email | Self::Hostname | Self::Protocol => {
                if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
                    text.into()
                } else {
                    text.to_lowercase().into()
                }
            }
        }
    }

    /// Checks a text of this type and brings it to normal form.
    ///
    /// # Errors
    /// [`ValueError`] when no fact of this type could equal it.
    pub(super) fn parse(self, text: &str) -> Result<Cow<'_, str>, ValueError> {
        let normal = self.normal_form(text);
        let own = || text.to_owned();
        let problem = match self {
            Self::Email if text.contains('*') => Some(ValueError::EmailWildcard(own())),
            Self::Email => Email::new(text).err().map(|_| ValueError::Email(own())),
            Self::Hostname => Hostname::new(text).err().map(ValueError::Hostname),
            Self::Country => CountryCode::new(text).err().map(ValueError::Country),
            Self::Protocol => (!is_protocol(&normal)).then(|| ValueError::Protocol(own())),
            Self::Exact => text.is_empty().then_some(ValueError::EmptyText),
        };
        problem.map_or(Ok(normal), Err)
    }
}

fn is_protocol(text: &str) -> bool {
    matches!(text, "tcp" | "udp" | "icmp" | "icmpv6")
}

/// Reads a decimal port.
///
/// # Errors
/// [`ValueError::Port`].
pub(super) fn parse_port(text: &str) -> Result<u16, ValueError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = if digits { text.parse().ok() } else { None };
    port.ok_or_else(|| ValueError::Port(text.to_owned()))
}

/// Reads an address.
///
/// # Errors
/// [`ValueError::Address`].
pub(super) fn parse_address(text: &str) -> Result<IpAddr, ValueError> {
    let address: IpAddr = text.parse().map_err(|_| ValueError::Address(text.to_owned()))?;
    Ok(address.to_canonical())
}

/// Reads an address or a prefix as the range it covers.
///
/// # Errors
/// [`ValueError`] when it is neither, or has bits set beyond its prefix length.
pub(super) fn parse_network(text: &str) -> Result<(IpAddr, IpAddr), ValueError> {
    if !text.contains('/') {
        let address = parse_address(text)?;
        return Ok((address, address));
    }
    let net = prefix::parse(text)?;
    Ok((net.network(), net.broadcast()))
}
