//! What becomes of sessions that cannot be recorded, or not any more.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use portreeve_tests::deadline::until;
use portreeve_tests::{Companion, Testbed};
use serde_json::Value;

use super::recordings::{bed, recordings};
use super::{Check, SOON, access_event, dialled_by_the_gateway, ensure_refused, metric, sample};
use crate::beds::Beds;
use crate::ssh::{LIMIT, Standing, TARGET, converse, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("a_session_that_cannot_be_recorded_is_refused_before_the_target", unwritable),
    Check::new("a_spool_that_fills_ends_the_session_and_says_why", full),
    Check::new("a_recording_that_fails_ends_a_session_that_only_forwards", forwarding_only),
    Check::new("a_recording_that_is_lost_at_the_end_is_how_the_session_ended", lost_at_the_end),
];

/// Root may write anywhere, so the directory is replaced by a file.
fn unwritable(_: &Beds) -> Result<()> {
    let bed = bed()?;
    recordings(&bed, 2)?;
    let spool = bed.gateway()?.files().spool_dir();
    let away = spool.with_extension("away");
    fs::rename(&spool, &away)?;
    fs::write(&spool, "")?;
    let before = dialled_by_the_gateway(&bed)?;
    ensure_refused(&ssh(&bed, &[TARGET, "id"])?, &["recorded"])?;
    ensure!(dialled_by_the_gateway(&bed)? == before, "the target was dialled");
    access_event(bed.gateway()?, "an access event", |event| event["outcome"] == "recording_failed")?;
    fs::remove_file(&spool)?;
    fs::rename(&away, &spool)?;
    ssh(&bed, &[TARGET, "true"])?.success()?;
    Ok(())
}

fn full(_: &Beds) -> Result<()> {
    let bed = bed()?;
    recordings(&bed, 2)?;
    let spool = bed.gateway()?.files().spool_dir();
    let tmpfs = Some("tmpfs");
    mount(tmpfs, &spool, tmpfs, MsFlags::empty(), Some("size=512k")).context("mount a small spool")?;
    let checked = fill(&bed);
    umount2(&spool, MntFlags::MNT_DETACH).context("unmount the small spool")?;
    checked
}

fn fill(bed: &Testbed) -> Result<()> {
    let gateway = bed.gateway()?;
    let finished = ssh(bed, &[TARGET, "head -c 4000000 /dev/urandom"])?;
    ensure!(finished.ending() == "exit 255", "{}: {}", finished.ending(), finished.err());
    ensure!(finished.err().contains("portreeve: the session ended"), "{}", finished.err());
    let failed = |event: &Value| event["outcome"] == "recording_failed";
    let event = access_event(gateway, "an access event of the session", failed)?;
    let reason = event["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("No space left on device"), "{event}");
    let failures = metric(gateway, sample::RECORDING_FAILURES)?;
    ensure!(failures == 1.0, "one failed session is counted as {failures}");
    Ok(())
}

/// The recording of the only session that runs.
fn unfinished(spool: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(spool)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let part = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "part");
    entries.into_iter().find(part).context("no session is being recorded")
}

fn lost_at_the_end(_: &Beds) -> Result<()> {
    let bed = bed()?;
    recordings(&bed, 2)?;
    let mut command = bed.client_ssh("ssh");
    command.args([TARGET, "touch here; until [ -e over ]; do sleep 0.1; done"]).stdin(Stdio::null());
    let mut session = Companion::spawn(&mut command)?;
    let home = bed.server().home("alice");
    until("the session", LIMIT, || Ok(home.join("here").exists().then_some(())))?;
    let part = unfinished(&bed.gateway()?.files().spool_dir())?;
    until("a recording that is up to date", SOON, || {
        let age = fs::metadata(part.join("events.log"))?.modified()?.elapsed()?;
        Ok((age > Duration::from_secs(1)).then_some(()))
    })?;
    fs::remove_dir_all(part)?;
    fs::write(home.join("over"), "")?;
    session.wait(SOON)?;
    let failed = |event: &Value| event["outcome"] == "recording_failed";
    let event = access_event(bed.gateway()?, "an access event of the session", failed)?;
    let reason = event["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("the recording failed: cannot write"), "{event}");
    Ok(())
}

fn forwarding_only(_: &Beds) -> Result<()> {
    let bed = bed()?;
    recordings(&bed, 2)?;
    let mut session = Standing::start(&bed, "forwards", &["-L", "127.0.0.1:10050:127.0.0.1:7", TARGET])?;
    let forward = SocketAddr::from(([127, 0, 0, 1], 10_050));
    let spool = bed.gateway()?.files().spool_dir();
    session.until("the forward", || converse(bed.client_netns().connect(forward).ok()?, b"echo").ok())?;
    fs::remove_dir_all(unfinished(&spool)?)?;
    // What is written next fails, and nothing comes after.
    let _open = bed.client_netns().connect(forward)?;
    session.companion().wait(SOON)?;
    let said = session.stderr()?;
    ensure!(said.contains("portreeve: the session ended"), "the user reads {said:?}");
    let failed = |event: &Value| event["outcome"] == "recording_failed";
    access_event(bed.gateway()?, "an access event of the session", failed)?;
    Ok(())
}
