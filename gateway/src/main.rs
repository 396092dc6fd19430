//! The `portreeve` command: parses arguments, runs one verb, prints one error.

use std::process::ExitCode;

use clap::Parser as _;
use portreeve::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
