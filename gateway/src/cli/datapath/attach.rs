//! `portreeve datapath attach`: targets are closed before there is a network, and without a gateway.
//!
//! Closed when in doubt: what can be attached is, and what is wrong is told afterwards.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use portreeve_core::config::duration;
use portreeve_core::id::Generation;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::super::{ConfigArg, print, runtime};
use crate::datapath::{self, Datapath, DatapathError, InterfaceState, LinkEvents};
use crate::store;
use crate::telemetry::with_causes;

/// Arguments of `portreeve datapath attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Interfaces that are not there yet are named, and attached by the gateway when it starts, or by --wait.
A gateway that runs has attached them all: nothing is done then. Exit status 1 means that a target may be
open: the policy file is refused, or an interface cannot be attached or was not there in time.")]
pub(in crate::cli) struct AttachArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Wait until every configured interface is there, at most so long, as \"30s\" or \"2m\"
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    wait: Option<Duration>,
    /// Do nothing when targets are closed on every configured interface already, whatever the policy file says now
    #[arg(long)]
    unless_attached: bool,
}

/// What became of the configured interfaces.
#[derive(Default, Serialize)]
struct Interfaces {
    attached: Vec<String>,
    absent: Vec<String>,
    /// With the reason.
    open: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Report {
    targets: usize,
    #[serde(flatten)]
    interfaces: Interfaces,
    /// Why the targets are those of before.
    policy_error: Option<String>,
}

impl AttachArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let config = self.config.load()?;
        if self.unless_attached && datapath::is_complete(&config.datapath) {
            print::line("nothing to do: targets are closed on every configured interface")?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut datapath = match Datapath::attach_early(&config.datapath) {
            Ok(datapath) => datapath,
            Err(DatapathError::InUse { .. }) => {
                print::line("nothing to do: a gateway runs, or another `datapath attach` waits")?;
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        };
        let policy_error = apply(&mut datapath, &config.policy_file).err().map(|error| format!("{error:#}"));
        let interfaces = match self.wait {
            Some(limit) => runtime()?.block_on(wait(&mut datapath, limit))?,
            None => look(&mut datapath),
        };
        let report = Report { targets: datapath.entries(), interfaces, policy_error };
        if json {
            print::json(&report)?
        } else {
            report.print()?
        }
        report.result(self.wait.is_some())
    }
}

/// Makes the targets of the policy file targets; on any error those of before stay.
fn apply(datapath: &mut Datapath, policy_file: &std::path::Path) -> anyhow::Result<()> {
    let policy = store::load(policy_file, Generation(1))?;
    datapath.apply(&policy.snapshot.infrastructure.steered()).context("cannot apply the targets")?;
    Ok(())
}

fn look(datapath: &mut Datapath) -> Interfaces {
    let mut interfaces = Interfaces::default();
    for (name, state) in datapath.ensure_attached() {
        match state {
            InterfaceState::Attached | InterfaceState::Reattached => interfaces.attached.push(name),
            InterfaceState::Absent => interfaces.absent.push(name),
            InterfaceState::Open(error) => interfaces.open.push((name, with_causes(&error))),
        }
    }
    interfaces
}

async fn wait(datapath: &mut Datapath, limit: Duration) -> anyhow::Result<Interfaces> {
    let end = Instant::now() + limit;
    let mut links = LinkEvents::subscribe()?;
    loop {
        let interfaces = look(datapath);
        let complete = interfaces.absent.is_empty() && interfaces.open.is_empty();
        if complete || timeout_at(end, links.next()).await.is_err() {
            return Ok(interfaces);
        }
    }
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let Interfaces { attached, absent, open } = &self.interfaces;
        let on = if attached.is_empty() { "no interface".to_owned() } else { attached.join(", ") };
        print::line(&format!("{} addresses and prefixes are closed on {on}", self.targets))?;
        for name in absent {
            print::line(&format!("not there yet: {name}"))?;
        }
        for (name, error) in open {
            print::line(&format!("open: {name}: {error}"))?;
        }
        Ok(())
    }

    fn result(&self, waited: bool) -> anyhow::Result<ExitCode> {
        match &self.policy_error {
            Some(error) if self.targets == 0 => bail!("no target is closed: {error}"),
            Some(error) => bail!("only the targets of before are closed: {error}"),
            None => {}
        }
        let missing = waited && !self.interfaces.absent.is_empty();
        let complete = self.interfaces.open.is_empty() && !missing;
        Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
