//! `portreeve datapath`.

mod account;
mod attach;
mod coverage;
mod watch;

use std::collections::BTreeMap;
use std::process::ExitCode;

use portreeve_core::config::daemon::Config;
use serde::Serialize;

use super::{ConfigArg, print};
use crate::control::Peer;
use crate::datapath::{self, AttachedProgram};

/// The verbs of `portreeve datapath`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DatapathCommand {
    /// Attach the programs with the targets of the policy, without a gateway: targets are closed
    Attach(attach::AttachArgs),
    /// Show what is attached, and its counters
    Status {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show the counters live: what is dropped, and why, first
    Watch(watch::WatchArgs),
    /// Prove by the counters that every flow to a target was proxied, denied or dropped
    Coverage(coverage::CoverageArgs),
    /// Remove programs, maps and links: targets are open from then on
    Detach {
        #[command(flatten)]
        config: ConfigArg,
    },
}

impl DatapathCommand {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        match self {
            Self::Attach(args) => return args.run(json),
            Self::Watch(args) => return args.run(json),
            Self::Coverage(args) => return args.run(json),
            Self::Status { config } => print_status(&config.load()?, json)?,
            Self::Detach { config } => {
                if !datapath::detach(&config.load()?.datapath.pin_dir)? {
                    print::line("nothing was attached")?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Serialize)]
struct Report {
    attached: bool,
    /// Process of the gateway in charge.
    gateway: Option<i32>,
    interfaces: Vec<String>,
    not_attached: Vec<String>,
    programs: Vec<AttachedProgram>,
    targets: usize,
    packets: BTreeMap<&'static str, u64>,
    fast_path: Vec<String>,
    fast_path_frames: BTreeMap<&'static str, u64>,
}

fn print_status(config: &Config, json: bool) -> anyhow::Result<()> {
    let gateway = super::runtime()?.block_on(Peer::connect(&config.state_dir))?.and_then(|peer| peer.pid());
    let status = datapath::status(&config.datapath)?;
    let attached = status.is_some();
    let status = status.unwrap_or_default();
    if json {
        let packets = status.counters.into_iter().collect();
        let report = Report {
            attached,
            gateway,
            interfaces: status.interfaces,
            not_attached: status.not_attached,
            programs: status.programs,
            targets: status.targets,
            packets,
            fast_path: status.fast_path,
            fast_path_frames: status.fast_path_counters.into_iter().collect(),
        };
        return Ok(print::json(&report)?);
    }
    if !attached {
        return Ok(print::line("nothing is attached: targets are open")?);
    }
    print::line(&format!(
        "{} addresses and prefixes are steered on {}",
        status.targets,
        if status.interfaces.is_empty() { "no interface".to_owned() } else { status.interfaces.join(", ") }
    ))?;
    print::line(&match gateway {
        Some(pid) => format!("a gateway serves them (process {pid})"),
        None => "no gateway runs: they are closed".to_owned(),
    })?;
    for interface in status.not_attached {
        print::line(&format!("not attached to {interface}: what comes in there reaches targets directly"))?;
    }
    for (reason, packets) in status.counters {
        print::line(&format!("{packets:>12} packets {reason}"))?;
    }
    if status.fast_path.is_empty() {
        return Ok(());
    }
    print::line(&format!("other traffic takes the fast path between {}", status.fast_path.join(", ")))?;
    for (reason, frames) in status.fast_path_counters {
        print::line(&format!("{frames:>12} frames {reason}"))?;
    }
    Ok(())
}
