//! Shipping and exporting to real destinations on loopback: an S3 server (`s3s-fs`, which checks signatures, digests of
//! bodies and checksums), an HTTP server that misbehaves, and rsyslog.
//!
//! Run by `cargo xtask test e2e`, which installs the servers: the tests are ignored elsewhere. Some kill a process that
//! ships: this program again, in the role of [`process`].

#![expect(clippy::unwrap_used, reason = "a test program: a step that fails is a test that fails")]

mod bed;
mod http;
mod process;
mod read;
mod s3;
mod syslog;
mod tls;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Name and function of a test.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(process::ROLE) {
        return process::run(args);
    }
    let trial = |&(name, test): &Test| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(true)
    };
    let tests = [s3::TESTS, read::TESTS, http::TESTS, syslog::TESTS, tls::TESTS];
    let trials = tests.into_iter().flatten().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
