//! Whether what the gateway recorded can be proven whole, and what was tampered with shows.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use portreeve_tests::{Finished, Options, Testbed, run};

use super::Check;
use super::recordings::recordings;
use super::reloads::lasting;
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("recordings_are_proven_whole_and_tampering_shows", tampering),
    Check::new("a_killed_gateway_leaves_a_chain_without_a_gap", killed),
    Check::new("two_gateways_at_once_write_one_chain", taken_over),
];

/// Keeps the public half of the key that signs now.
fn keep_audit_key(bed: &Testbed) -> Result<()> {
    let files = bed.gateway()?.files();
    let line = files.verb(&["audit-key", "show", "--state-dir"], &[&files.state_dir()])?;
    Ok(fs::write(bed.dir().join("audit.pub"), line)?)
}

fn verify(bed: &Testbed, directory: &Path) -> Result<Finished> {
    let files = bed.gateway()?.files();
    let mut command = Command::new(files.binary());
    command.args(["logs", "verify", "--audit-key"]).arg(bed.dir().join("audit.pub"));
    command.arg("--key").arg(files.recipient_key()).arg(directory);
    run(&mut command, b"", LIMIT)
}

fn ensure_whole(bed: &Testbed, sessions: usize) -> Result<()> {
    let verified = verify(bed, &bed.gateway()?.files().spool_dir())?;
    ensure!(verified.status.success(), "{}{}", verified.out(), verified.err());
    let intact = verified.out().lines().filter(|line| line.starts_with("intact ")).count();
    ensure!(intact == sessions, "{intact} of {sessions} are intact: {}", verified.out());
    Ok(())
}

fn ensure_shows(bed: &Testbed, problem: &str) -> Result<()> {
    let verified = verify(bed, &bed.gateway()?.files().spool_dir())?;
    ensure!(!verified.status.success() && verified.out().contains(problem), "{}", verified.out());
    Ok(())
}

fn tampering(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    keep_audit_key(&bed)?;
    ssh(&bed, &[TARGET, "echo one"])?.success()?;
    recordings(&bed, 3)?;
    // The gateway that runs signs with the new key, which the old one has announced.
    let files = bed.gateway()?.files();
    files.verb(&["audit-key", "rotate", "--state-dir"], &[&files.state_dir()])?;
    ssh(&bed, &[TARGET, "echo two"])?.success()?;
    let sessions = recordings(&bed, 4)?;
    bed.gateway_mut()?.stop()?;
    ensure_whole(&bed, 4)?;

    let log = sessions[3].join("channel-0.log");
    let whole = fs::read(&log)?;
    let mut changed = whole.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    fs::write(&log, &changed)?;
    ensure_shows(&bed, "altered: its blocks were changed")?;
    fs::write(&log, &whole[..last])?;
    ensure_shows(&bed, "channel-0.log: cut: ")?;
    fs::write(&log, &whole)?;
    ensure_whole(&bed, 4)?;
    fs::remove_dir_all(&sessions[3])?;
    ensure_shows(&bed, "of which a signed head tells, are missing at the end")?;
    fs::remove_dir_all(&sessions[1])?;
    ensure_shows(&bed, "missing: session 2")
}

fn killed(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    keep_audit_key(&bed)?;
    let mut session = lasting(&bed, "10.1.1.2", "lasts")?;
    bed.gateway_mut()?.kill9()?;
    session.wait(LIMIT)?;
    ensure_shows(&bed, "never-finished")?;
    bed.gateway_mut()?.launch()?;
    ssh(&bed, &[TARGET, "true"])?.success()?;
    recordings(&bed, 4)?;
    ensure_whole(&bed, 4)?;
    let verified = verify(&bed, &bed.gateway()?.files().spool_dir())?;
    ensure!(verified.out().contains("(closed after a crash)"), "{}", verified.out());
    Ok(())
}

/// Sessions of a gateway that drains end between those of the one that took over.
fn taken_over(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    keep_audit_key(&bed)?;
    recordings(&bed, 2)?;
    let mut before = Vec::new();
    for name in ["before_1", "before_2", "before_3"] {
        before.push(lasting(&bed, "10.1.1.2", name)?);
    }
    let successor = bed.gateway()?.take_over()?;
    let mut old = bed.gateway_mut()?.adopt(successor).context("no gateway ran")?;
    let mut closed = 2;
    for session in &mut before {
        ssh(&bed, &[TARGET, "true"])?.success()?;
        session.signal(Signal::SIGKILL)?;
        session.wait(LIMIT)?;
        closed += 2;
        recordings(&bed, closed)?;
    }
    let drained = old.wait(LIMIT * 2)?;
    ensure!(drained.success(), "the gateway that drained ended with {drained:?}");
    ensure_whole(&bed, closed)
}
