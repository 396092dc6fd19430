//! `portreeve provision`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::print;
use crate::ca::sealed::Tpm;
use crate::provision::{Outcome, Provisioning};

/// Arguments of `portreeve provision`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The seed is the one that is kept (/etc/portreeve/seed.toml), else that of a volume: user-data on one labelled cidata,
openstack/latest/user_data on config-2, both with #portreeve-seed as their first line, or portreeve-seed.toml on
PORTREEVE. What is wrong with it is told with line and key; nothing is written then, and forwarding stays off.
The gateway's files and keys are written once, keys sealed to a TPM where there is one, the host's at every start. See docs/seed.md.")]
pub(super) struct ProvisionArgs {
    /// Use this seed, also in place of the kept one: the gateway's files are written anew, keys stay
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// Write below this directory, and apply nothing
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Print the public keys of WireGuard interfaces, and do nothing else
    #[arg(long, conflicts_with = "seed")]
    public_keys: bool,
}

#[derive(Serialize)]
struct Report {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    /// Public keys by interface.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    wireguard: BTreeMap<String, String>,
}

impl ProvisionArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        // Below another directory are another machine's files.
        let tpm = (self.root == Path::new("/")).then(Tpm::of_this_machine).flatten();
        let provisioning = Provisioning { root: self.root, seed: self.seed, tpm };
        if self.public_keys {
            return print_keys(&provisioning.public_keys()?, json);
        }
        let outcome = provisioning.run()?;
        let wireguard = provisioning.public_keys()?;
        let (word, seed) = match outcome {
            Outcome::NoSeed => ("no-seed", None),
            Outcome::First(name) => ("first", Some(name)),
            Outcome::Again => ("again", None),
        };
        if json {
            print::json(&Report { outcome: word, seed, wireguard })?;
            return Ok(ExitCode::SUCCESS);
        }
        print::line(&match (word, seed) {
            (_, Some(name)) => format!("portreeve-provision: set up from {name}"),
            ("again", None) => "portreeve-provision: as set up before".to_owned(),
            (_, None) => {
                "portreeve-provision: there is no seed: answer what `portreeve setup` asks on the console"
                    .to_owned()
            }
        })?;
        for (interface, key) in &wireguard {
            print::line(&format!("portreeve-provision: WireGuard {interface} has the public key {key}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_keys(keys: &BTreeMap<String, String>, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        print::json(keys)?;
    } else {
        keys.iter().try_for_each(|(interface, key)| print::line(&format!("{interface} {key}")))?;
    }
    Ok(ExitCode::SUCCESS)
}
