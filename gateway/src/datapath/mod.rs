//! Steering: kernel programs, their maps, and the routes that deliver steered packets.
//!
//! [`Datapath`] is the handle of the daemon, in the order of its steps: [`Datapath::attach`] brings the
//! programs to the interfaces, [`Datapath::apply_policy`] gives them the targets and rules of a policy, and
//! [`Datapath::listen`] lets connections to them in; until then they are dropped. Then it attaches
//! interfaces that are made anew, and reads counters. [`detach`] and [`status`] work on pins and
//! interfaces, without a daemon.
//!
//! One gateway takes over from another in the same steps: [`Datapath::lend`] of the old one gives the
//! lock away. All that the new one does before `listen` leaves the old one's listeners in place, and
//! when it fails, [`Datapath::take_back`] of the old one restores programs and listeners.
//!
//! Invariants: what is pinned outlives the process, so that targets stay closed when it dies, and
//! everything else stays open; a change of targets is applied as a whole, or undone, and where the
//! kernel refuses to undo it, the error says so ([`DatapathError::HalfApplied`]); one process at a
//! time steers with one pin directory.
//!
//! Until the first [`Datapath::apply`] after a boot there are no targets, so nothing is closed.
//! After a restart on pins the targets of before hold from the start.

mod batch;
mod blocked;
mod clsact;
mod coverage;
mod device;
mod error;
mod fast_path;
mod features;
mod header;
mod interfaces;
mod kernel_log;
mod kernel_types;
mod link_events;
pub mod loader;
mod maps;
mod master;
mod netlink;
mod object;
mod pins;
pub mod plan;
mod preflight;
mod routes;
pub mod rules;
mod status;
mod tcx;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use aya::Ebpf;
use portreeve_core::config::daemon::DatapathConfig;
use portreeve_core::network_policy::address_rules::AddressRules;
use portreeve_core::target::Steered;
use portreeve_ebpf::targets::PortSetId;

pub use self::blocked::BlockedFlows;
pub use self::coverage::{Coverage, Part, coverage};
pub use self::device::{Device, device};
pub use self::error::DatapathError;
pub use self::fast_path::{FastPathError, Obstacle};
pub use self::interfaces::InterfaceState;
pub use self::kernel_log::KernelLog;
pub use self::link_events::LinkEvents;
pub use self::preflight::{Look, Warning};
pub use self::status::{AttachedProgram, Counters, Status, counters, is_complete, status};

use self::fast_path::FastPath;
use self::header::Header;
use self::loader::TcMechanism;
use self::maps::Maps;
use self::pins::{PinLock, Pins};
use self::plan::{MapContent, Step, plan};
use self::routes::Routes;
use crate::listener::socket::ListenerFds;
use crate::metrics::KernelCounters;

/// Looks at everything that steering rests on, without changing anything or stopping at the first fault.
pub fn examine(config: &DatapathConfig) -> (Vec<Look>, Vec<Warning>) {
    preflight::examine(config)
}

/// Running steering.
pub struct Datapath {
    maps: Maps,
    content: MapContent,
    fast_path: FastPath,
    routes: Routes,
    kernel_log: Option<KernelLog>,
    interfaces: Vec<String>,
    mechanism: TcMechanism,
    pins: Pins,
    /// The programs; also keeps unpinned maps open.
    ebpf: Ebpf,
    /// Absent while the datapath is lent.
    lock: Option<PinLock>,
}

/// What a change of targets came to, in addresses and prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Steered now, and not before.
    pub added: usize,
    /// Steered before, and not now.
    pub removed: usize,
    /// Steered before and now, on other ports.
    pub changed: usize,
}

impl Datapath {
    /// Brings the programs to the configured interfaces, the fast path last, since what it forwards does
    /// not meet the others.
    ///
    /// Works on the pins of an earlier process where there are any: its targets, counters and
    /// listeners hold, and no packet to a target gets past meanwhile.
    ///
    /// # Errors
    /// Before anything is changed, when the host cannot steer; later, when the kernel refuses a
    /// step. What ran before then still runs, closed for its targets.
    pub async fn attach(config: &DatapathConfig) -> Result<(Self, Vec<Warning>), DatapathError> {
        Self::attach_with(config, TcMechanism::of_this_kernel()).await
    }

    /// [`Datapath::attach`] by a given mechanism.
    ///
    /// # Errors
    /// As [`Datapath::attach`].
    pub async fn attach_with(
        config: &DatapathConfig,
        mechanism: TcMechanism,
    ) -> Result<(Self, Vec<Warning>), DatapathError> {
        let warnings = preflight::check(config)?;
        config.interfaces.iter().try_for_each(|name| preflight::interface(name))?;
        let mut datapath = Self::load(config, &config.interfaces, mechanism)?;
        datapath.fast_path.start(&mut datapath.ebpf).await?;
        Ok((datapath, warnings))
    }

    /// [`Datapath::attach`] to close targets before there is a network: to those interfaces that are
    /// there, and whether or not the host could steer. [`Self::ensure_attached`] tells of the others. The
    /// fast path stays as it is: what it would skip may not be there yet.
    ///
    /// # Errors
    /// As [`Datapath::attach`].
    pub fn attach_early(config: &DatapathConfig) -> Result<Self, DatapathError> {
        preflight::can_attach(config)?;
        let there = |name: &&String| Header::of(name).is_ok();
        let interfaces: Vec<_> = config.interfaces.iter().filter(there).cloned().collect();
        let config = DatapathConfig { fast_path: BTreeMap::new(), ..config.clone() };
        Self::load(&config, &interfaces, TcMechanism::of_this_kernel())
    }

    fn load(
        config: &DatapathConfig,
        interfaces: &[String],
        mechanism: TcMechanism,
    ) -> Result<Self, DatapathError> {
        let pins = Pins::new(&config.pin_dir);
        let lock = pins.open()?;
        fast_path::check(config, &pins)?;
        let mut ebpf = loader::load(config, &pins)?;
        let kernel_log = if config.kernel_log { Some(KernelLog::open(&mut ebpf)?) } else { None };
        let maps = Maps::of(&mut ebpf)?;
        let content = maps.content()?;
        let fast_path = FastPath::load(&mut ebpf, config, &pins)?;
        loader::attach(&mut ebpf, interfaces, &pins, mechanism)?;
        tracing::info!(?interfaces, ?mechanism, "steering attached");
        Ok(Self {
            maps,
            content,
            fast_path,
            routes: Routes::new(config.mark, config.route_table),
            kernel_log,
            interfaces: config.interfaces.clone(),
            mechanism,
            pins,
            ebpf,
            lock: Some(lock),
        })
    }

    /// Lets connections to targets in: routes for what is steered, and these listeners, at once and in
    /// place of any other. They must outlive the handle.
    ///
    /// # Errors
    /// When the kernel refuses a step; rules that were not there before are taken down again.
    pub async fn listen(&mut self, listeners: ListenerFds<'_>) -> Result<(), DatapathError> {
        let added = self.routes.install().await?;
        let listening = self.maps.set_listeners(listeners);
        if listening.is_err() && added {
            // The first error is the one to tell.
            self.routes.remove().await.ok();
        }
        listening
    }

    /// Gives the lock away, for another process to take over. This one still serves, and must change
    /// nothing here until [`Self::take_back`].
    pub fn lend(&mut self) {
        self.lock = None;
    }

    /// Restores programs and listeners after the other process failed to take over; the targets are
    /// those that it left, until the next [`Self::apply`], and so is the fast path, until the next
    /// [`Self::ensure_attached`]. Connections to targets are dropped for the microseconds between two
    /// system calls.
    ///
    /// # Errors
    /// [`DatapathError::InUse`] while the other process has the lock; else when the kernel refuses a
    /// step. It may be tried again.
    pub fn take_back(&mut self, listeners: ListenerFds<'_>) -> Result<(), DatapathError> {
        if self.lock.is_none() {
            self.lock = Some(self.pins.open()?);
        }
        loader::attach(&mut self.ebpf, &self.interfaces, &self.pins, self.mechanism)?;
        self.content = self.maps.content()?;
        // Kernels exist that lose track of a socket that is put in its own place.
        self.maps.clear_listeners()?;
        self.maps.set_listeners(listeners)
    }

    /// Makes exactly these the targets.
    ///
    /// Connections that are established are not touched: those of a removed target go on outside of
    /// the gateway's reach only when the caller ends them.
    ///
    /// # Errors
    /// When there are too many, or the kernel refuses a step; the old targets then hold.
    /// [`DatapathError::HalfApplied`] when they could not be restored.
    pub fn apply(&mut self, steered: &Steered) -> Result<Applied, DatapathError> {
        let wanted = MapContent::of(steered, &self.content)?;
        let mut steps = plan(&self.content, &wanted);
        for at in 0..steps.len() {
            if let Some(Err(error)) = steps.get(at).map(|step| self.maps.execute(step)) {
                steps.truncate(at + 1);
                return Err(self.roll_back(steps, error));
            }
        }
        self.content = wanted;
        Ok(applied(&steps))
    }

    /// [`Self::apply`], and blocks what these rules block and nothing else.
    ///
    /// # Errors
    /// As [`Self::apply`]; the old rules then hold too.
    pub fn apply_policy(
        &mut self,
        steered: &Steered,
        rules: &AddressRules,
    ) -> Result<Applied, DatapathError> {
        let previous = self.maps.rules.set(rules)?;
        self.apply(steered).map_err(|error| match self.maps.rules.restore(previous) {
            Ok(()) => error,
            Err(undo) => DatapathError::HalfApplied { source: Box::new(error), undo: Box::new(undo) },
        })
    }

    /// The reader of the flows that were blocked, once; within an async runtime.
    ///
    /// # Errors
    /// When it was taken before, or the kernel refuses it.
    pub fn take_blocked_flows(&mut self) -> Result<BlockedFlows, DatapathError> {
        BlockedFlows::open(&mut self.ebpf)
    }

    /// Looks at the configured interfaces, and attaches the program where one was made anew.
    ///
    /// To be called when [`LinkEvents`] says so. Costs some system calls where nothing is missing.
    pub fn ensure_attached(&mut self) -> Vec<(String, InterfaceState)> {
        let Self { interfaces, mechanism, pins, ebpf, fast_path, .. } = self;
        let mut look = |name: &String| interfaces::ensure_attached(ebpf, name, pins, *mechanism);
        let states = interfaces.iter().map(|name| (name.clone(), look(name))).collect();
        // Once TC is there for what it passes; not without the pins, which only a start makes anew.
        if pins.exist().unwrap_or(false) {
            fast_path.look(ebpf);
        }
        states
    }

    /// How many addresses and prefixes are targets.
    pub fn entries(&self) -> usize {
        self.content.entries()
    }

    /// What the programs counted; packets and frames since the maps were made, so across restarts.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn counters(&self) -> Result<KernelCounters, DatapathError> {
        Ok(KernelCounters {
            packets: self.maps.counters()?,
            fast_path: self.fast_path.counters()?,
            policies: self.maps.rules.counters()?,
        })
    }

    /// The reader of the kernel log, once, when the configuration switches it on.
    pub const fn take_kernel_log(&mut self) -> Option<KernelLog> {
        self.kernel_log.take()
    }

    /// Orderly exit: takes the listeners out and the routes down, and leaves the programs, so that
    /// targets are closed until the next start.
    ///
    /// # Errors
    /// The first step that the kernel refuses, after all of them were tried; targets are closed all
    /// the same.
    pub async fn stop(mut self) -> Result<(), DatapathError> {
        let cleared = self.maps.clear_listeners();
        let removed = self.routes.remove().await;
        cleared.and(removed)
    }

    /// Undoes steps of which the last was done in part.
    fn roll_back(&mut self, done: Vec<Step>, error: DatapathError) -> DatapathError {
        for step in done.into_iter().rev() {
            if let Err(undo) = self.maps.execute(&step.inverse()) {
                if let Ok(content) = self.maps.content() {
                    self.content = content;
                }
                return DatapathError::HalfApplied { source: Box::new(error), undo: Box::new(undo) };
            }
        }
        error
    }
}

impl fmt::Debug for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datapath").field("entries", &self.content.entries()).finish_non_exhaustive()
    }
}

/// Removes programs and maps: what were targets is open from here on. Returns whether there was
/// anything to remove.
///
/// The rule and route that a killed gateway left stay; no packet carries their mark any more.
///
/// # Errors
/// When a pin cannot be removed.
pub fn detach(pin_dir: &Path) -> Result<bool, DatapathError> {
    let pins = Pins::new(pin_dir);
    let existed = pins.exist()?;
    for attachment in pins.attachments()? {
        loader::detach(&attachment, &pins)?;
    }
    pins.remove_all()?;
    Ok(existed)
}

fn applied(steps: &[Step]) -> Applied {
    let mut applied = Applied::default();
    let mut count = |from: Option<PortSetId>, to: Option<PortSetId>| match (from, to) {
        (None, _) => applied.added += 1,
        (_, None) => applied.removed += 1,
        (Some(_), Some(_)) => applied.changed += 1,
    };
    for step in steps {
        match step {
            Step::Sets(_) | Step::AllPorts { .. } => {}
            Step::Exact(changes) => changes.iter().for_each(|change| count(change.from, change.to)),
            Step::Prefixes(changes) => changes.iter().for_each(|change| count(change.from, change.to)),
        }
    }
    applied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sendable<T: Send>(value: T) -> T {
        value
    }

    /// Compiles only if it holds.
    #[test]
    fn a_datapath_can_move_between_threads() {
        let _listen: fn(&mut Datapath, ListenerFds<'_>) =
            |datapath, listeners| drop(sendable(datapath.listen(listeners)));
        let _stop: fn(Datapath) = |datapath| drop(sendable(sendable(datapath).stop()));
        let _log: fn(KernelLog) = |log| drop(sendable(log.run()));
    }
}
