//! The maps, and the only file with aya's map types.
//!
//! Executes plans, reads content back, sums counters. Decides nothing.
//!

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, IterableMap as _, Map, MapData, MapError, PerCpuArray, SockMap};
use aya::{Ebpf, Pod};
use portreeve_core::port::PortSet;
use portreeve_ebpf::names;
use portreeve_ebpf::stats::Reason;
use portreeve_ebpf::targets::{ALL_PORTS, ANY_TARGET, PortBits, PortSetId, PrefixKey, TargetKey};

use super::DatapathError;
use super::batch::Batch;
use super::pins::Pins;
use super::plan::{Change, MapContent, Step, bits, ports};
use super::rules::Rules;
use crate::listener::socket::ListenerFds;

/// The pinned maps.
pub(super) struct Maps {
    targets: HashMap<MapData, TargetKey, PortSetId>,
    prefixes: LpmTrie<MapData, TargetKey, PortSetId>,
    port_sets: Array<MapData, PortBits>,
    listeners: SockMap<MapData>,
    stats: PerCpuArray<MapData, u64>,
    pub(super) rules: Rules,
}

pub(super) fn failed(name: &'static str) -> impl Fn(MapError) -> DatapathError {
    move |source| DatapathError::Map { name, source: Box::new(source) }
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Self::open(|name| ebpf.take_map(name).ok_or(DatapathError::MissingInObject { name }))
    }

    /// Opens the pinned maps, without the programs.
    pub(super) fn from_pins(pins: &Pins) -> Result<Self, DatapathError> {
        Self::open(|name| {
            MapData::from_pin(pins.map(name)).and_then(Map::from_map_data).map_err(failed(name))
        })
    }

    fn open(mut map: impl FnMut(&'static str) -> Result<Map, DatapathError>) -> Result<Self, DatapathError> {
        Ok(Self {
            targets: map(names::TARGETS)?.try_into().map_err(failed(names::TARGETS))?,
            prefixes: map(names::PREFIXES)?.try_into().map_err(failed(names::PREFIXES))?,
            port_sets: map(names::PORT_SETS)?.try_into().map_err(failed(names::PORT_SETS))?,
            listeners: map(names::LISTENERS)?.try_into().map_err(failed(names::LISTENERS))?,
            stats: map(names::STATS)?.try_into().map_err(failed(names::STATS))?,
            rules: Rules::open(map)?,
        })
    }

    /// Makes the listeners the ones that take steered connections.
    pub(super) fn set_listeners(&mut self, listeners: ListenerFds<'_>) -> Result<(), DatapathError> {
        let failed = failed(names::LISTENERS);
        self.listeners.set(names::SLOT_V4, &listeners.v4, 0).map_err(&failed)?;
        self.listeners.set(names::SLOT_V6, &listeners.v6, 0).map_err(&failed)
    }

    /// Empties the slots of the listeners; those that are empty stay so. Each is tried, and the
    /// first error returned.
    pub(super) fn clear_listeners(&mut self) -> Result<(), DatapathError> {
        let mut clear = |slot| match self.listeners.clear_index(&slot) {
            // EINVAL is what the kernel says of a slot that is empty.
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(nix::libc::EINVAL) =>
            {
                Ok(())
            }
            result => result.map_err(failed(names::LISTENERS)),
        };
        let (v4, v6) = (clear(names::SLOT_V4), clear(names::SLOT_V6));
        v4.and(v6)
    }

    /// Executes one step of a plan; what fails may be done in part.
    pub(super) fn execute(&mut self, step: &Step) -> Result<(), DatapathError> {
        match step {
            Step::Sets(sets) => sets.iter().try_for_each(|(id, ports)| self.write_set(*id, bits(ports))),
            Step::AllPorts { to, .. } => {
                let mut all = bits(to);
                if !to.is_empty() {
                    all.insert(ANY_TARGET);
                }
                self.write_set(ALL_PORTS, all)
            }
            Step::Exact(changes) => change(&self.exact(), changes).map_err(failed_batch(names::TARGETS)),
            Step::Prefixes(changes) => change(&self.trie(), changes).map_err(failed_batch(names::PREFIXES)),
        }
    }

    /// Reads what the target maps contain.
    pub(super) fn content(&self) -> Result<MapContent, DatapathError> {
        let (exact, prefixes) = self.entries()?;
        let mut sets = BTreeMap::new();
        for id in exact.values().chain(prefixes.values()) {
            if !sets.contains_key(id) {
                sets.insert(*id, self.read_set(*id)?);
            }
        }
        Ok(MapContent { all_ports: self.read_set(ALL_PORTS)?, sets, exact, prefixes })
    }

    /// Reads how many addresses and prefixes there are.
    pub(super) fn count(&self) -> Result<usize, DatapathError> {
        let (exact, prefixes) = self.entries()?;
        Ok(exact.len() + prefixes.len())
    }

    fn entries(&self) -> Result<Entries, DatapathError> {
        let exact = self.exact().entries::<u32>().map_err(failed_batch(names::TARGETS))?;
        let prefixes = self.trie().entries::<PrefixKey>().map_err(failed_batch(names::PREFIXES))?;
        Ok((exact.into_iter().collect(), prefixes.into_iter().collect()))
    }

    fn exact(&self) -> Batch<'_, TargetKey, PortSetId> {
        Batch::new(self.targets.map().fd().as_fd())
    }

    fn trie(&self) -> Batch<'_, PrefixKey, PortSetId> {
        Batch::new(self.prefixes.map().fd().as_fd())
    }

    fn write_set(&mut self, id: PortSetId, bits: PortBits) -> Result<(), DatapathError> {
        self.port_sets.set(id, bits, 0).map_err(failed(names::PORT_SETS))
    }

    fn read_set(&self, id: PortSetId) -> Result<PortSet, DatapathError> {
        self.port_sets.get(&id, 0).map(|bits| ports(&bits)).map_err(failed(names::PORT_SETS))
    }

    /// Packets by what became of them, summed over the CPUs, since the maps were made.
    pub(super) fn counters(&self) -> Result<Vec<(&'static str, u64)>, DatapathError> {
        Reason::ALL.iter().map(|reason| Ok((reason.name(), self.counter(reason.index())?))).collect()
    }

    /// One counter by its index, summed over the CPUs.
    pub(super) fn counter(&self, index: u32) -> Result<u64, DatapathError> {
        let values = self.stats.get(&index, 0).map_err(failed(names::STATS))?;
        Ok(values.iter().sum())
    }
}

/// Content of hash and trie.
type Entries = (BTreeMap<TargetKey, PortSetId>, BTreeMap<PrefixKey, PortSetId>);

/// Puts what has a new value, then removes what has none.
fn change<K: Pod + Default>(map: &Batch<'_, K, PortSetId>, changes: &[Change<K>]) -> io::Result<()> {
    let (keys, values): (Vec<K>, Vec<PortSetId>) =
        changes.iter().filter_map(|change| Some((change.key, change.to?))).unzip();
    map.update(&keys, &values)?;
    let removed: Vec<K> =
        changes.iter().filter(|change| change.to.is_none()).map(|change| change.key).collect();
    map.delete(&removed)
}

fn failed_batch(name: &'static str) -> impl Fn(io::Error) -> DatapathError {
    move |source| DatapathError::Batch { name, source }
}
