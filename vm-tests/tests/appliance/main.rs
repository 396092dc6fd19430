//! The appliance's image, booted in machines. Without QEMU, its firmware or the image that `cargo xtask image` builds, every
//! case fails and says what to do.

mod integrity;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};

/// Name and function of a case.
type Case = (&'static str, fn() -> Result<()>);

fn main() -> ExitCode {
    if let Some(code) = portreeve_tests::role::divert() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // A machine has two processors, and little time that it does not use.
    arguments.test_threads.get_or_insert(2);
    let trial = |&(name, case): &Case| {
        Trial::test(format!("appliance_{name}"), move || case().map_err(|error| format!("{error:#}").into()))
    };
    libtest_mimic::run(&arguments, integrity::CASES.iter().map(trial).collect()).exit_code()
}
