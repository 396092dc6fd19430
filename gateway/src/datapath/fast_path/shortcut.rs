//! Says for how long the main routing table decides, so that the program need not ask all rules for each packet.
//!
//! It is said for [`VALID`], again at every look, and taken back at the look that an event of rules or
//! addresses brings. With nobody to say it again, because the daemon is gone or hangs, it ends by itself.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::{Ebpf, Pod};
use nix::time::{ClockId, clock_gettime};
use portreeve_ebpf::fast_path::Routing;
use portreeve_ebpf::names;
use portreeve_ebpf::targets::Words;

use super::super::DatapathError;
use super::error::FastPathError;
use super::maps::failed;
use super::routing::only_main;

/// Three times as long as looks are apart.
const VALID: Duration = Duration::from_secs(15);

/// The maps that say it.
pub(super) struct Shortcut {
    until: Array<MapData, u64>,
    v4: HashMap<MapData, u32, u8>,
    v6: HashMap<MapData, Words, u8>,
}

impl Shortcut {
    /// Takes the maps out of a loaded object.
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let mut map = |name| ebpf.take_map(name).ok_or(DatapathError::MissingInObject { name });
        let until: Map = map(names::FAST_MAIN_UNTIL)?;
        Ok(Self {
            until: until.try_into().map_err(failed(names::FAST_MAIN_UNTIL))?,
            v4: map(names::FAST_LOCAL_V4)?.try_into().map_err(failed(names::FAST_LOCAL_V4))?,
            v6: map(names::FAST_LOCAL_V6)?.try_into().map_err(failed(names::FAST_LOCAL_V6))?,
        })
    }

    /// Looks at rules and local addresses, and says what came of it; after an error it may hold on for
    /// [`VALID`].
    pub(super) fn look(&mut self) -> Result<(), FastPathError> {
        for routing in [Routing::V4, Routing::V6] {
            match only_main(routing) {
                Ok(Some(local)) => {
                    let filled = match routing {
                        Routing::V4 => {
                            let local = local.into_iter().map(|[first, ..]| first).collect();
                            fill(&mut self.v4, &local).map_err(failed(names::FAST_LOCAL_V4))
                        }
                        Routing::V6 => fill(&mut self.v6, &local).map_err(failed(names::FAST_LOCAL_V6)),
                    };
                    // What is half done is not to be used.
                    let until = if filled.is_ok() { now().saturating_add(VALID) } else { Duration::ZERO };
                    self.say(routing, until)?;
                    filled?;
                }
                Ok(None) => self.say(routing, Duration::ZERO)?,
                Err(error) => {
                    tracing::debug!(%error, ?routing, "routing rules cannot be read: all are asked for each packet");
                    self.say(routing, Duration::ZERO)?;
                }
            }
        }
        Ok(())
    }

    fn say(&mut self, routing: Routing, until: Duration) -> Result<(), FastPathError> {
        let until = u64::try_from(until.as_nanos()).unwrap_or(0);
        self.until.set(routing as u32, until, 0).map_err(failed(names::FAST_MAIN_UNTIL))
    }
}

/// The clock that the program reads; zero, which is over, when there is none.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// Makes exactly `wanted` the keys; new ones are there before others go.
fn fill<K: Pod + Eq + Hash + Ord>(
    map: &mut HashMap<MapData, K, u8>,
    wanted: &BTreeSet<K>,
) -> Result<(), MapError> {
    let there = map.keys().collect::<Result<BTreeSet<_>, _>>()?;
    wanted.difference(&there).try_for_each(|key| map.insert(key, 0, 0))?;
    there.difference(wanted).try_for_each(|key| map.remove(key))
}
