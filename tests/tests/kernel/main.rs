//! Tests of the kernel programs and of the datapath that loads them; root only.
//!
//! `verdicts` runs single frames through the TC program by `BPF_PROG_TEST_RUN`; `steering` sends
//! real traffic through network namespaces of its own, `interfaces` makes
//! interfaces anew, `tags` sends raw frames, and `fast_path` compares with plain forwarding. Without root, or without the object file
//! that `cargo xtask build` makes, every test fails and says why.
//!
//! The steering tests need a gateway process that they can kill: this program again, in the role
//! of [`gateway`].

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test program: a step that fails is a test that fails"
)]

mod fast_path;
mod frames;
mod gateway;
mod interfaces;
mod network;
mod paths;
mod rules;
mod steering;
mod tags;
mod verdicts;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// What a test returns.
type Outcome = Result<(), Failed>;

/// Name and function of a test.
type Test = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(gateway::ROLE) {
        return gateway::run(args);
    }
    let tests = verdicts::TESTS
        .iter()
        .chain(steering::TESTS)
        .chain(interfaces::TESTS)
        .chain(tags::TESTS)
        .chain(paths::TESTS)
        .chain(rules::TESTS)
        .chain(fast_path::TESTS);
    let trials =
        tests.map(|&(name, test)| Trial::test(name, move || ready().and_then(|()| test()))).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn ready() -> Outcome {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root: run `cargo xtask test kernel` as root".into());
    }
    Ok(())
}
