//! Connections that policy or the gateway's end meets before their session begins.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{SSH_PORT, TARGET4, at};
use portreeve_tests::{Companion, Options, Testbed};

use super::{Check, access_event, policy};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET};

pub(super) const CHECKS: &[Check] = &[
    Check::new("a_grant_that_is_withdrawn_during_the_log_in_lets_nobody_in", revoked_during_log_in),
    Check::new("a_stop_during_the_log_in_tells_the_user", stopped_during_log_in),
    Check::new("a_stop_does_not_wait_for_clients_that_stall", stopped_during_handshakes),
];

/// How long an end may take that waits for nobody.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A target that takes half a minute over a log-in once alice's home holds `stall`, and then notes it
/// in `stalled`.
fn slow_target() -> Result<Testbed> {
    let command = "[ ! -e /home/alice/stall ] || { touch /home/alice/stalled; sleep 30; }; echo %u";
    let lines = format!(
        "AuthorizedPrincipalsCommandUser root\nAuthorizedPrincipalsCommand /bin/sh -c \"{command}\"\n"
    );
    let options =
        Options { policy: Some(policy("\"alice\"", "")), sshd_config: Some(lines), ..Options::default() };
    let bed = own(&options)?;
    std::fs::write(bed.server().home("alice").join("stall"), "")?;
    Ok(bed)
}

/// An ssh whose log-in the target takes its time over; what it says goes to the client's file `said`.
fn logging_in(bed: &Testbed) -> Result<Companion> {
    let mut command = bed.client_ssh("ssh");
    command.args([TARGET, "touch let_in"]).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(bed.dir().join("client/said"))?);
    let session = Companion::spawn(&mut command)?;
    let stalled = bed.server().home("alice").join("stalled");
    until("the log-in at the target", LIMIT, || Ok(stalled.exists().then_some(())))?;
    Ok(session)
}

fn ensure_told(bed: &Testbed, text: &str, outcome: &str) -> Result<()> {
    let said = std::fs::read_to_string(bed.dir().join("client/said"))?;
    ensure!(said.contains(text), "the user reads {said:?}");
    access_event(bed.gateway()?, "an access event", |event| event["outcome"] == outcome)?;
    ensure!(!bed.server().home("alice").join("let_in").exists(), "the command ran");
    Ok(())
}

fn revoked_during_log_in(_: &Beds) -> Result<()> {
    let bed = slow_target()?;
    let mut session = logging_in(&bed)?;
    bed.gateway()?.files().write_policy(&policy("\"deploy\"", ""))?;
    session.wait(AT_ONCE)?;
    ensure_told(&bed, "portreeve: your access has been withdrawn", "revoked")
}

fn stopped_during_log_in(_: &Beds) -> Result<()> {
    let mut bed = slow_target()?;
    let mut session = logging_in(&bed)?;
    let begun = Instant::now();
    bed.gateway_mut()?.stop()?;
    ensure!(begun.elapsed() < AT_ONCE, "the stop took {:?}", begun.elapsed());
    session.wait(AT_ONCE)?;
    ensure_told(&bed, "portreeve: the gateway is stopping", "shutdown")
}

fn stopped_during_handshakes(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let mut stalled = Vec::new();
    for opening in [&b""[..], b"SSH-2.0-stalls\r\n"] {
        let mut stream = bed.client_netns().connect(at(TARGET4, SSH_PORT))?;
        stream.write_all(opening)?;
        // The target has said what it is, and the client's turn has come.
        stream.read_exact(&mut [0; 8])?;
        stalled.push(stream);
    }
    let begun = Instant::now();
    bed.gateway_mut()?.stop()?;
    ensure!(begun.elapsed() < AT_ONCE, "the stop took {:?}", begun.elapsed());
    let log = bed.gateway()?.access_log()?;
    let ends: Vec<_> = log.iter().filter(|event| event["outcome"] == "shutdown").collect();
    ensure!(ends.len() == stalled.len(), "{log:?}");
    ensure!(ends.iter().all(|event| event["hostname"] == "server"), "{ends:?}");
    Ok(())
}
