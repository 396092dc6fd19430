//! The daemon killed, stopped and started again.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{ECHO_PORT, OPEN4, OPEN6, SSH_PORT, TARGET4, TARGET6, at};
use portreeve_tests::{Companion, Options, Testbed};

use super::{Check, first_line, metric, sample};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, TARGET_V6, converse, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("a_killed_daemon_leaves_targets_closed_and_the_rest_open", killed),
    Check::new("a_stopped_daemon_leaves_targets_closed_and_the_rest_open", stopped),
    Check::new("an_orderly_stop_tells_the_user", stop_tells),
    Check::new("the_number_of_live_sessions_is_shown", live_sessions),
    Check::new("the_limit_of_open_files_is_raised_and_too_low_a_one_told", open_files),
];

/// Targets do not answer; everything else does.
pub(super) fn ensure_closed(bed: &Testbed) -> Result<()> {
    for address in [at(TARGET4, SSH_PORT), at(TARGET6, SSH_PORT)] {
        if let Ok(line) = first_line(bed, address) {
            ensure!(line.is_empty(), "{address} answers {line:?}");
        }
    }
    for address in [at(OPEN4, SSH_PORT), at(OPEN6, SSH_PORT)] {
        let line = first_line(bed, address)?;
        ensure!(line.contains("OpenSSH"), "{address} answers {line:?}");
    }
    for address in [at(OPEN4, ECHO_PORT), at(TARGET4, ECHO_PORT), at(TARGET6, ECHO_PORT)] {
        let answer = converse(bed.client_netns().connect(address)?, b"ping")?;
        ensure!(answer == b"ping", "{address} answers {answer:?}");
    }
    Ok(())
}

pub(super) fn ensure_serves(bed: &Testbed) -> Result<()> {
    for target in [TARGET, TARGET_V6] {
        ensure!(ssh(bed, &[target, "echo again"])?.success()? == "again\n");
    }
    Ok(())
}

fn killed(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    bed.gateway_mut()?.kill9()?;
    ensure_closed(&bed)?;
    bed.gateway_mut()?.launch()?;
    ensure_serves(&bed)
}

fn stopped(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let status = bed.gateway_mut()?.stop()?;
    ensure!(status.success(), "{status}");
    ensure_closed(&bed)?;
    bed.gateway_mut()?.launch()?;
    ensure_serves(&bed)
}

/// A session that lasts; what ssh writes to standard error goes to a file.
fn lasting(bed: &Testbed) -> Result<Companion> {
    let mut command = bed.client_ssh("ssh");
    command.args([TARGET, "touch lasting; sleep 100"]).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(bed.dir().join("client/lasting"))?);
    let session = Companion::spawn(&mut command)?;
    let started = bed.server().home("alice").join("lasting");
    until("the session", LIMIT, || Ok(started.exists().then_some(())))?;
    Ok(session)
}

fn stop_tells(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let mut session = lasting(&bed)?;
    bed.gateway_mut()?.stop()?;
    session.wait(super::SOON)?;
    let said = std::fs::read_to_string(bed.dir().join("client/lasting"))?;
    ensure!(said.contains("stopping"), "the user reads {said:?}");
    Ok(())
}

fn live_sessions(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    let gateway = bed.gateway()?;
    let session = lasting(&bed)?;
    ensure!(metric(gateway, sample::SESSIONS_ACTIVE)? == 1.0, "the session is not shown");
    drop(session);
    until("no live session", super::SOON, || {
        Ok((metric(gateway, sample::SESSIONS_ACTIVE)? == 0.0).then_some(()))
    })
}

fn open_files(_: &Beds) -> Result<()> {
    let connections = 1_000_000;
    let config = Some(format!("[limits]\nconnections = {connections}\n"));
    let bed = own(&Options { config, ..Options::default() })?;
    let pid = bed.gateway()?.pid().context("no gateway runs")?;
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("no limit")?;
    let [soft, hard, _] = line.split_whitespace().collect::<Vec<_>>()[..] else { bail!("{line}") };
    ensure!(soft == hard, "{line}");
    if hard.parse::<u64>().is_ok_and(|hard| hard < connections * 5) {
        let log = bed.gateway()?.log()?;
        ensure!(log.contains("limits.connections = 1000000") && log.contains(hard), "{log}");
    }
    Ok(())
}
