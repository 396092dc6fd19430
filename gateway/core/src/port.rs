//! TCP ports: ranges, and sets of them.
//!
//! Invariants: a range is not empty and has no port 0; the ranges of a set are in order, apart from
//! each other, and as few as possible, so that equal sets are equal values.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Ports from a first to a last one, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A text, or a pair of numbers, is no range of ports.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no port and no range of ports: write for example 22 or \"8000-8100\", from 1 to 65535")]
pub struct NoPorts(String);

/// A set of ports; clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet(Arc<[PortRange]>);

impl PortRange {
    /// A range.
    ///
    /// # Errors
    /// When it would be empty or hold port 0.
    pub fn new(first: u16, last: u16) -> Result<Self, NoPorts> {
        if first == 0 || last < first {
            Err(NoPorts(format!("{first}-{last}")))
        } else {
            Ok(Self { first, last })
        }
    }

    /// The lowest port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether a port is in the range.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl FromStr for PortRange {
    type Err = NoPorts;

    fn from_str(text: &str) -> Result<Self, NoPorts> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse().ok();
        number(first)
            .zip(number(last))
            .and_then(|(first, last)| Self::new(first, last).ok())
            .ok_or_else(|| NoPorts(text.to_owned()))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl PortSet {
    /// The set of one port.
    ///
    /// # Errors
    /// When it is port 0.
    pub fn of(port: u16) -> Result<Self, NoPorts> {
        PortRange::new(port, port).map(|range| [range].into_iter().collect())
    }

    /// Whether there are no ports in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a port is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(port))
    }

    /// The ranges in order.
    pub fn ranges(&self) -> impl Iterator<Item = PortRange> + use<'_> {
        self.0.iter().copied()
    }

    /// The ports of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.ranges().chain(other.ranges()).collect()
    }
}

impl FromIterator<PortRange> for PortSet {
    fn from_iter<I: IntoIterator<Item = PortRange>>(ranges: I) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, previous| {
            let joins = u32::from(next.first) <= u32::from(previous.last) + 1;
            if joins {
                previous.last = previous.last.max(next.last);
            }
            joins
        });
        Self(ranges.into())
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, range) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn texts() {
        for (text, shown) in
            [("22", "22"), ("8000-8100", "8000-8100"), ("1 - 65535", "1-65535"), ("7-7", "7")]
        {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), shown);
        }
        for text in ["", "0", "0-9", "9-8", "65536", "a", "-", "1-", "-1", "1-2-3", "+-+"] {
            assert_eq!(text.parse::<PortRange>(), Err(NoPorts(text.to_owned())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_set_holds_its_ports_in_the_fewest_ranges(
            pairs in proptest::collection::vec((1u16..40, 0u16..6), 0..8),
            more in proptest::collection::vec((65_500u16.., 0u16..6), 0..3),
        ) {
            let ranges: Vec<_> = pairs
                .into_iter()
                .chain(more)
                .map(|(first, length)| PortRange::new(first, first.saturating_add(length)).unwrap())
                .collect();
            let ports: BTreeSet<u16> = ranges.iter().flat_map(|range| range.first..=range.last).collect();
            let set: PortSet = ranges.into_iter().collect();
            for port in (0..60).chain(65_490..=65_535) {
                prop_assert_eq!(set.contains(port), ports.contains(&port), "{}", port);
            }
            for pair in set.0.windows(2) {
                prop_assert!(u32::from(pair[0].last) + 1 < u32::from(pair[1].first), "{}", set);
            }
            prop_assert_eq!(set.union(&PortSet::default()), set);
        }
    }
}
