//! Policy that changes while the gateway runs.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{OPEN4, SSH_PORT, TARGET4, at};
use portreeve_tests::{Companion, Gateway, Options, Testbed};

use super::{Check, SOON, access_event, first_line, metric, policy, sample};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("revocation_ends_the_live_session_within_two_seconds", revocation),
    Check::new("a_block_ends_the_live_session_within_two_seconds", late_block),
    Check::new("a_bad_policy_changes_nothing", bad_policy),
    Check::new("a_policy_is_read_while_connections_keep_coming", read_under_load),
    Check::new("sighup_reads_the_policy_again", sighup),
    Check::new("a_new_target_is_intercepted_after_a_reload", new_target),
];

/// Waits until a sample has reached a value.
pub(super) fn wait_for(gateway: &Gateway, sample: &str, value: f64) -> Result<()> {
    until(&format!("{sample} {value}"), SOON, || Ok((metric(gateway, sample)? >= value).then_some(())))
}

/// A session that lasts, from one of the client's addresses.
pub(super) fn lasting(bed: &Testbed, from: &str, name: &str) -> Result<Companion> {
    let mut command = bed.client_ssh("ssh");
    command.args(["-b", from, TARGET, &format!("touch {name}; sleep 100")]).stdin(Stdio::null());
    let errors = std::fs::File::create(bed.dir().join("client").join(name))?;
    command.stdout(Stdio::null()).stderr(errors);
    let session = Companion::spawn(&mut command)?;
    let started = bed.server().home("alice").join(name);
    until("the session", LIMIT, || Ok(started.exists().then_some(())))?;
    Ok(session)
}

fn two_users() -> Result<Testbed> {
    own(&Options { policy: Some(policy("\"alice\"", "")), ..Options::default() })
}

/// That a policy ends the live session of alice, and of nobody else.
pub(super) fn ends_only_alice(next_policy: &str, bed: &Testbed) -> Result<()> {
    let mut alice = lasting(bed, "10.1.1.2", "alice_lasts")?;
    let mut bob = lasting(bed, "10.1.1.9", "bob_lasts")?;
    bed.gateway()?.files().write_policy(next_policy)?;
    let begun = Instant::now();
    alice.wait(Duration::from_secs(5))?;
    let took = begun.elapsed();
    ensure!(took <= Duration::from_secs(2), "the session lived for {took:?} after its policy");
    let said = std::fs::read_to_string(bed.dir().join("client/alice_lasts"))?;
    ensure!(said.contains("withdrawn"), "the user reads {said:?}");
    access_event(bed.gateway()?, "an access event of the revocation", |event| {
        event["outcome"] == "revoked" && event["email"] == "alice@example.com"
    })?;
    ensure!(bob.is_running()?, "the other user's session ended too");
    Ok(())
}

fn revocation(_: &Beds) -> Result<()> {
    let bed = two_users()?;
    ends_only_alice(&policy("\"deploy\"", ""), &bed)?;
    super::ensure_refused(&ssh(&bed, &[TARGET, "id"])?, &["alice@example.com"])
}

fn late_block(_: &Beds) -> Result<()> {
    let block = "{ name = \"out\", action = \"block\", enabled = true, precedence = 1, \
                 identity = \"identity.email == \\\"alice@example.com\\\"\" }";
    ends_only_alice(&policy("\"alice\"", block), &two_users()?)
}

fn bad_policy(_: &Beds) -> Result<()> {
    let bed = two_users()?;
    let gateway = bed.gateway()?;
    let before = metric(gateway, sample::RELOADS_REJECTED)?;
    let mut session = lasting(&bed, "10.1.1.2", "lasts")?;
    let bad = policy("\"alice\"", "{ name = \"x\", action = \"block\", traffic = \"net.dst.prt == 22\" }");
    gateway.files().write_policy(&bad)?;
    wait_for(gateway, sample::RELOADS_REJECTED, before + 1.0)?;
    ensure!(session.is_running()?, "a bad policy ended a session");
    ssh(&bed, &[TARGET, "true"])?.success()?;
    let log = gateway.log()?;
    ensure!(log.contains("policy.toml") && log.contains("net.dst.prt"), "the error is not logged: {log}");
    let applied = metric(gateway, sample::RELOADS_APPLIED)?;
    gateway.files().write_policy(&policy("\"alice\", \"deploy\"", ""))?;
    wait_for(gateway, sample::RELOADS_APPLIED, applied + 1.0)?;
    ssh(&bed, &["deploy@10.1.2.3", "true"])?.success()?;
    Ok(())
}

/// Connections come faster than the gateway waits for a file to be quiet.
fn read_under_load(_: &Beds) -> Result<()> {
    let bed = two_users()?;
    let gateway = bed.gateway()?;
    let before = metric(gateway, sample::RELOADS_APPLIED)?;
    gateway.files().write_policy(&policy("\"alice\", \"deploy\"", ""))?;
    let target = at(TARGET4, SSH_PORT);
    until("the new policy", SOON, || {
        first_line(&bed, target)?;
        Ok((metric(gateway, sample::RELOADS_APPLIED)? > before).then_some(()))
    })
}

fn sighup(_: &Beds) -> Result<()> {
    let bed = two_users()?;
    let gateway = bed.gateway()?;
    let before = metric(gateway, sample::RELOADS_APPLIED)?;
    gateway.reload()?;
    wait_for(gateway, sample::RELOADS_APPLIED, before + 1.0)?;
    ssh(&bed, &[TARGET, "true"])?.success()?;
    Ok(())
}

/// Whether the gateway has served a connection to `target`.
fn is_logged(bed: &Testbed, target: SocketAddr) -> Result<bool> {
    let log = bed.gateway()?.access_log()?;
    Ok(log.iter().any(|event| event["target"] == target.to_string()))
}

fn new_target(_: &Beds) -> Result<()> {
    let bed = two_users()?;
    let open = at(OPEN4, SSH_PORT);
    first_line(&bed, open)?;
    ensure!(!is_logged(&bed, open)?, "something stands before {open}");
    let wider = policy("\"alice\"", "").replace("@REFUSING4@", "@OPEN4@");
    bed.gateway()?.files().write_policy(&wider)?;
    until("the gateway before the new target", SOON, || {
        first_line(&bed, open)?;
        Ok(is_logged(&bed, open)?.then_some(()))
    })?;
    let finished = ssh(&bed, &["alice@10.1.2.4", "uname -n"])?;
    ensure!(finished.success()? == "server\n", "the new target does not answer");
    Ok(())
}
