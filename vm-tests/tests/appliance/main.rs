//! The appliance's image, booted in machines.
//!
//! One machine between real hosts serves a group of cases, one after the other in their order; a case that fails leaves it
//! to the next. What a machine does not survive has one of its own. Without QEMU, its firmware or the image that
//! `cargo xtask image` builds, every case fails and says what to do.

#![expect(clippy::print_stdout, reason = "a test program: figures for people are its last output")]

mod cases;
mod hosts;
mod integrity;
mod power;
mod scene;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Trial};

use crate::scene::Scene;

/// Name and function of a case with machines of its own.
type Case = (&'static str, fn() -> Result<()>);
/// Name and function of a case of the group.
type GroupCase = (&'static str, fn(&mut Scene) -> Result<()>);

/// The machine of the group.
#[derive(Default)]
enum Slot {
    /// Nobody needed it yet.
    #[default]
    Off,
    On(Box<Scene>),
    /// It did not come up, which its first case has told.
    Failed,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = portreeve_tests::role::divert() {
        return Ok(code);
    }
    let mut arguments = Arguments::from_args();
    // Cases of the group have one machine, in their order.
    arguments.test_threads = Some(1);
    let slot = Arc::new(Mutex::new(Slot::default()));
    let of_group = [cases::CASES, power::CASES].concat().into_iter().map(|(name, case)| {
        let slot = Arc::clone(&slot);
        trial(name, move || on(&mut slot.lock().unwrap_or_else(PoisonError::into_inner)).and_then(case))
    });
    let alone = integrity::CASES.iter().map(|&(name, case)| trial(name, case));
    let conclusion = libtest_mimic::run(&arguments, of_group.chain(alone).collect());
    let slot = std::mem::take(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner));
    if let Slot::On(scene) = slot {
        println!("{}", scene.figures());
        scene.stop()?;
    }
    Ok(conclusion.exit_code())
}

fn trial(name: &str, case: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(format!("appliance_{name}"), move || case().map_err(|error| format!("{error:#}").into()))
}

/// The machine, switched on by the first that needs it.
fn on(slot: &mut Slot) -> Result<&mut Scene> {
    if matches!(slot, Slot::Off) {
        *slot = Slot::Failed;
        *slot = Slot::On(Box::new(Scene::start()?));
    }
    match slot {
        Slot::On(scene) => Ok(scene),
        Slot::Off | Slot::Failed => bail!("no machine: see the first case that failed"),
    }
}
