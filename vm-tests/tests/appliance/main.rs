//! The appliance's image, booted in machines.
//!
//! Machines between real hosts serve groups of cases, one after the other in their order; a case that fails leaves its machine
//! to the next. What a machine does not survive has one of its own. Groups are divided into two lanes ([`lane`]), which run at
//! the same time, each with one machine on. Without QEMU, its firmware or the image that `cargo xtask image` builds, every case
//! fails and says what to do.

mod cases;
mod disk_of;
mod disks;
mod frr;
mod hosts;
mod integrity;
mod lane;
mod power;
mod router;
mod scene;
mod sealed_keys;
mod setup;
mod shared_address;
mod trust;
mod wireguard;

use std::process::ExitCode;

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Trial};

use crate::lane::{Alone, Lane, OfMachine, failed};

/// Name and function of a case with machines of its own.
type Case = (&'static str, fn() -> Result<()>);
/// Name and function of a case of the machine `M`.
type MachineCase<M> = (&'static str, fn(&mut M) -> Result<()>);

fn main() -> Result<ExitCode> {
    if let Some(code) = portreeve_tests::role::divert() {
        return Ok(code);
    }
    let mut arguments = Arguments::from_args();
    // They wait for what the lanes tell, in the order of the lanes.
    arguments.test_threads = Some(1);
    let lanes = [
        Lane::new(vec![
            Box::new(OfMachine([cases::CASES, wireguard::CASES, power::CASES].concat())),
            Box::new(OfMachine([router::CASES, shared_address::CASES].concat())),
            Box::new(Alone([setup::CASES, integrity::CASES, disks::CASES].concat())),
        ]),
        Lane::new(vec![Box::new(OfMachine([trust::CASES, sealed_keys::CASES].concat()))]),
    ];
    let (mut trials, mut running) = (Vec::new(), Vec::new());
    for lane in lanes {
        let (of_lane, thread) = lane.start(&arguments);
        trials.extend(of_lane);
        running.push(thread);
    }
    let on_demand = [disks::ON_DEMAND, frr::ON_DEMAND].concat();
    let on_demand = on_demand.into_iter().map(|(name, case)| {
        Trial::test(full_name(name), move || case().map_err(failed)).with_ignored_flag(true)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().chain(on_demand).collect());
    for lane in running {
        let Ok(ended) = lane.join() else { bail!("a lane did not come to its end") };
        ended?;
    }
    Ok(conclusion.exit_code())
}

fn full_name(name: &str) -> String {
    format!("appliance_{name}")
}
