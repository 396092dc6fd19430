//! Address prefixes and a table that answers with the longest one.
//!
//! Owns how an address or prefix is written in a configuration file, and [`PrefixTable`].
//! Invariants: a prefix has no host bits, and an IPv4-mapped IPv6 prefix is stored as IPv4, so that
//! neither spelling can miss the other.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

/// Values by prefix; the longest prefix that holds an address answers for it.
///
/// A look-up costs one hash per prefix length in use, longest first, so that a table of single
/// addresses answers after one.
#[derive(Clone, Debug)]
pub struct PrefixTable<V> {
    entries: HashMap<IpNet, V>,
    lengths_v4: BTreeSet<u8>,
    lengths_v6: BTreeSet<u8>,
}

/// Why a text is no address or prefix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// It is neither an address nor a prefix.
    #[error("{0:?} is no IP address or prefix: write it as 10.1.2.3, 10.1.0.0/16 or 2001:db8::/32")]
    Malformed(String),
    /// Bits behind the prefix length are set.
    #[error("{text:?} has bits set behind its prefix length: write {network} for the network")]
    HostBits {
        /// What was written.
        text: String,
        /// The network it lies in.
        network: IpNet,
    },
}

/// The prefix is in the table already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} is given twice")]
pub struct PrefixTaken(pub IpNet);

/// Reads an address, which is a prefix of full length, or a prefix.
///
/// # Errors
/// [`PrefixError`] for anything else, and for a prefix with host bits set.
pub fn parse(text: &str) -> Result<IpNet, PrefixError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip.to_canonical()));
    }
    let net: IpNet = text.parse().map_err(|_| PrefixError::Malformed(text.to_owned()))?;
    let network = net.trunc();
    if network.addr() != net.addr() {
        return Err(PrefixError::HostBits { text: text.to_owned(), network: canonical(network) });
    }
    Ok(canonical(network))
}

fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(addr, len)| Ipv4Net::new(addr, len).ok()).map_or(net, IpNet::V4)
}

impl<V> Default for PrefixTable<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), lengths_v4: BTreeSet::new(), lengths_v6: BTreeSet::new() }
    }
}

impl<V> PrefixTable<V> {
    /// Adds a prefix.
    ///
    /// # Errors
    /// [`PrefixTaken`] when the same prefix is there already; the table is unchanged then.
    pub fn insert(&mut self, net: IpNet, value: V) -> Result<(), PrefixTaken> {
        let net = canonical(net.trunc());
        if self.entries.contains_key(&net) {
            return Err(PrefixTaken(net));
        }
        match net {
            IpNet::V4(_) => self.lengths_v4.insert(net.prefix_len()),
            IpNet::V6(_) => self.lengths_v6.insert(net.prefix_len()),
        };
        self.entries.insert(net, value);
        Ok(())
    }

    /// The longest prefix that holds `ip`, and its value.
    pub fn longest(&self, ip: IpAddr) -> Option<(IpNet, &V)> {
        let ip = ip.to_canonical();
        let lengths = match ip {
            IpAddr::V4(_) => &self.lengths_v4,
            IpAddr::V6(_) => &self.lengths_v6,
        };
        lengths.iter().rev().find_map(|&length| {
            let net = IpNet::new(ip, length).ok()?.trunc();
            self.entries.get(&net).map(|value| (net, value))
        })
    }

    /// The value of exactly this prefix.
    pub fn exact(&self, net: IpNet) -> Option<&V> {
        self.entries.get(&canonical(net.trunc()))
    }

    /// How many prefixes the table holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the table holds no prefix.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        parse(text).unwrap()
    }

    #[test]
    fn longest_prefix_answers() {
        let mut table = PrefixTable::default();
        for (text, value) in [("0.0.0.0/0", 0), ("10.0.0.0/8", 8), ("10.1.2.3", 32), ("2001:db8::/32", 6)] {
            table.insert(net(text), value).unwrap();
        }
        let value = |ip: &str| table.longest(ip.parse().unwrap()).map(|(_, value)| *value);
        assert_eq!(value("10.1.2.3"), Some(32));
        assert_eq!(value("::ffff:10.1.2.3"), Some(32));
        assert_eq!(value("10.1.2.4"), Some(8));
        assert_eq!(value("11.0.0.0"), Some(0));
        assert_eq!(value("2001:db8:1::1"), Some(6));
        assert_eq!(value("2001:db9::1"), None);
        assert_eq!(table.insert(net("10.0.0.0/8"), 9), Err(PrefixTaken(net("10.0.0.0/8"))));
        assert_eq!(table.exact(net("10.0.0.0/8")), Some(&8));
    }

    #[test]
    fn mapped_spelling_is_the_same_prefix() {
        assert_eq!(net("::ffff:10.0.0.1"), net("10.0.0.1"));
        assert_eq!(net("::ffff:10.0.0.0/104"), net("10.0.0.0/8"));
    }

    #[test]
    fn refuses_what_is_no_prefix() {
        assert_eq!(
            parse("10.1.2.3/8").unwrap_err().to_string(),
            "\"10.1.2.3/8\" has bits set behind its prefix length: write 10.0.0.0/8 for the network"
        );
        for text in ["", "10.0.0", "10.0.0.0/33", "::/129", "web", " 10.0.0.1"] {
            assert!(matches!(parse(text), Err(PrefixError::Malformed(_))), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn longest_agrees_with_a_linear_search(
            nets in prop::collection::vec((any::<u32>(), 0u8..=32), 0..40), ip in any::<u32>()
        ) {
            let mut table = PrefixTable::default();
            let mut all = Vec::new();
            for (addr, length) in nets {
                let net = IpNet::new(IpAddr::V4((addr & 0xf000_0003).into()), length).unwrap().trunc();
                if table.insert(net, net).is_ok() {
                    all.push(net);
                }
            }
            let ip = IpAddr::V4((ip & 0xf000_0003).into());
            let expected = all.iter().filter(|net| net.contains(&ip)).max_by_key(|net| net.prefix_len());
            prop_assert_eq!(table.longest(ip).map(|(_, net)| net), expected);
        }
    }
}
