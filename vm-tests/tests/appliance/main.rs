//! The appliance's image, booted in machines.
//!
//! Machines between real hosts serve groups of cases, one after the other in their order; a case that fails leaves its machine
//! to the next. What a machine does not survive has one of its own. Of those that groups share one is on at a time. Without QEMU, its firmware or the image that
//! `cargo xtask image` builds, every case fails and says what to do.

mod cases;
mod disk_of;
mod disks;
mod hosts;
mod integrity;
mod power;
mod router;
mod scene;
mod sealed_keys;
mod setup;
mod trust;
mod wireguard;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use libtest_mimic::{Arguments, Trial};

use crate::router::Router;
use crate::scene::Scene;
use crate::trust::Trust;

/// Name and function of a case with machines of its own.
type Case = (&'static str, fn() -> Result<()>);
/// Name and function of a case of the machine `M`.
type MachineCase<M> = (&'static str, fn(&mut M) -> Result<()>);
/// Of the first machine.
type GroupCase = MachineCase<Scene>;

/// A machine that cases share.
trait Machine: Send + Sized + 'static {
    /// Switches it on.
    fn start() -> Result<Self>;
    /// What it has said of late, for who reads why a case failed.
    fn said(&mut self) -> String;
    /// Takes it down.
    fn stop(self) -> Result<()>;
}

/// The machine of a group.
#[derive(Default)]
enum Slot<M> {
    /// Nobody needed it yet, or nobody does any more.
    #[default]
    Off,
    On(Box<M>),
    /// It did not come up, which its first case has told.
    Failed,
}

type Shared<M> = Arc<Mutex<Slot<M>>>;

fn main() -> Result<ExitCode> {
    if let Some(code) = portreeve_tests::role::divert() {
        return Ok(code);
    }
    let mut arguments = Arguments::from_args();
    // Cases of a group have one machine, in their order.
    arguments.test_threads = Some(1);
    let (first, router) = (Shared::<Scene>::default(), Shared::<Router>::default());
    let trust = Shared::<Trust>::default();
    let (before, before_trust) = (Arc::clone(&first), Arc::clone(&router));
    let of_first = group(&[cases::CASES, power::CASES].concat(), &first, || Ok(()));
    let of_router = group(router::CASES, &router, move || off(&before));
    let of_trust = group(&[trust::CASES, sealed_keys::CASES].concat(), &trust, move || off(&before_trust));
    let alone = [integrity::CASES, disks::CASES, wireguard::CASES, setup::CASES].concat().into_iter();
    let alone = alone.map(|(name, case)| trial(name, case));
    let on_demand = disks::ON_DEMAND.iter().map(|&(name, case)| trial(name, case).with_ignored_flag(true));
    let trials = of_first.into_iter().chain(of_router).chain(of_trust).chain(alone).chain(on_demand);
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    off(&first)?;
    off(&router)?;
    off(&trust)?;
    Ok(conclusion.exit_code())
}

fn trial(name: &str, case: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(format!("appliance_{name}"), move || case().map_err(|error| format!("{error:#}").into()))
}

/// Cases that share a machine; `before` is called before it is switched on.
fn group<M: Machine>(
    cases: &[MachineCase<M>],
    shared: &Shared<M>,
    before: impl Fn() -> Result<()> + Clone + Send + 'static,
) -> Vec<Trial> {
    let trial = |&(name, case): &MachineCase<M>| {
        let (shared, before) = (Arc::clone(shared), before.clone());
        trial(name, move || {
            let mut slot = lock(&shared);
            let machine = on(&mut slot, before)?;
            case(machine).with_context(|| machine.said())
        })
    };
    cases.iter().map(trial).collect()
}

/// The machine, switched on by the first that needs it.
fn on<M: Machine>(slot: &mut Slot<M>, before: impl Fn() -> Result<()>) -> Result<&mut M> {
    if matches!(slot, Slot::Off) {
        *slot = Slot::Failed;
        before()?;
        *slot = Slot::On(Box::new(M::start()?));
    }
    match slot {
        Slot::On(machine) => Ok(machine),
        Slot::Off | Slot::Failed => bail!("no machine: see the first case that failed"),
    }
}

/// Takes the machine down if it is on.
fn off<M: Machine>(shared: &Shared<M>) -> Result<()> {
    match std::mem::take(&mut *lock(shared)) {
        Slot::On(machine) => machine.stop(),
        Slot::Off | Slot::Failed => Ok(()),
    }
}

fn lock<M>(shared: &Shared<M>) -> MutexGuard<'_, Slot<M>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
