//! Sets of values of one type.
//!
//! Invariant: members are in normal form; texts of facts are brought to it before they are looked
//! up, and addresses of facts are canonical by the invariant of [`crate::net`].
//! Addresses and ports are kept as ranges, so that a prefix costs what a single address does.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::field::Fact;
use super::value::{TextType, ValueError, ValueType, parse_address, parse_network, parse_port};

/// A set of values of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueSet {
    /// Addresses.
    Ip(Ranges<IpAddr>),
    /// Ports.
    Port(Ranges<u16>),
    /// Texts in normal form.
    Text(TextType, BTreeSet<Box<str>>),
}

/// Inclusive ranges, disjoint and ascending, so that membership is a binary search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges<T>(Vec<(T, T)>);

/// Collects the members of a [`ValueSet`].
#[derive(Debug)]
pub(super) enum ValueSetBuilder {
    /// Addresses.
    Ip(Vec<(IpAddr, IpAddr)>),
    /// Ports.
    Port(Vec<(u16, u16)>),
    /// Texts.
    Text(TextType, BTreeSet<Box<str>>),
}

impl ValueSetBuilder {
    /// Begins an empty set.
    pub(super) const fn new(value_type: ValueType) -> Self {
        match value_type {
            ValueType::Ip => Self::Ip(Vec::new()),
            ValueType::Port => Self::Port(Vec::new()),
            ValueType::Text(text_type) => Self::Text(text_type, BTreeSet::new()),
        }
    }

    /// Adds a value, or a prefix of addresses.
    ///
    /// # Errors
    /// [`ValueError`] when `text` is no such value.
    pub(super) fn add(&mut self, text: &str) -> Result<(), ValueError> {
        match self {
            Self::Ip(ranges) => ranges.push(parse_network(text)?),
            Self::Port(ranges) => {
                let port = parse_port(text)?;
                ranges.push((port, port));
            }
            Self::Text(text_type, texts) => {
                texts.insert(text_type.parse(text)?.into());
            }
        }
        Ok(())
    }

    /// Adds all values from `first` to `last`, both included.
    ///
    /// # Errors
    /// [`ValueError`] when the ends are no values of an ordered type, or not in order.
    pub(super) fn add_range(&mut self, first: &str, last: &str) -> Result<(), ValueError> {
        let backwards = || ValueError::RangeBackwards { first: first.to_owned(), last: last.to_owned() };
        match self {
            Self::Ip(ranges) => {
                let ends = (parse_address(first)?, parse_address(last)?);
                if ends.0.is_ipv4() != ends.1.is_ipv4() {
                    return Err(ValueError::RangeFamilies { first: first.to_owned(), last: last.to_owned() });
                }
                ranges.push(ordered(ends).ok_or_else(backwards)?);
            }
            Self::Port(ranges) => {
                let ends = (parse_port(first)?, parse_port(last)?);
                ranges.push(ordered(ends).ok_or_else(backwards)?);
            }
            Self::Text(text_type, _) => return Err(ValueError::RangeOfText(text_type.description())),
        }
        Ok(())
    }

    /// The set of what was added.
    pub(super) fn build(self) -> ValueSet {
        match self {
            Self::Ip(ranges) => ValueSet::Ip(Ranges::new(ranges)),
            Self::Port(ranges) => ValueSet::Port(Ranges::new(ranges)),
            Self::Text(text_type, texts) => ValueSet::Text(text_type, texts),
        }
    }
}

fn ordered<T: Ord>((first, last): (T, T)) -> Option<(T, T)> {
    (first <= last).then_some((first, last))
}

impl ValueSet {
    /// The ports of an inclusive range; none when it is empty.
    pub(super) fn ports(range: Option<(u16, u16)>) -> Self {
        Self::Port(Ranges::new(range.into_iter().collect()))
    }

    /// The type of the members.
    pub(super) const fn value_type(&self) -> ValueType {
        match self {
            Self::Ip(_) => ValueType::Ip,
            Self::Port(_) => ValueType::Port,
            Self::Text(text_type, _) => ValueType::Text(*text_type),
        }
    }

    /// Whether the fact is a member; a fact of another type is none.
    pub(super) fn contains(&self, fact: Fact<'_>) -> bool {
        match (self, fact) {
            (Self::Ip(ranges), Fact::Ip(address)) => ranges.contains(address),
            (Self::Port(ranges), Fact::Port(port)) => ranges.contains(port),
            (Self::Text(text_type, texts), Fact::Text(text)) => texts.contains(&*text_type.normal_form(text)),
            (Self::Ip(_) | Self::Port(_) | Self::Text(..), _) => false,
        }
    }
}

impl<T: Ord + Copy> Ranges<T> {
    fn new(mut ranges: Vec<(T, T)>) -> Self {
        ranges.sort_unstable();
        let mut disjoint: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match disjoint.last_mut() {
                Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
                _ => disjoint.push((first, last)),
            }
        }
        Self(disjoint)
    }

    /// The ranges, ascending.
    pub(super) fn as_slice(&self) -> &[(T, T)] {
        &self.0
    }

    fn contains(&self, value: T) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= value);
        after.checked_sub(1).and_then(|index| self.0.get(index)).is_some_and(|(_, last)| value <= *last)
    }
}
