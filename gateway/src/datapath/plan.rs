//! What the target maps must contain, and how to get there from what they contain.
//!
//! Pure: no map is touched here. Invariants of a plan, each a property test below: executed in
//! order it turns the old content into the new one; additions come before removals; at every step
//! what is a target before and after is a target, and nothing that is neither ever is one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use portreeve_core::target::SteeredEndpoint;
use portreeve_ebpf::targets::{
    ANY_PORT, FAMILY_V4, FAMILY_V6, PORT_EXACT, PORT_PREFIX, PREFIX_KEY_HEAD_BITS, PrefixKey, TargetKey,
    Words, words_of_ipv4, words_of_ipv6,
};

/// Content of the target maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapContent {
    /// Keys of the hash.
    pub exact: BTreeSet<TargetKey>,
    /// Keys of the trie.
    pub prefixes: BTreeSet<Prefix>,
    /// Flags of the ports that have any.
    pub ports: BTreeMap<u16, u32>,
}

/// Key of the trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// Bits that count, those in front of the address included.
    pub bits: u32,
    /// Port, family and address.
    pub key: PrefixKey,
}

/// One operation on one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapOp {
    /// Adds a key to the hash.
    InsertExact(TargetKey),
    /// Removes a key from the hash.
    RemoveExact(TargetKey),
    /// Adds a key to the trie.
    InsertPrefix(Prefix),
    /// Removes a key from the trie.
    RemovePrefix(Prefix),
    /// Sets the flags of a port.
    SetPort {
        /// The port.
        port: u16,
        /// Its flags before.
        from: u32,
        /// Its flags after.
        to: u32,
    },
}

impl MapContent {
    /// The content that makes exactly these endpoints targets.
    pub fn of(endpoints: &BTreeSet<SteeredEndpoint>) -> Self {
        let mut content = Self::default();
        for endpoint in endpoints {
            content.add(endpoint.net, endpoint.port);
            content.add(endpoint.net, ANY_PORT);
        }
        content
    }

    /// Number of endpoints.
    pub fn endpoints(&self) -> usize {
        self.exact.iter().filter(|key| key.port() != ANY_PORT).count()
            + self.prefixes.iter().filter(|prefix| prefix.key.port() != ANY_PORT).count()
    }

    fn add(&mut self, net: IpNet, port: u16) {
        let (family, addr) = key_address(net.network());
        let flag = if net.prefix_len() == net.max_prefix_len() {
            self.exact.insert(TargetKey::new(family, addr, port));
            PORT_EXACT
        } else {
            let bits = PREFIX_KEY_HEAD_BITS + u32::from(net.prefix_len());
            self.prefixes.insert(Prefix { bits, key: PrefixKey::new(family, addr, port) });
            PORT_PREFIX
        };
        *self.ports.entry(port).or_default() |= flag;
    }

    fn flags(&self, port: u16) -> u32 {
        self.ports.get(&port).copied().unwrap_or(0)
    }
}

impl MapOp {
    /// The operation that undoes this one.
    pub const fn inverse(self) -> Self {
        match self {
            Self::InsertExact(key) => Self::RemoveExact(key),
            Self::RemoveExact(key) => Self::InsertExact(key),
            Self::InsertPrefix(prefix) => Self::RemovePrefix(prefix),
            Self::RemovePrefix(prefix) => Self::InsertPrefix(prefix),
            Self::SetPort { port, from, to } => Self::SetPort { port, from: to, to: from },
        }
    }
}

/// The operations that turn `old` into `new`.
pub fn plan(old: &MapContent, new: &MapContent) -> Vec<MapOp> {
    let mut ops: Vec<MapOp> = Vec::new();
    ops.extend(new.exact.difference(&old.exact).copied().map(MapOp::InsertExact));
    ops.extend(new.prefixes.difference(&old.prefixes).copied().map(MapOp::InsertPrefix));
    let ports: BTreeSet<u16> = old.ports.keys().chain(new.ports.keys()).copied().collect();
    let flags = ports.iter().map(|&port| (port, old.flags(port), new.flags(port)));
    // A port has the flags of both contents until every entry of both is in place.
    ops.extend(flags.clone().map(|(port, old, new)| (port, old, old | new)).filter_map(set_port));
    ops.extend(flags.map(|(port, old, new)| (port, old | new, new)).filter_map(set_port));
    ops.extend(old.exact.difference(&new.exact).copied().map(MapOp::RemoveExact));
    ops.extend(old.prefixes.difference(&new.prefixes).copied().map(MapOp::RemovePrefix));
    ops
}

fn set_port((port, from, to): (u16, u32, u32)) -> Option<MapOp> {
    (from != to).then_some(MapOp::SetPort { port, from, to })
}

/// Family and address as the keys hold them.
const fn key_address(addr: IpAddr) -> (u8, Words) {
    match addr {
        IpAddr::V4(addr) => (FAMILY_V4, words_of_ipv4(addr.octets())),
        IpAddr::V6(addr) => (FAMILY_V6, words_of_ipv6(addr.octets())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    /// The lookup as the kernel program does it.
    fn matches(content: &MapContent, addr: IpAddr, port: u16) -> bool {
        let (family, words) = key_address(addr);
        let flags = content.flags(port);
        if flags & PORT_EXACT != 0 && content.exact.contains(&TargetKey::new(family, words, port)) {
            return true;
        }
        let longest = IpNet::from(addr).prefix_len();
        flags & PORT_PREFIX != 0
            && (0..=longest).any(|len| {
                let (_, masked) = key_address(IpNet::new(addr, len).unwrap().network());
                let bits = PREFIX_KEY_HEAD_BITS + u32::from(len);
                content.prefixes.contains(&Prefix { bits, key: PrefixKey::new(family, masked, port) })
            })
    }

    fn execute(content: &mut MapContent, op: MapOp) {
        match op {
            MapOp::InsertExact(key) => assert!(content.exact.insert(key), "{op:?} twice"),
            MapOp::RemoveExact(key) => assert!(content.exact.remove(&key), "{op:?} of nothing"),
            MapOp::InsertPrefix(prefix) => assert!(content.prefixes.insert(prefix), "{op:?} twice"),
            MapOp::RemovePrefix(prefix) => assert!(content.prefixes.remove(&prefix), "{op:?} of nothing"),
            MapOp::SetPort { port, from, to } => {
                assert_eq!(content.flags(port), from, "{op:?}");
                content.ports.insert(port, to);
                content.ports.retain(|_, flags| *flags != 0);
            }
        }
    }

    fn contains(endpoints: &BTreeSet<SteeredEndpoint>, addr: IpAddr, port: u16) -> bool {
        endpoints.iter().any(|endpoint| endpoint.port == port && endpoint.net.contains(&addr))
    }

    // Few addresses and ports, so that sets meet.
    fn net() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (0u8..4, 0u8..4, 24u8..=32)
                .prop_map(|(c, d, len)| IpNet::V4(Ipv4Net::new([10, 0, c, d].into(), len).unwrap().trunc())),
            (0u16..4, 0u16..4, 96u8..=128).prop_map(|(c, d, len)| IpNet::V6(
                Ipv6Net::new([0x2001, 0xdb8, 0, 0, 0, 0, c, d].into(), len).unwrap().trunc()
            )),
            Just("0.0.0.0/0".parse().unwrap()),
            Just("::/0".parse().unwrap()),
        ]
    }

    fn endpoints() -> impl Strategy<Value = BTreeSet<SteeredEndpoint>> {
        proptest::collection::btree_set(
            (net(), 22u16..26).prop_map(|(net, port)| SteeredEndpoint { net, port }),
            0..12,
        )
    }

    fn probes() -> Vec<(IpAddr, u16)> {
        let v4 = (0u8..4).flat_map(|c| (0u8..4).map(move |d| IpAddr::from([10, 0, c, d])));
        let v6 =
            (0u16..4).flat_map(|c| (0u16..4).map(move |d| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, c, d])));
        let far = ["192.0.2.1".parse().unwrap(), "2001:db8:9::1".parse().unwrap()];
        v4.chain(v6).chain(far).flat_map(|addr| (22u16..26).map(move |port| (addr, port))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn content_matches_exactly_the_endpoints(set in endpoints()) {
            let content = MapContent::of(&set);
            prop_assert_eq!(content.endpoints(), set.len());
            for (addr, port) in probes() {
                prop_assert_eq!(matches(&content, addr, port), contains(&set, addr, port), "{} {}", addr, port);
                let any = set.iter().any(|endpoint| endpoint.net.contains(&addr));
                prop_assert_eq!(matches(&content, addr, ANY_PORT), any, "{}", addr);
            }
        }

        #[test]
        fn what_stays_a_target_is_one_at_every_step(old in endpoints(), new in endpoints()) {
            let (mut content, wanted) = (MapContent::of(&old), MapContent::of(&new));
            for op in plan(&content, &wanted) {
                execute(&mut content, op);
                for (addr, port) in probes() {
                    let (before, after) = (contains(&old, addr, port), contains(&new, addr, port));
                    let now = matches(&content, addr, port);
                    prop_assert!(now || !(before && after), "{op:?} loses {addr} {port}");
                    prop_assert!(!now || before || after, "{op:?} invents {addr} {port}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn plan_leads_from_old_to_new(old in endpoints(), new in endpoints()) {
            let (mut content, wanted) = (MapContent::of(&old), MapContent::of(&new));
            for op in plan(&content, &wanted) {
                execute(&mut content, op);
            }
            prop_assert_eq!(content, wanted);
        }

        #[test]
        fn additions_precede_removals(old in endpoints(), new in endpoints()) {
            let ops = plan(&MapContent::of(&old), &MapContent::of(&new));
            let adds = |op: &MapOp| matches!(op, MapOp::InsertExact(_) | MapOp::InsertPrefix(_));
            let removes = |op: &MapOp| matches!(op, MapOp::RemoveExact(_) | MapOp::RemovePrefix(_));
            let last_add = ops.iter().rposition(adds);
            let first_removal = ops.iter().position(removes);
            if let (Some(add), Some(removal)) = (last_add, first_removal) {
                prop_assert!(add < removal);
            }
        }

        #[test]
        fn undoing_any_part_restores_the_old(old in endpoints(), new in endpoints(), part in any::<prop::sample::Index>()) {
            let before = MapContent::of(&old);
            let ops = plan(&before, &MapContent::of(&new));
            let done = &ops[..part.index(ops.len() + 1)];
            let mut content = before.clone();
            for op in done {
                execute(&mut content, *op);
            }
            for op in done.iter().rev() {
                execute(&mut content, op.inverse());
            }
            prop_assert_eq!(content, before);
        }
    }

    #[test]
    fn same_content_needs_nothing() {
        let set = BTreeSet::from([SteeredEndpoint { net: "10.0.0.0/8".parse().unwrap(), port: 22 }]);
        assert_eq!(plan(&MapContent::of(&set), &MapContent::of(&set)), []);
    }

    #[test]
    fn full_length_prefix_is_exact() {
        let set = BTreeSet::from([SteeredEndpoint { net: "10.1.2.3/32".parse().unwrap(), port: 22 }]);
        let content = MapContent::of(&set);
        assert!(content.prefixes.is_empty());
        assert_eq!(content.exact.len(), 2, "the endpoint and its address");
    }
}
