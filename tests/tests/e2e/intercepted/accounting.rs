//! `portreeve datapath watch`: what the kernel counts, live.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{SSH_PORT, TARGET4, at};
use portreeve_tests::{Companion, Options, Testbed, run};
use serde_json::{Value, json};

use super::early::{datapath, detach};
use super::{Check, SOON};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, ssh};

pub(super) const CHECKS: &[Check] = &[Check::new("datapath_watch_shows_counters_live", watch)];

fn watched(bed: &Testbed, more: &[&str]) -> Result<Vec<Value>> {
    let mut command = datapath(bed, &[&["watch", "--interval", "200ms"], more].concat())?;
    let lines = run(&mut command, b"", LIMIT)?.success()?;
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn watch(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let mut watching = datapath(&bed, &["watch", "--interval", "100ms"])?;
    let mut watching = Companion::spawn(watching.stdout(Stdio::piped()))?;
    let mut lines = BufReader::new(watching.child().stdout.take().context("no output")?).lines();
    let mut next = || -> Result<Value> { Ok(serde_json::from_str(&lines.next().context("it ended")??)?) };
    let before = next()?["packets"]["steered_new"]["total"].as_u64().context("no counter")?;
    ssh(&bed, &[TARGET, "true"])?.success()?;
    let mut fastest = 0.0_f64;
    until("a new flow in its output", SOON, || {
        let block = next()?;
        let flows = &block["packets"]["steered_new"];
        fastest = fastest.max(flows["per_second"].as_f64().context("no rate")?);
        Ok((flows["total"].as_u64() > Some(before)).then_some(()))
    })?;
    ensure!(fastest > 0.0, "the rate was never above 0");
    watching.signal(Signal::SIGINT)?;
    let ended = watching.wait(SOON)?;
    ensure!(ended.success(), "SIGINT: {ended}");

    bed.gateway_mut()?.stop()?;
    ensure!(bed.client_netns().connect(at(TARGET4, SSH_PORT)).is_err(), "a stopped gateway serves");
    let blocks = watched(&bed, &["--count", "2"])?;
    ensure!(blocks.len() == 2, "{blocks:?}");
    let last = blocks.last().context("no block")?;
    ensure!(last["packets"]["dropped_no_listener"]["total"].as_u64() >= Some(1), "{last}");
    detach(&bed)?;
    let blocks = watched(&bed, &["--count", "1"])?;
    ensure!(blocks.iter().all(|block| block["attached"] == json!(false)), "{blocks:?}");
    Ok(())
}
