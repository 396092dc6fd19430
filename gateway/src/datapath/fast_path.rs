//! The fast path: forwards what is no target's without the stack, where that is switched on.
//!
//! Invariants: off unless configured; an interface takes part only while nothing that it would skip is
//! there (unless that is configured too), which is looked at again and again; what takes no part goes
//! through the stack as ever. Nothing here closes or opens targets: the program leaves them to TC.
//!
//! Links and maps are pinned like those of steering, so a daemon that dies leaves the fast path on.

mod device;
mod error;
mod firewall;
mod link;
mod maps;
mod routing;
mod shortcut;
mod vlan;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aya::Ebpf;
use aya::programs::Xdp;
use aya::util::KernelVersion;
use nix::net::if_::if_indextoname;
use portreeve_core::config::daemon::{DatapathConfig, FastPathMode};
use portreeve_ebpf::fast_path::{FastInterface, Vlan, slot};
use portreeve_ebpf::names;

pub use self::error::FastPathError;
pub use self::firewall::Obstacle;

use self::device::Device;
use self::maps::Maps;
use self::shortcut::Shortcut;
use super::DatapathError;
use super::pins::Pins;
use crate::telemetry::with_causes;

/// How long a start waits for interfaces that removed links still hold, in all a second.
const LETTING_GO: Duration = Duration::from_millis(20);
const LETTING_GO_TRIES: u32 = 50;

/// The fast path of a running daemon.
pub(super) struct FastPath {
    configured: BTreeMap<String, FastPathMode>,
    ignores_firewall: bool,
    maps: Maps,
    shortcut: Shortcut,
    pins: Pins,
    /// What was last found wrong, by interface; the empty name stands for all.
    told: BTreeMap<String, String>,
}

/// What came of the configured interfaces.
#[derive(Default)]
struct Brought {
    /// Those that may take part, by index.
    wanted: BTreeMap<u32, FastInterface>,
    /// The VLANs on them.
    vlans: BTreeMap<Vlan, FastInterface>,
    /// What is wrong with others, by name.
    problems: BTreeMap<String, DatapathError>,
}

impl Brought {
    /// Refuses a device whose slot another has.
    fn same_slot(&self, device: &Device) -> Option<FastPathError> {
        let other = self.wanted.keys().find(|other| slot(**other) == slot(device.index))?;
        Some(FastPathError::SameSlot { indices: (*other, device.index) })
    }
}

/// Refuses what can be known before anything is changed, and switches off what an earlier process left
/// on in that case. The caller holds the lock on the pins.
pub(super) fn check(config: &DatapathConfig, pins: &Pins) -> Result<(), DatapathError> {
    let refused = refuse(config);
    if refused.is_err() {
        link::retain(pins, &BTreeSet::new())?;
        // There are none where no earlier process left them.
        if let Ok(mut maps) = Maps::from_pins(pins) {
            maps.set(&BTreeMap::new(), &BTreeMap::new())?;
        }
    }
    refused
}

fn refuse(config: &DatapathConfig) -> Result<(), DatapathError> {
    if config.fast_path.is_empty() {
        return Ok(());
    }
    if matches!(KernelVersion::current(), Ok(version) if version < KernelVersion::new(5, 18, 0)) {
        return Err(FastPathError::OldKernel.into());
    }
    permitted(config.fast_path_ignores_firewall)?;
    for (interface, mode) in &config.fast_path {
        if let Some(device) = Device::find(interface)? {
            device.check(interface, *mode)?;
        }
    }
    Ok(())
}

fn permitted(ignores_firewall: bool) -> Result<(), FastPathError> {
    match firewall::obstacle()? {
        Some(obstacle) if !ignores_firewall => Err(FastPathError::Obstacle(obstacle)),
        Some(_) | None => Ok(()),
    }
}

impl FastPath {
    /// Takes the maps out of the loaded object, and has the kernel check the program where it is needed.
    pub(super) fn load(ebpf: &mut Ebpf, config: &DatapathConfig, pins: &Pins) -> Result<Self, DatapathError> {
        if !config.fast_path.is_empty() {
            let name = names::XDP_PROGRAM;
            let rejected = |source| DatapathError::Program { name, source: Box::new(source) };
            program(ebpf)?.load().map_err(rejected)?;
        }
        Ok(Self {
            configured: config.fast_path.clone(),
            ignores_firewall: config.fast_path_ignores_firewall,
            maps: Maps::of(ebpf)?,
            shortcut: Shortcut::of(ebpf)?,
            pins: pins.clone(),
            told: BTreeMap::new(),
        })
    }

    /// Switches the configured interfaces on, and all others off.
    ///
    /// A link that is removed, because its mode changes, lets go of its interface a moment later.
    pub(super) async fn start(&mut self, ebpf: &mut Ebpf) -> Result<(), DatapathError> {
        let removed = link::retain(&self.pins, &self.pin_names()?)?;
        let mut tries = if removed { LETTING_GO_TRIES } else { 1 };
        let mut brought = self.bring(ebpf)?;
        while !brought.problems.is_empty() && tries > 1 {
            tokio::time::sleep(LETTING_GO).await;
            brought = self.bring(ebpf)?;
            tries -= 1;
        }
        let Brought { wanted, vlans, mut problems } = brought;
        if let Some((_, error)) = problems.pop_first() {
            self.maps.set(&BTreeMap::new(), &BTreeMap::new())?;
            link::retain(&self.pins, &BTreeSet::new())?;
            return Err(error);
        }
        self.maps.set(&wanted, &vlans)?;
        if !wanted.is_empty() {
            for interface in self.configured.keys() {
                if let Some(device) = Device::find(interface)? {
                    device.warn(interface);
                }
            }
            tracing::info!(interfaces = ?self.configured, vlans = vlans.len(), "fast path attached");
        }
        Ok(())
    }

    /// Looks at the configured interfaces and at what the fast path would skip; switches off what must
    /// not be on, and on what may be again. Says so, once.
    pub(super) fn look(&mut self, ebpf: &mut Ebpf) {
        if self.configured.is_empty() {
            return;
        }
        let permitted = permitted(self.ignores_firewall).map_err(DatapathError::from);
        let brought = permitted.and_then(|()| {
            link::retain(&self.pins, &self.pin_names()?)?;
            self.bring(ebpf)
        });
        let Brought { wanted, vlans, mut problems } = brought.unwrap_or_else(|error| Brought {
            problems: BTreeMap::from([(String::new(), error)]),
            ..Brought::default()
        });
        if let Err(error) = self.maps.set(&wanted, &vlans) {
            problems.insert(String::new(), error.into());
        }
        self.tell(&problems);
        if let Err(error) = self.shortcut.look() {
            let error = with_causes(&error);
            tracing::warn!(
                error,
                "the fast path cannot be told of the host's addresses, and asks all routing rules"
            );
        }
    }

    /// Frames by what became of them.
    pub(super) fn counters(&self) -> Result<Counters, DatapathError> {
        Ok(self.maps.counters()?)
    }

    /// Attaches to every configured interface that is there.
    fn bring(&self, ebpf: &mut Ebpf) -> Result<Brought, DatapathError> {
        let mut brought = Brought::default();
        for (interface, mode) in &self.configured {
            let Some(device) = Device::find(interface)? else { continue };
            match self.bring_one(ebpf, interface, *mode, &device) {
                Ok(settings) => match brought.same_slot(&device) {
                    Some(error) => drop(brought.problems.insert(interface.clone(), error.into())),
                    None => drop(brought.wanted.insert(device.index, settings)),
                },
                Err(error) => {
                    brought.problems.insert(interface.clone(), error);
                }
            }
        }
        brought.vlans = vlan::on(&brought.wanted, |name| self.configured.contains_key(name))?;
        Ok(brought)
    }

    /// Names of the pins of the configured interfaces that are there.
    fn pin_names(&self) -> Result<BTreeSet<String>, DatapathError> {
        let mut names = BTreeSet::new();
        for (interface, mode) in &self.configured {
            names.extend(Device::find(interface)?.map(|device| link::name(*mode, device.index)));
        }
        Ok(names)
    }

    fn bring_one(
        &self,
        ebpf: &mut Ebpf,
        interface: &str,
        mode: FastPathMode,
        device: &Device,
    ) -> Result<FastInterface, DatapathError> {
        device.check(interface, mode)?;
        let path = self.pins.fast_path_dir().join(link::name(mode, device.index));
        link::attach(program(ebpf)?, (interface, device.index), mode, &path)?;
        device.check_egress(interface, mode)?;
        device.settings(interface, mode)
    }

    fn tell(&mut self, problems: &BTreeMap<String, DatapathError>) {
        let now: BTreeMap<String, String> =
            problems.iter().map(|(name, error)| (name.clone(), with_causes(error))).collect();
        for (interface, error) in now.iter().filter(|(name, text)| self.told.get(*name) != Some(*text)) {
            tracing::warn!(interface, error, "the fast path is off: everything goes through the stack");
        }
        for interface in self.told.keys().filter(|name| !now.contains_key(*name)) {
            tracing::info!(interface, "the fast path is on again");
        }
        self.told = now;
    }
}

/// Frames by what became of them.
type Counters = Vec<(&'static str, u64)>;

/// Names of the interfaces that take part, and the counters, asked without a daemon.
pub(super) fn status(pins: &Pins) -> Result<(Vec<String>, Counters), DatapathError> {
    let maps = Maps::from_pins(pins)?;
    let names = maps.interfaces()?.into_keys().filter_map(|index| if_indextoname(index).ok());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    Ok((names, maps.counters()?))
}

/// The XDP programs that are attached: interface, mode and number of each.
pub(super) fn attached(pins: &Pins) -> Result<Vec<(String, FastPathMode, u32)>, DatapathError> {
    let names = super::pins::list(&pins.fast_path_dir())?;
    names.iter().filter_map(|name| link::attached(pins, name).transpose()).collect()
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, DatapathError> {
    let missing = DatapathError::MissingInObject { name: names::XDP_PROGRAM };
    ebpf.program_mut(names::XDP_PROGRAM).and_then(|program| program.try_into().ok()).ok_or(missing)
}
