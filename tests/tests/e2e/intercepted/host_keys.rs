//! The host keys that users see.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::{Options, Route, Testbed, run};

use super::{Check, access_event, ensure_refused, metric, sample};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("nobody_needs_a_key_or_a_password", no_key),
    Check::new("the_host_key_is_derived_and_the_same_everywhere", derived),
    Check::new("a_restart_keeps_the_host_key", restart),
    Check::new("a_target_that_loses_a_host_key_looks_the_same_by_those_it_has_proven", loses_a_key),
    Check::new("a_changed_target_key_is_shown_as_changed", changed),
];

/// Host keys as a scanner sees them, without the address before each.
fn scan(bed: &Testbed, address: &str) -> Result<Vec<String>> {
    let mut command = bed.client("ssh-keyscan");
    command.args(["-T", "10", "-t", "ed25519,ecdsa", address]);
    let seen = run(&mut command, b"", LIMIT)?.success()?;
    let mut keys: Vec<String> =
        seen.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect();
    keys.sort();
    ensure!(!keys.is_empty(), "no host key at {address}");
    Ok(keys)
}

fn no_key(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let finished = ssh(bed, &["-v", TARGET, "true"])?;
    let said = finished.err();
    ensure!(said.contains("using \"none\""), "{said}");
    finished.success()?;
    Ok(())
}

fn derived(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let seen = scan(bed, "10.1.2.3")?;
    ensure!(seen.len() == 2, "{seen:?}");
    ensure!(seen == scan(bed, "fd00:1:2::3")?, "one target has two sets of host keys");
    for kind in ["ed25519", "ecdsa"] {
        let own = bed.server().host_public_key(kind)?;
        ensure!(!seen.iter().any(|key| own.starts_with(key.as_str())), "the target's own key is shown");
    }
    Ok(())
}

fn restart(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let before = scan(&bed, "10.1.2.3")?;
    let gateway = bed.gateway_mut()?;
    gateway.stop()?;
    gateway.launch()?;
    ensure!(before == scan(&bed, "10.1.2.3")?, "the host key changed");
    ssh(&bed, &[TARGET, "true"])?.success()?;
    Ok(())
}

/// What the gateway has pinned for the target, as `TYPE BLOB`.
pub(super) fn pinned(bed: &Testbed) -> Result<Vec<String>> {
    let files = bed.gateway()?.files();
    let list = files.verb(&["host-keys", "list", "--state-dir"], &[&files.state_dir()])?;
    let of_target = list.lines().filter_map(|line| line.strip_prefix("10.1.2.3:22 "));
    Ok(of_target.map(str::to_owned).collect())
}

fn loses_a_key(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let before = scan(&bed, "10.1.2.3")?;
    let all = until("all host keys of the target", LIMIT, || {
        Ok(Some(pinned(&bed)?).filter(|pinned| pinned.len() == 3))
    })?;
    for (kind, pinned) in ["ed25519", "ecdsa", "rsa"].into_iter().zip(&all) {
        ensure!(bed.server().host_public_key(kind)?.starts_with(pinned.as_str()), "{kind}: {pinned}");
    }
    let quiet = |bed: &Testbed| -> Result<()> {
        let finished = ssh(bed, &["-o", "StrictHostKeyChecking=yes", TARGET, "echo in"])?;
        ensure!(finished.err().is_empty(), "{}", finished.err());
        ensure!(finished.success()? == "in\n", "no session");
        Ok(())
    };
    for (lost, shown) in [("ed25519", "ecdsa"), ("ecdsa", "rsa")] {
        let fingerprint = fingerprint(&bed, shown)?;
        bed.server_mut().remove_host_key(lost)?;
        quiet(&bed)?;
        access_event(bed.gateway()?, "an access event with the other key", |event| {
            event["host_key"] == fingerprint.as_str() && event["host_key_verdict"] == "known"
        })?;
        ensure!(before == scan(&bed, "10.1.2.3")?, "users see another host key");
        ensure!(pinned(&bed)? == all, "the pins changed");
    }
    ensure!(metric(bed.gateway()?, sample::HOST_KEY_CHANGES)? == 0.0, "a change is counted");
    bed.server_mut().change_host_keys()?;
    ensure_refused(&ssh(&bed, &[TARGET, "id"])?, &["REMOTE HOST IDENTIFICATION HAS CHANGED"])?;
    ensure!(pinned(&bed)? == all, "a changed key is pinned");
    Ok(())
}

/// Of one of the target's own keys, as `SHA256:...`.
pub(super) fn fingerprint(bed: &Testbed, kind: &str) -> Result<String> {
    let key = bed.server().host_public_key(kind)?;
    let line = run(Command::new("ssh-keygen").args(["-l", "-f", "-"]), key.as_bytes(), LIMIT)?.success()?;
    Ok(line.split(' ').nth(1).context("no fingerprint")?.to_owned())
}

fn changed(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    bed.server_mut().change_host_keys()?;
    ensure_refused(&ssh(&bed, &[TARGET, "id"])?, &["REMOTE HOST IDENTIFICATION HAS CHANGED"])?;
    let event = access_event(bed.gateway()?, "an access event of the change", |event| {
        event["outcome"] == "host_key_changed"
    })?;
    ensure!(event["host_key_verdict"] == "changed", "{event}");
    ensure!(metric(bed.gateway()?, sample::HOST_KEY_CHANGES)? >= 1.0, "the change is not counted");
    // A user who has never been there gets no warning from ssh; the gateway must refuse by itself.
    let new_user = ["-o", "UserKnownHostsFile=/dev/null", TARGET, "id"];
    ensure_refused(&ssh(&bed, &new_user)?, &["host key"])
}
