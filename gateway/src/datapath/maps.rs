//! The maps, and the only file with aya's map types.
//!
//! Executes plans, reads content back, sums counters. Decides nothing.
//!
//! Entries are written one by one: aya 0.14 has no batch update. The hash holds 2^18 entries: each
//! address takes one, and one more for each of its ports, so 131,072 exact targets fit at one port
//! each; the trie holds 2^16, counted the same way. To fill the hash takes a second or two.

use std::collections::{BTreeMap, BTreeSet};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, SockMap};
use portreeve_ebpf::names;
use portreeve_ebpf::stats::Reason;
use portreeve_ebpf::targets::{PRESENT, PrefixKey, TargetKey};

use super::DatapathError;
use super::pins::Pins;
use super::plan::{MapContent, MapOp, Prefix};
use crate::listener::socket::Listeners;

/// The pinned maps.
pub(super) struct Maps {
    targets: HashMap<MapData, TargetKey, u8>,
    prefixes: LpmTrie<MapData, PrefixKey, u8>,
    ports: Array<MapData, u32>,
    listeners: SockMap<MapData>,
    stats: PerCpuArray<MapData, u64>,
}

fn failed(name: &'static str) -> impl Fn(MapError) -> DatapathError {
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
            ports: map(names::PORTS)?.try_into().map_err(failed(names::PORTS))?,
            listeners: map(names::LISTENERS)?.try_into().map_err(failed(names::LISTENERS))?,
            stats: map(names::STATS)?.try_into().map_err(failed(names::STATS))?,
        })
    }

    /// Makes the listeners the ones that take steered connections.
    pub(super) fn set_listeners(&mut self, listeners: &Listeners) -> Result<(), DatapathError> {
        let failed = failed(names::LISTENERS);
        self.listeners.set(names::SLOT_V4, &listeners.v4(), 0).map_err(&failed)?;
        self.listeners.set(names::SLOT_V6, &listeners.v6(), 0).map_err(&failed)
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

    /// Executes one operation of a plan.
    pub(super) fn execute(&mut self, op: MapOp) -> Result<(), DatapathError> {
        match op {
            MapOp::InsertExact(key) => self.targets.insert(key, PRESENT, 0).map_err(failed(names::TARGETS)),
            MapOp::RemoveExact(key) => self.targets.remove(&key).map_err(failed(names::TARGETS)),
            MapOp::InsertPrefix(prefix) => {
                self.prefixes.insert(&trie_key(prefix), PRESENT, 0).map_err(failed(names::PREFIXES))
            }
            MapOp::RemovePrefix(prefix) => {
                self.prefixes.remove(&trie_key(prefix)).map_err(failed(names::PREFIXES))
            }
            MapOp::SetPort { port, to, .. } => {
                self.ports.set(u32::from(port), to, 0).map_err(failed(names::PORTS))
            }
        }
    }

    /// Reads what the target maps contain.
    pub(super) fn content(&self) -> Result<MapContent, DatapathError> {
        let mut ports = BTreeMap::new();
        for port in 0..=u16::MAX {
            let flags = self.ports.get(&u32::from(port), 0).map_err(failed(names::PORTS))?;
            if flags != 0 {
                ports.insert(port, flags);
            }
        }
        Ok(MapContent { ports, ..self.keys()? })
    }

    /// Reads the keys alone, without the flags of the ports.
    pub(super) fn keys(&self) -> Result<MapContent, DatapathError> {
        let exact: Result<BTreeSet<_>, _> = self.targets.keys().collect();
        let prefixes: Result<BTreeSet<_>, _> = self
            .prefixes
            .keys()
            .map(|key| key.map(|key| Prefix { bits: key.prefix_len(), key: key.data() }))
            .collect();
        Ok(MapContent {
            exact: exact.map_err(failed(names::TARGETS))?,
            prefixes: prefixes.map_err(failed(names::PREFIXES))?,
            ports: BTreeMap::new(),
        })
    }

    /// Packets by what became of them, summed over the CPUs, since the maps were made.
    pub(super) fn counters(&self) -> Result<Vec<(&'static str, u64)>, DatapathError> {
        Reason::ALL
            .iter()
            .map(|reason| {
                let values = self.stats.get(&reason.index(), 0).map_err(failed(names::STATS))?;
                Ok((reason.name(), values.iter().sum()))
            })
            .collect()
    }
}

fn trie_key(prefix: Prefix) -> Key<PrefixKey> {
    Key::new(prefix.bits, prefix.key)
}
