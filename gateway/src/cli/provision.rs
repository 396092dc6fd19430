//! `portreeve provision`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::print;
use crate::provision::{Outcome, Provisioning};

/// Arguments of `portreeve provision`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The seed is the one that is kept (/etc/portreeve/seed.toml), else that of a volume: user-data on one labelled cidata,
openstack/latest/user_data on config-2, both with #portreeve-seed as their first line, or portreeve-seed.toml on
PORTREEVE. What is wrong with it is told with line and key; nothing is written then, and forwarding stays off.
The gateway's files and keys are written once, the host's at every start. See docs/seed.md.")]
pub(super) struct ProvisionArgs {
    /// Use this seed, also in place of the kept one: the gateway's files are written anew, keys stay
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// Write below this directory, and apply nothing
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Serialize)]
struct Report {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
}

impl ProvisionArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let outcome = Provisioning { root: self.root, seed: self.seed }.run()?;
        let (word, seed) = match outcome {
            Outcome::NoSeed => ("no-seed", None),
            Outcome::First(name) => ("first", Some(name)),
            Outcome::Again => ("again", None),
        };
        if json {
            print::json(&Report { outcome: word, seed })?;
            return Ok(ExitCode::SUCCESS);
        }
        print::line(&match (word, seed) {
            (_, Some(name)) => format!("portreeve-provision: set up from {name}"),
            ("again", None) => "portreeve-provision: as set up before".to_owned(),
            (_, None) => "portreeve-provision: there is no seed: log in and run `portreeve setup`".to_owned(),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
