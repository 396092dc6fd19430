//! What the target maps must contain, and how to get there from what they contain.
//!
//! Pure: no map is touched here. Invariants of a plan, each a property test: executed in order it
//! turns the old content into the new one; while it is executed, entry by entry, every address has
//! either its old ports or its new ones, so what is a target before and after is a target all the
//! time, and nothing that is neither ever is one. That rests on these: the longest entry that matches
//! an address holds the ports of all prefixes above it; a set of ports that an entry names is never
//! changed, only left; the entries of the new content are put before the first of the old ones goes;
//! they are put from the longest to the shortest, so that an address never matches one that stands
//! above its own; and the old ones go from the shortest to the longest, for the same reason.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter::Peekable;
use std::net::IpAddr;

use ipnet::IpNet;
use portreeve_core::port::{PortRange, PortSet};
use portreeve_core::target::Steered;
use portreeve_ebpf::targets::{
    ALL_PORTS, FAMILY_V4, FAMILY_V6, MAX_ADDRESSES, MAX_PORT_SETS, MAX_PREFIXES, PREFIX_KEY_HEAD_BITS,
    PortBits, PortSetId, PrefixKey, TargetKey, words_of_ipv4, words_of_ipv6,
};

use super::DatapathError;

/// Content of the target maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapContent {
    /// The ports that any entry has.
    pub all_ports: PortSet,
    /// Sets of ports that entries name, without [`ALL_PORTS`].
    pub sets: BTreeMap<PortSetId, PortSet>,
    /// The hash.
    pub exact: BTreeMap<TargetKey, PortSetId>,
    /// The trie.
    pub prefixes: BTreeMap<PrefixKey, PortSetId>,
}

/// A part of a plan, to be done in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes sets of ports that no entry names.
    Sets(BTreeMap<PortSetId, PortSet>),
    /// Changes what any entry may have.
    AllPorts {
        /// Before.
        from: PortSet,
        /// After.
        to: PortSet,
    },
    /// Changes entries of the hash.
    Exact(Vec<Change<TargetKey>>),
    /// Changes entries of the trie.
    Prefixes(Vec<Change<PrefixKey>>),
}

/// A change of one entry, from one value to another; `None` is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<K> {
    /// Its key.
    pub key: K,
    /// Before.
    pub from: Option<PortSetId>,
    /// After.
    pub to: Option<PortSetId>,
}

impl MapContent {
    /// The content that makes exactly these targets, where `now` is in the maps: sets of ports that
    /// are there keep their index, and others get one that is free.
    ///
    /// # Errors
    /// When there is no room for so many addresses, prefixes or different sets of ports.
    pub fn of(steered: &Steered, now: &Self) -> Result<Self, DatapathError> {
        let mut sets = Sets::default();
        let (mut exact, mut prefixes) = (Vec::with_capacity(steered.len()), Vec::new());
        // In order of addresses, shorter prefixes first: what is above an entry was just before it.
        let mut above: Vec<(IpNet, usize)> = Vec::new();
        for (net, ports) in steered {
            while above.pop_if(|(outer, _)| !outer.contains(net)).is_some() {}
            let own = sets.index(ports);
            let set = above.last().map_or(own, |&(_, outer)| sets.union(own, outer));
            let key = key_of(net.network());
            if net.prefix_len() == net.max_prefix_len() {
                exact.push((key, set));
            } else {
                let bits = PREFIX_KEY_HEAD_BITS + u32::from(net.prefix_len());
                prefixes.push((PrefixKey { bits, key }, set));
                above.push((*net, set));
            }
        }
        fits("addresses", exact.len(), MAX_ADDRESSES)?;
        fits("prefixes", prefixes.len(), MAX_PREFIXES)?;
        let used: BTreeSet<usize> =
            exact.iter().map(|(_, set)| *set).chain(prefixes.iter().map(|(_, set)| *set)).collect();
        let ids = sets.ids(&used, now)?;
        let id = |set: usize| ids.get(&set).copied().unwrap_or(ALL_PORTS);
        Ok(Self {
            all_ports: used.iter().filter_map(|set| sets.ports.get(*set)).flat_map(PortSet::ranges).collect(),
            exact: exact.into_iter().map(|(key, set)| (key, id(set))).collect(),
            prefixes: prefixes.into_iter().map(|(key, set)| (key, id(set))).collect(),
            sets: ids.iter().filter_map(|(set, id)| Some((*id, sets.ports.get(*set)?.clone()))).collect(),
        })
    }

    /// Number of addresses and prefixes.
    pub fn entries(&self) -> usize {
        self.exact.len() + self.prefixes.len()
    }
}

/// Different sets of ports while a content is made, each once.
#[derive(Default)]
struct Sets {
    ports: Vec<PortSet>,
    indexes: HashMap<PortSet, usize>,
    unions: HashMap<(usize, usize), usize>,
    /// The last one asked for: neighbours mostly have the same ports.
    last: Option<(PortSet, usize)>,
}

impl Sets {
    fn index(&mut self, ports: &PortSet) -> usize {
        if let Some((last, index)) = &self.last
            && last == ports
        {
            return *index;
        }
        let index = *self.indexes.entry(ports.clone()).or_insert_with(|| {
            self.ports.push(ports.clone());
            self.ports.len() - 1
        });
        self.last = Some((ports.clone(), index));
        index
    }

    fn union(&mut self, own: usize, outer: usize) -> usize {
        if own == outer {
            return own;
        }
        if let Some(index) = self.unions.get(&(own, outer)) {
            return *index;
        }
        let ports =
            [own, outer].iter().filter_map(|set| self.ports.get(*set)).flat_map(PortSet::ranges).collect();
        let index = self.index(&ports);
        self.unions.insert((own, outer), index);
        index
    }

    /// Where the kernel keeps the sets that are used: where they are now, else where nothing is.
    fn ids(
        &self,
        used: &BTreeSet<usize>,
        now: &MapContent,
    ) -> Result<BTreeMap<usize, PortSetId>, DatapathError> {
        fits("different sets of ports", used.len(), PORT_SETS)?;
        let there: HashMap<&PortSet, PortSetId> = now.sets.iter().map(|(id, ports)| (ports, *id)).collect();
        let mut free = (ALL_PORTS + 1..MAX_PORT_SETS).filter(|id| !now.sets.contains_key(id));
        let id = |set: &usize| {
            let id = self.ports.get(*set).and_then(|ports| there.get(ports).copied()).or_else(|| free.next());
            Ok((
                *set,
                id.ok_or(DatapathError::TooMany { what: "different sets of ports", limit: PORT_SETS })?,
            ))
        };
        used.iter().map(id).collect()
    }
}

/// Sets that a content may have, so that those of two fit.
const PORT_SETS: u32 = (MAX_PORT_SETS - 1) / 2;

fn fits(what: &'static str, count: usize, limit: u32) -> Result<(), DatapathError> {
    if u32::try_from(count).is_ok_and(|count| count <= limit) {
        return Ok(());
    }
    Err(DatapathError::TooMany { what, limit })
}

impl Step {
    /// The step that undoes this one, whether all of it was done or only a part.
    pub fn inverse(self) -> Self {
        match self {
            // No entry names them.
            Self::Sets(_) => Self::Sets(BTreeMap::new()),
            Self::AllPorts { from, to } => Self::AllPorts { from: to, to: from },
            Self::Exact(changes) => Self::Exact(inverse(changes)),
            Self::Prefixes(changes) => Self::Prefixes(inverse(changes)),
        }
    }
}

fn inverse<K>(changes: Vec<Change<K>>) -> Vec<Change<K>> {
    let inverse = |change: Change<K>| Change { key: change.key, from: change.to, to: change.from };
    changes.into_iter().rev().map(inverse).collect()
}

/// The steps that turn `old` into `new`, which was made for it.
pub fn plan(old: &MapContent, new: &MapContent) -> Vec<Step> {
    let sets = new.sets.iter().filter(|(id, _)| !old.sets.contains_key(id));
    let sets = sets.map(|(id, ports)| (*id, ports.clone())).collect::<BTreeMap<_, _>>();
    let both = old.all_ports.union(&new.all_ports);
    let (exact_puts, exact_removals) = differences(&old.exact, &new.exact);
    // In the order of their keys, shorter ones come first.
    let (mut prefix_puts, prefix_removals) = differences(&old.prefixes, &new.prefixes);
    prefix_puts.reverse();
    let steps = [
        Step::Sets(sets),
        Step::AllPorts { from: old.all_ports.clone(), to: both.clone() },
        Step::Exact(exact_puts),
        Step::Prefixes(prefix_puts),
        Step::Prefixes(prefix_removals),
        Step::Exact(exact_removals),
        Step::AllPorts { from: both, to: new.all_ports.clone() },
    ];
    steps.into_iter().filter(|step| !is_empty(step)).collect()
}

fn is_empty(step: &Step) -> bool {
    match step {
        Step::Sets(sets) => sets.is_empty(),
        Step::AllPorts { from, to } => from == to,
        Step::Exact(changes) => changes.is_empty(),
        Step::Prefixes(changes) => changes.is_empty(),
    }
}

/// What is to be put and what is to be removed.
type Differences<K> = (Vec<Change<K>>, Vec<Change<K>>);

/// Walks both in the order of their keys.
fn differences<K: Ord + Copy>(old: &BTreeMap<K, PortSetId>, new: &BTreeMap<K, PortSetId>) -> Differences<K> {
    let (mut puts, mut removals) = (Vec::new(), Vec::new());
    let mut old = old.iter().map(|(key, id)| (*key, *id)).peekable();
    for (key, to) in new {
        removals.extend(std::iter::from_fn(|| old.next_if(|(old, _)| old < key)).map(removal));
        let from = take(&mut old, key);
        if from != Some(*to) {
            puts.push(Change { key: *key, from, to: Some(*to) });
        }
    }
    removals.extend(old.map(removal));
    (puts, removals)
}

fn take<K: Ord>(old: &mut Peekable<impl Iterator<Item = (K, PortSetId)>>, key: &K) -> Option<PortSetId> {
    old.next_if(|(old, _)| old == key).map(|(_, id)| id)
}

fn removal<K>((key, id): (K, PortSetId)) -> Change<K> {
    Change { key, from: Some(id), to: None }
}

/// Family and address as the keys hold them.
const fn key_of(addr: IpAddr) -> TargetKey {
    match addr {
        IpAddr::V4(addr) => TargetKey::new(FAMILY_V4, words_of_ipv4(addr.octets())),
        IpAddr::V6(addr) => TargetKey::new(FAMILY_V6, words_of_ipv6(addr.octets())),
    }
}

/// The bits of a set of ports, as the kernel programs read them.
pub fn bits(ports: &PortSet) -> PortBits {
    let mut bits = PortBits::EMPTY;
    ports.ranges().flat_map(|range| range.first()..=range.last()).for_each(|port| bits.insert(port));
    bits
}

/// The ports of a set, read back.
pub fn ports(bits: &PortBits) -> PortSet {
    (1..=u16::MAX)
        .filter(|port| bits.contains(*port))
        .filter_map(|port| PortRange::new(port, port).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    /// The lookup as the kernel program does it.
    fn matches(content: &MapContent, addr: IpAddr, port: u16) -> bool {
        let key = key_of(addr);
        let longest = IpNet::from(addr).prefix_len();
        let prefix = |len| {
            let bits = PREFIX_KEY_HEAD_BITS + u32::from(len);
            PrefixKey { bits, key: key_of(IpNet::new(addr, len).unwrap().network()) }
        };
        let found = content
            .exact
            .get(&key)
            .or_else(|| (0..=longest).rev().find_map(|len| content.prefixes.get(&prefix(len))));
        content.all_ports.contains(port) && found.is_some_and(|id| content.sets[id].contains(port))
    }

    fn execute_changes<K: Ord + Copy>(entries: &mut BTreeMap<K, PortSetId>, change: Change<K>) {
        match change.to {
            Some(id) => entries.insert(change.key, id),
            None => entries.remove(&change.key),
        };
    }

    /// Does the part of a step that changes one entry at most.
    fn execute(content: &mut MapContent, step: &Step, at: usize) {
        match step {
            Step::Sets(sets) => {
                let named: BTreeSet<_> = content.exact.values().chain(content.prefixes.values()).collect();
                assert!(sets.keys().all(|id| !named.contains(id)), "{sets:?} changes what is named");
                content.sets.extend(sets.clone());
            }
            Step::AllPorts { to, .. } => content.all_ports = to.clone(),
            Step::Exact(changes) => execute_changes(&mut content.exact, changes[at]),
            Step::Prefixes(changes) => execute_changes(&mut content.prefixes, changes[at]),
        }
    }

    fn parts(step: &Step) -> usize {
        match step {
            Step::Sets(_) | Step::AllPorts { .. } => 1,
            Step::Exact(changes) => changes.len(),
            Step::Prefixes(changes) => changes.len(),
        }
    }

    fn execute_all(content: &mut MapContent, steps: &[Step]) {
        for step in steps {
            for at in 0..parts(step) {
                execute(content, step, at);
            }
        }
    }

    /// What counts of a content: sets that nothing names are left over.
    fn named(mut content: MapContent) -> MapContent {
        let used: BTreeSet<_> = content.exact.values().chain(content.prefixes.values()).copied().collect();
        content.sets.retain(|id, _| used.contains(id));
        content
    }

    fn contains(steered: &Steered, addr: IpAddr, port: u16) -> bool {
        steered.iter().any(|(net, ports)| net.contains(&addr) && ports.contains(port))
    }

    fn content(steered: &Steered) -> MapContent {
        MapContent::of(steered, &MapContent::default()).unwrap()
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

    fn port_set() -> impl Strategy<Value = PortSet> {
        proptest::collection::vec((22u16..26, 0u16..3), 1..3).prop_map(|ranges| {
            ranges.into_iter().map(|(first, more)| PortRange::new(first, first + more).unwrap()).collect()
        })
    }

    fn steered() -> impl Strategy<Value = Steered> {
        proptest::collection::btree_map(net(), port_set(), 0..12)
    }

    fn probes() -> Vec<(IpAddr, u16)> {
        let v4 = (0u8..4).flat_map(|c| (0u8..4).map(move |d| IpAddr::from([10, 0, c, d])));
        let v6 =
            (0u16..4).flat_map(|c| (0u16..4).map(move |d| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, c, d])));
        let far = ["192.0.2.1".parse().unwrap(), "2001:db8:9::1".parse().unwrap()];
        v4.chain(v6).chain(far).flat_map(|addr| (21u16..29).map(move |port| (addr, port))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn content_matches_exactly_the_targets(set in steered()) {
            let content = content(&set);
            prop_assert_eq!(content.entries(), set.len());
            for (addr, port) in probes() {
                prop_assert_eq!(matches(&content, addr, port), contains(&set, addr, port), "{} {}", addr, port);
            }
        }

        #[test]
        fn what_stays_a_target_is_one_at_every_step(first in steered(), old in steered(), new in steered()) {
            let mut now = content(&first);
            let old_content = MapContent::of(&old, &now).unwrap();
            let steps = plan(&now, &old_content);
            execute_all(&mut now, &steps);
            now = named(now);
            prop_assert_eq!(&now, &old_content);
            let wanted = MapContent::of(&new, &now).unwrap();
            for step in plan(&old_content, &wanted) {
                for at in 0..parts(&step) {
                    execute(&mut now, &step, at);
                    for (addr, port) in probes() {
                        let (before, after) = (contains(&old, addr, port), contains(&new, addr, port));
                        let hit = matches(&now, addr, port);
                        prop_assert!(hit || !(before && after), "{step:?} at {at} loses {addr} {port}");
                        prop_assert!(!hit || before || after, "{step:?} at {at} invents {addr} {port}");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn plan_leads_from_old_to_new(old in steered(), new in steered()) {
            let old = content(&old);
            let wanted = MapContent::of(&new, &old).unwrap();
            let mut now = old.clone();
            execute_all(&mut now, &plan(&old, &wanted));
            prop_assert_eq!(named(now), wanted);
        }

        #[test]
        fn undoing_any_part_restores_the_old(old in steered(), new in steered(), part in any::<prop::sample::Index>()) {
            let before = content(&old);
            let steps = plan(&before, &MapContent::of(&new, &before).unwrap());
            let mut now = before.clone();
            let done = part.index(steps.len() + 1);
            execute_all(&mut now, &steps[..done]);
            if let Some(half) = steps.get(done) {
                (0..parts(half) / 2).for_each(|at| execute(&mut now, half, at));
            }
            for step in steps.into_iter().take(done + 1).rev() {
                execute_all(&mut now, &[step.inverse()]);
            }
            prop_assert_eq!(named(now), before);
        }

        #[test]
        fn bits_say_what_the_set_says(set in port_set()) {
            prop_assert_eq!(ports(&bits(&set)), set);
        }
    }

    fn one(net: &str, ports: &str) -> Steered {
        let ports = ports.split(',').map(|range| range.parse::<PortRange>().unwrap()).collect();
        Steered::from([(net.parse().unwrap(), ports)])
    }

    #[test]
    fn same_content_needs_nothing() {
        let set = one("10.0.0.0/8", "22");
        let now = content(&set);
        assert_eq!(plan(&now, &MapContent::of(&set, &now).unwrap()), []);
    }

    #[test]
    fn full_length_prefix_is_exact() {
        let content = content(&one("10.1.2.3/32", "22"));
        assert!(content.prefixes.is_empty());
        assert_eq!(content.exact.len(), 1);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let sets: Steered = (1u16..=300)
            .map(|n| {
                let [high, low] = n.to_be_bytes();
                (Ipv4Net::new([10, 0, high, low].into(), 32).unwrap().into(), PortSet::of(n).unwrap())
            })
            .collect();
        let error = MapContent::of(&sets, &MapContent::default()).unwrap_err().to_string();
        assert!(error.contains("different sets of ports") && error.contains("127"), "{error}");
        assert!(fits("addresses", 1 << 20, MAX_ADDRESSES).is_ok());
        let error = fits("addresses", (1 << 20) + 1, MAX_ADDRESSES).unwrap_err().to_string();
        assert!(error.contains("1048576 addresses"), "{error}");
    }
}
