//! Targets by address.
//!
//! Invariant: an address or prefix belongs to one target only. Virtual networks do not tell targets
//! apart, since a packet does not say which one it is in.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::prefix::{PrefixTable, PrefixTaken};
use crate::target::{Target, TargetAddress};

/// All targets, found by address: the longest prefix answers.
#[derive(Clone, Debug, Default)]
pub struct TargetTable {
    targets: Vec<Arc<Target>>,
    /// Index of the target, and of the address within it.
    by_address: PrefixTable<(usize, usize)>,
}

impl TargetTable {
    /// Adds a target.
    ///
    /// # Errors
    /// [`PrefixTaken`] with the first of its addresses that another target has; the table is
    /// unchanged then.
    pub fn insert(&mut self, target: Target) -> Result<(), PrefixTaken> {
        if let Some(address) = target.addresses.iter().find(|address| self.owner(address.net).is_some()) {
            return Err(PrefixTaken(address.net));
        }
        for (position, address) in target.addresses.iter().enumerate() {
            self.by_address.insert(address.net, (self.targets.len(), position))?;
        }
        self.targets.push(Arc::new(target));
        Ok(())
    }

    /// The target that has exactly this address or prefix.
    pub fn owner(&self, net: IpNet) -> Option<&Arc<Target>> {
        self.by_address.exact(net).and_then(|&(index, _)| self.targets.get(index))
    }

    /// The target at an address, and which of its addresses that is.
    pub fn at(&self, ip: IpAddr) -> Option<(&Arc<Target>, &TargetAddress)> {
        let (_, &(index, position)) = self.by_address.longest(ip)?;
        let target = self.targets.get(index)?;
        target.addresses.get(position).map(|address| (target, address))
    }

    /// The targets in the order they were added.
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Hostname, SourceAddress, Tags};

    fn target(hostname: &str, nets: &[&str]) -> Target {
        let address =
            |net: &&str| TargetAddress { net: net.parse().unwrap(), virtual_network_id: Some((*net).into()) };
        Target {
            hostname: Hostname::new(hostname).unwrap(),
            addresses: nets.iter().map(address).collect(),
            tags: Tags::new(),
            legacy: false,
            source_address: SourceAddress::Gateway,
        }
    }

    #[test]
    fn the_longest_prefix_names_the_target() {
        let mut table = TargetTable::default();
        table.insert(target("net", &["10.0.0.0/24", "2001:db8::/64"])).unwrap();
        table.insert(target("host", &["10.0.0.7/32"])).unwrap();
        let at = |ip: &str| {
            table
                .at(ip.parse().unwrap())
                .map(|(target, address)| (&*target.hostname, address.net.to_string()))
        };
        assert_eq!(at("10.0.0.7"), Some(("host", "10.0.0.7/32".to_owned())));
        assert_eq!(at("10.0.0.8"), Some(("net", "10.0.0.0/24".to_owned())));
        assert_eq!(at("2001:db8::1"), Some(("net", "2001:db8::/64".to_owned())));
        assert_eq!(at("10.0.1.1"), None);
        let taken = table.insert(target("again", &["10.0.0.7/32"])).unwrap_err();
        assert_eq!(taken.0.to_string(), "10.0.0.7/32");
        assert_eq!(table.targets().len(), 2);
    }
}
