//! Tasks of this repository: one module per verb, and the dispatch to it.
//!
//! Everything that a contributor or CI runs is a verb here, in Rust, so that no second language and
//! no second description of the same steps grows beside it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people: its terminal is its output"
)]

pub mod bench;
pub mod build;
pub mod deb;
pub mod demo;
pub mod image;
pub mod setup;
pub mod supervise;
pub mod test;
pub mod testbed;
pub mod tidy;
pub mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Tasks of the portreeve repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Verb {
    /// Install what builds and tests need and this machine misses.
    Setup(setup::Args),
    /// Build the kernel programs, then the gateway that embeds them.
    Build(build::Args),
    /// Pack the gateway for Debian and Ubuntu.
    Deb(deb::Args),
    /// Run the checks and tests; unless some are named, all but those of a FIPS build.
    Test(test::Args),
    /// Check layers, file sizes, module docs, names, links and manifests.
    Tidy(tidy::Args),
    /// Run a command in the client's namespace of a client - gateway - server network.
    Testbed(testbed::Args),
    /// Measure the gateway beside other ways to the same target.
    Bench(bench::Args),
    /// Build the appliance's disk image and its updates.
    Image(image::Args),
    /// Show the main job on real input.
    Demo(demo::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    if let Some(code) = portreeve_tests::role::divert() {
        return Ok(code);
    }
    match Verb::parse() {
        Verb::Setup(args) => setup::run(args),
        Verb::Build(args) => build::run(args),
        Verb::Deb(args) => deb::run(args),
        Verb::Test(args) => test::run(args),
        Verb::Tidy(args) => tidy::run(args),
        Verb::Testbed(args) => testbed::run(args, gateway_for_testbed),
        Verb::Bench(args) => bench::run(args),
        Verb::Image(args) => image::run(args),
        Verb::Demo(args) => demo::run(args, gateway_for_testbed),
    }
}

/// Installs what a testbed needs and builds the gateway that it runs.
fn gateway_for_testbed() -> anyhow::Result<PathBuf> {
    setup::ensure(setup::plan::Needs::TESTBED)?;
    build::gateway(&build::Args::default())
}
