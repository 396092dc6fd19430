//! End-to-end tests: real ssh against real sshd, in network namespaces.
//!
//! A transparency case is written once and runs on both routes; what a user can observe must be
//! equal ([`transparency`]). What only the gateway does is in [`intercepted`]. A case that is known
//! to fail is ignored and carries the reason as its kind.
//!
//! `cargo test -p portreeve-tests --test e2e -- direct` runs every transparency case on the direct
//! route alone, which needs no gateway: it tests the cases themselves.

mod beds;
mod bypass;
mod documents;
mod intercepted;
mod observation;
mod ssh;
mod testbeds;
mod transparency;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Trial};

use crate::beds::Beds;

fn main() -> Result<ExitCode> {
    if let Some(code) = portreeve_tests::role::divert() {
        return Ok(code);
    }
    let arguments = Arguments::from_args();
    let beds = Arc::new(Beds::default());
    let mut trials: Vec<Trial> = transparency::trials(&beds);
    trials.extend(intercepted::trials(&beds));
    trials.extend(documents::trials(&beds));
    trials.extend(testbeds::trials(&beds));
    trials.extend(bypass::trials(&beds));
    if !arguments.list {
        portreeve_tests::requirement::check().context("the end-to-end tests cannot run")?;
        portreeve_tests::interrupt::watch(interrupted)?;
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(beds) = Arc::into_inner(beds) {
        beds.stop()?;
    }
    Ok(conclusion.exit_code())
}

#[expect(clippy::exit, reason = "the tests' threads are stuck in what the signal ends")]
fn interrupted(signal: nix::sys::signal::Signal) {
    portreeve_tests::keeper::tear_down_all().ok();
    std::process::exit(128 + signal as i32);
}
