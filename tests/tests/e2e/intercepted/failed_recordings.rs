//! What becomes of sessions that cannot be recorded, or not any more.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use portreeve_tests::deadline::until;
use portreeve_tests::{Companion, Options, Testbed};
use serde_json::Value;

use super::recordings::{bed, events, recordings};
use super::{Check, SOON, access_event, dialled_by_the_gateway, ensure_refused, metric, policy, sample};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, Standing, TARGET, converse, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("a_session_that_cannot_be_recorded_is_refused_before_the_target", unwritable),
    Check::new("a_spool_that_fills_ends_the_session_and_says_why", full),
    Check::new("a_spool_that_is_read_only_refuses_sessions_until_it_is_writable", read_only),
    Check::new("the_reserve_lets_break_glass_identities_alone_in", reserve),
    Check::new("a_session_that_goes_on_without_room_has_a_gap_that_tells_what_is_missing", gap),
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

/// Runs a check with a file system of its own mounted on the spool, which is unmounted again.
fn on_small_spool(bed: &Testbed, size: &str, check: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    recordings(bed, 2)?;
    let spool = bed.gateway()?.files().spool_dir();
    let tmpfs = Some("tmpfs");
    let options = format!("size={size}");
    mount(tmpfs, &spool, tmpfs, MsFlags::empty(), Some(&*options)).context("mount a small spool")?;
    let checked = check(&spool);
    umount2(&spool, MntFlags::MNT_DETACH).context("unmount the small spool")?;
    checked
}

fn full(_: &Beds) -> Result<()> {
    let bed = bed()?;
    on_small_spool(&bed, "512k", |_| fill(&bed))
}

fn read_only(_: &Beds) -> Result<()> {
    let bed = bed()?;
    on_small_spool(&bed, "64m", |spool| {
        let remount =
            |flags| mount(None::<&str>, spool, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>);
        remount(MsFlags::MS_RDONLY).context("make the spool read-only")?;
        let before = dialled_by_the_gateway(&bed)?;
        ensure_refused(&ssh(&bed, &[TARGET, "id"])?, &["recorded"])?;
        ensure!(dialled_by_the_gateway(&bed)? == before, "the target was dialled");
        let read_only = |event: &Value| {
            event["outcome"] == "recording_failed"
                && event["reason"].as_str().is_some_and(|reason| reason.contains("Read-only file system"))
        };
        access_event(bed.gateway()?, "an access event that names the reason", read_only)?;
        remount(MsFlags::empty()).context("make the spool writable")?;
        ssh(&bed, &[TARGET, "true"])?.success()?;
        Ok(())
    })
}

fn reserve(_: &Beds) -> Result<()> {
    let broken_glass = "email = \"bob@example.com\"";
    let policy =
        policy("\"alice\"", "").replacen(broken_glass, &format!("{broken_glass}, break_glass = true"), 1);
    let options = Options {
        policy: Some(policy),
        config: Some("[recording]\nreserve = \"32MiB\"".to_owned()),
        ..Options::default()
    };
    let bed = own(&options)?;
    on_small_spool(&bed, "16m", |_| {
        let wanted = || ssh(&bed, &["-b", "10.1.1.2", TARGET, "true"]);
        // What was free a moment ago counts for a second.
        until("a session that is refused", SOON, || Ok((!wanted()?.status.success()).then_some(())))?;
        ensure_refused(&wanted()?, &["recorded"])?;
        let told = |event: &Value| {
            event["reason"].as_str().is_some_and(|reason| reason.contains("32 MiB are kept in reserve"))
        };
        access_event(bed.gateway()?, "an access event that names the reserve", told)?;
        let bob = ssh(&bed, &["-b", "10.1.1.9", TARGET, "echo in"])?.success()?;
        ensure!(bob == "in\n", "{bob:?}");
        Ok(())
    })
}

fn gap(_: &Beds) -> Result<()> {
    const BYTES: usize = 8_000_000;
    let config = "[recording]\nreserve = \"12MiB\"\non_failure = \"continue\"".to_owned();
    let bed = own(&Options { config: Some(config), ..Options::default() })?;
    on_small_spool(&bed, "16m", |_| {
        // In two parts, since what is free is looked up once a second.
        let command = format!("head -c {BYTES} /dev/zero; sleep 2; head -c {BYTES} /dev/zero; exit 5");
        let finished = ssh(&bed, &[TARGET, &command])?;
        ensure!(finished.ending() == "exit 5", "{}: {}", finished.ending(), finished.err());
        ensure!(finished.stdout.len() == 2 * BYTES, "the user has {} bytes", finished.stdout.len());
        let events = events(&bed, recordings(&bed, 1)?.first().context("no recording")?)?;
        let gap = events.iter().find(|event| event["event"] == "gap").context("the events tell no gap")?;
        let lost = gap["lost_bytes"].as_u64().context("a gap without a size")?;
        ensure!(lost > 0 && lost <= 2 * BYTES as u64 && gap["channel"] == 0, "{gap}");
        ensure!(events.last().is_some_and(|event| event["event"] == "session-ended"), "{events:?}");
        let told = metric(bed.gateway()?, sample::RECORDING_FAILURES)?;
        ensure!(told == 1.0, "{told} recordings failed");
        Ok(())
    })
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
