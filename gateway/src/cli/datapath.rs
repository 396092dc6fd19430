//! `portreeve datapath`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use portreeve_core::config::daemon::DatapathConfig;
use serde::Serialize;

use super::{ConfigArg, print};
use crate::datapath;

/// The verbs of `portreeve datapath`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DatapathCommand {
    /// Show what is attached, and its counters
    Status {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Remove programs, maps and links: targets are open from then on
    Detach {
        #[command(flatten)]
        config: ConfigArg,
    },
}

impl DatapathCommand {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let (Self::Status { config } | Self::Detach { config }) = &self;
        let config = config.load()?.datapath;
        match self {
            Self::Status { .. } => print_status(&config, json)?,
            Self::Detach { .. } => {
                if !datapath::detach(&config.pin_dir)? {
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
    interfaces: Vec<String>,
    not_attached: Vec<String>,
    targets: usize,
    packets: BTreeMap<&'static str, u64>,
}

fn print_status(config: &DatapathConfig, json: bool) -> anyhow::Result<()> {
    let status = datapath::status(config)?;
    let attached = status.is_some();
    let status = status.unwrap_or_default();
    if json {
        let packets = status.counters.into_iter().collect();
        let report = Report {
            attached,
            interfaces: status.interfaces,
            not_attached: status.not_attached,
            targets: status.targets,
            packets,
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
    for interface in status.not_attached {
        print::line(&format!("not attached to {interface}: what comes in there reaches targets directly"))?;
    }
    for (reason, packets) in status.counters {
        print::line(&format!("{packets:>12} packets {reason}"))?;
    }
    Ok(())
}
