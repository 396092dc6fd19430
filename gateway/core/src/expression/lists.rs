//! Named lists, which expressions refer to as `$name`.
//!
//! Owns the kinds of list and the check of every member. A list is immutable once inserted, and
//! expressions share it. An empty list is accepted: nothing is in it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::set::{ValueSet, ValueSetBuilder};
use super::value::{TextType, ValueError, ValueType};
use crate::suggest::nearest;

/// Named lists that an expression may refer to as `$name`.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    by_name: BTreeMap<String, Arc<ValueSet>>,
}

/// What the members of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// `IP`: addresses, prefixes, or ranges `first..last`.
    Ip,
    /// `EMAIL`: e-mail addresses.
    Email,
    /// `DOMAIN`: hostnames of targets.
    Domain,
    /// `LOCATION`: ISO 3166-1 alpha-2 codes of countries.
    Location,
    /// `SERIAL`: texts compared exactly, such as ids of posture checks or names of groups.
    Serial,
    /// `PORT`: TCP ports, or ranges `first..last`.
    Port,
}

/// A text that names no kind of list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no type of list: write one of IP, EMAIL, DOMAIN, LOCATION, SERIAL, PORT")]
pub struct ListKindError(pub String);

/// Why a list was not inserted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ListError {
    /// There is a list of that name already.
    #[error("there are two lists named {0:?}")]
    Duplicate(String),
    /// A member is no value of the list's kind.
    #[error("value {index}: {reason}")]
    BadValue {
        /// Index of the member, from 0.
        index: usize,
        /// What is wrong with it.
        reason: ValueError,
    },
}

impl ListKind {
    const ALL: [Self; 6] = [Self::Ip, Self::Email, Self::Domain, Self::Location, Self::Serial, Self::Port];

    const fn value_type(self) -> ValueType {
        match self {
            Self::Ip => ValueType::Ip,
            Self::Email => ValueType::Text(TextType::Email),
            Self::Domain => ValueType::Text(TextType::Hostname),
            Self::Location => ValueType::Text(TextType::Country),
            Self::Serial => ValueType::Text(TextType::Exact),
            Self::Port => ValueType::Port,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ip => "IP",
            Self::Email => "EMAIL",
            Self::Domain => "DOMAIN",
            Self::Location => "LOCATION",
            Self::Serial => "SERIAL",
            Self::Port => "PORT",
        }
    }
}

impl FromStr for ListKind {
    type Err = ListKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text));
        known.ok_or_else(|| ListKindError(text.to_owned()))
    }
}

impl fmt::Display for ListKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Lists {
    /// Adds the list `name`. Any name is accepted; only letters, digits, `-` and `_` can be written
    /// after `$`.
    ///
    /// # Errors
    /// [`ListError`] when the name is taken or a value is not of the list's kind; nothing is added.
    pub fn insert(&mut self, name: &str, kind: ListKind, values: &[String]) -> Result<(), ListError> {
        if self.by_name.contains_key(name) {
            return Err(ListError::Duplicate(name.to_owned()));
        }
        let mut members = ValueSetBuilder::new(kind.value_type());
        for (index, value) in values.iter().enumerate() {
            let ordered = matches!(kind, ListKind::Ip | ListKind::Port);
            let added = match value.split_once("..") {
                Some((first, last)) if ordered => members.add_range(first, last),
                _ => members.add(value),
            };
            added.map_err(|reason| ListError::BadValue { index, reason })?;
        }
        self.by_name.insert(name.to_owned(), Arc::new(members.build()));
        Ok(())
    }

    /// The list `name`.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn find(&self, name: &str) -> Result<&Arc<ValueSet>, String> {
        self.by_name.get(name).ok_or_else(|| {
            let names = || self.by_name.keys().map(String::as_str);
            match nearest(name, names()) {
                Some(near) => format!("there is no list `${name}`; did you mean `${near}`?"),
                None if self.by_name.is_empty() => {
                    format!("there is no list `${name}`: the policy file has none")
                }
                None => {
                    format!(
                        "there is no list `${name}`; the lists are {}",
                        names().collect::<Vec<_>>().join(", ")
                    )
                }
            }
        })
    }
}
