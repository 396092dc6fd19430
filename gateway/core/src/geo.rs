//! Which country an address is in.
//!
//! Owns country codes and the static table of the policy file. Deliberately absent: any database of
//! its own; an address that the table does not hold has no country.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use thiserror::Error;

use crate::prefix::{PrefixTable, PrefixTaken};

/// An ISO 3166-1 alpha-2 code, upper-cased.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CountryCode(Arc<str>);

/// A text that is no country code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no country code: write its two letters of ISO 3166-1, as \"DE\"")]
pub struct CountryCodeError(pub String);

/// Prefixes and the country of each; the longest prefix answers.
#[derive(Clone, Debug, Default)]
pub struct GeoTable(PrefixTable<CountryCode>);

impl CountryCode {
    /// Checks the shape, two ASCII letters, and upper-cases it.
    ///
    /// # Errors
    /// [`CountryCodeError`] for any other shape. Codes that ISO has not assigned pass.
    pub fn new(text: &str) -> Result<Self, CountryCodeError> {
        if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            Ok(Self(text.to_ascii_uppercase().into()))
        } else {
            Err(CountryCodeError(text.to_owned()))
        }
    }

    /// The two letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl GeoTable {
    /// Adds the country of a prefix.
    ///
    /// # Errors
    /// [`PrefixTaken`] when the prefix is there already.
    pub fn insert(&mut self, net: IpNet, country: CountryCode) -> Result<(), PrefixTaken> {
        self.0.insert(net, country)
    }

    /// The country of an address.
    pub fn country(&self, ip: IpAddr) -> Option<&CountryCode> {
        self.0.longest(ip).map(|(_, country)| country)
    }

    /// Whether no address has a country.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_names_the_country() {
        let mut table = GeoTable::default();
        table.insert("192.0.2.0/24".parse().unwrap(), CountryCode::new("de").unwrap()).unwrap();
        table.insert("192.0.2.128/25".parse().unwrap(), CountryCode::new("FR").unwrap()).unwrap();
        let country = |ip: &str| table.country(ip.parse().unwrap()).map(CountryCode::as_str);
        assert_eq!(country("192.0.2.1"), Some("DE"));
        assert_eq!(country("192.0.2.200"), Some("FR"));
        assert_eq!(country("198.51.100.1"), None);
    }

    #[test]
    fn refuses_what_is_no_code() {
        for text in ["", "D", "DEU", "D1", "ß"] {
            assert!(CountryCode::new(text).is_err(), "{text:?}");
        }
    }
}
