//! The maps of the fast path, made to hold what is wanted.

use std::collections::BTreeMap;

use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::{Ebpf, Pod};
use portreeve_ebpf::fast_path::{FastInterface, FastPathReason, Vlan, slot};
use portreeve_ebpf::names;

use super::super::DatapathError;
use super::super::pins::Pins;
use super::error::FastPathError;

/// What stands in a slot without an interface.
const NONE: FastInterface = FastInterface { index: 0, mac: [0; 3], flags: 0 };

/// The pinned maps.
pub(super) struct Maps {
    slots: Array<MapData, FastInterface>,
    egresses: DevMapHash<MapData>,
    vlans: HashMap<MapData, Vlan, FastInterface>,
    tags: HashMap<MapData, u32, Vlan>,
    stats: PerCpuArray<MapData, u64>,
}

/// An error of the map of this name.
pub(super) fn failed(name: &'static str) -> impl Fn(MapError) -> FastPathError {
    move |source| FastPathError::Map { name, source: Box::new(source) }
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Self::open(|name| ebpf.take_map(name).ok_or(DatapathError::MissingInObject { name }))
    }

    /// Opens the pinned maps, without the program.
    pub(super) fn from_pins(pins: &Pins) -> Result<Self, DatapathError> {
        Self::open(|name| {
            let map = MapData::from_pin(pins.map(name)).and_then(Map::from_map_data);
            map.map_err(|source| failed(name)(source).into())
        })
    }

    fn open(mut map: impl FnMut(&'static str) -> Result<Map, DatapathError>) -> Result<Self, DatapathError> {
        Ok(Self {
            slots: map(names::FAST_SLOTS)?.try_into().map_err(failed(names::FAST_SLOTS))?,
            egresses: map(names::FAST_EGRESSES)?.try_into().map_err(failed(names::FAST_EGRESSES))?,
            vlans: map(names::FAST_VLANS)?.try_into().map_err(failed(names::FAST_VLANS))?,
            tags: map(names::FAST_TAGS)?.try_into().map_err(failed(names::FAST_TAGS))?,
            stats: map(names::FAST_STATS)?.try_into().map_err(failed(names::FAST_STATS))?,
        })
    }

    /// Makes exactly `wanted`, by index, the interfaces that take part, with these VLANs on them. A way out is
    /// there before what comes in may take it, and goes after.
    pub(super) fn set(
        &mut self,
        wanted: &BTreeMap<u32, FastInterface>,
        vlans: &BTreeMap<Vlan, FastInterface>,
    ) -> Result<(), FastPathError> {
        let tags = vlans.iter().map(|(vlan, device)| (device.index, *vlan)).collect();
        add(&mut self.tags, &tags).map_err(failed(names::FAST_TAGS))?;
        let keys: BTreeMap<u32, u32> =
            wanted.iter().map(|(index, settings)| (settings.egress_key(*index), *index)).collect();
        for (key, index) in &keys {
            // The kernel takes an entry out with its interface.
            if !matches!(self.egresses.get(*key, 0), Ok(found) if found.if_index == *index) {
                let failed = |source| FastPathError::Egress { index: *index, source: Box::new(source) };
                self.egresses.insert(*key, *index, None, 0).map_err(failed)?;
            }
        }
        let failed_vlans = failed(names::FAST_VLANS);
        add(&mut self.vlans, vlans)
            .and_then(|()| remove_others(&mut self.vlans, vlans))
            .map_err(failed_vlans)?;
        let there = self.interfaces()?;
        for index in there.keys().filter(|index| !wanted.contains_key(index)) {
            self.put(slot(*index), &NONE)?;
        }
        for (index, settings) in wanted {
            if there.get(index) != Some(settings) {
                self.put(slot(*index), settings)?;
            }
        }
        let stale: Result<Vec<u32>, _> = self.egresses.keys().collect();
        for key in stale.map_err(failed(names::FAST_EGRESSES))?.iter().filter(|key| !keys.contains_key(key)) {
            match self.egresses.remove(*key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(source) => return Err(failed(names::FAST_EGRESSES)(source)),
            }
        }
        remove_others(&mut self.tags, &tags).map_err(failed(names::FAST_TAGS))
    }

    /// The interfaces that take part, by index.
    pub(super) fn interfaces(&self) -> Result<BTreeMap<u32, FastInterface>, FastPathError> {
        let found: Result<Vec<FastInterface>, _> = self.slots.iter().collect();
        let found = found.map_err(failed(names::FAST_SLOTS))?.into_iter().filter(|found| *found != NONE);
        Ok(found.map(|settings| (settings.index, settings)).collect())
    }

    fn put(&mut self, slot: u32, settings: &FastInterface) -> Result<(), FastPathError> {
        self.slots.set(slot, settings, 0).map_err(failed(names::FAST_SLOTS))
    }

    /// Frames by what became of them, summed over the CPUs, since the maps were made.
    pub(super) fn counters(&self) -> Result<Vec<(&'static str, u64)>, FastPathError> {
        FastPathReason::ALL
            .iter()
            .map(|reason| {
                let values = self.stats.get(&reason.index(), 0).map_err(failed(names::FAST_STATS))?;
                Ok((reason.name(), values.iter().sum()))
            })
            .collect()
    }
}

/// Puts in what is not there as it is wanted.
fn add<K: Pod + Ord, V: Pod + PartialEq>(
    map: &mut HashMap<MapData, K, V>,
    wanted: &BTreeMap<K, V>,
) -> Result<(), MapError> {
    for (key, value) in wanted {
        if !matches!(map.get(key, 0), Ok(found) if found == *value) {
            map.insert(key, value, 0)?;
        }
    }
    Ok(())
}

/// Takes out what is not wanted.
fn remove_others<K: Pod + Ord, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    wanted: &BTreeMap<K, V>,
) -> Result<(), MapError> {
    let there = map.keys().collect::<Result<Vec<K>, _>>()?;
    there.iter().filter(|key| !wanted.contains_key(key)).try_for_each(|key| map.remove(key))
}
