//! Interfaces that change under a daemon that runs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{OPEN4, OPEN6, SSH_PORT, TARGET4, TARGET6, at};
use portreeve_tests::{Gateway, Options, Testbed, run};
use serde_json::json;

use super::{Check, SOON, dialled_by_the_gateway, metric, read_line, sample};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, TARGET_V6, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("an_interface_made_anew_is_intercepted", made_anew),
    Check::new("an_interface_without_frames_is_intercepted_and_closed", without_frames),
    Check::new("an_interface_left_open_is_told_and_not_ready", left_open),
    Check::new("an_interface_that_becomes_a_port_is_told_and_not_ready", becomes_port),
];

/// How long no answer must come before a connection counts as closed.
const CLOSED_AFTER: Duration = Duration::from_millis(1500);

/// The client has no key, so a session is one through the gateway.
fn made_anew(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    bed.topology().relink_client()?;
    ensure_intercepted(&bed)
}

/// As behind WireGuard, the client's packets begin with the IP header.
fn without_frames(_: &Beds) -> Result<()> {
    const BULK: usize = 4_000_000;
    let mut bed = own(&Options::default())?;
    bed.topology().relink_client_without_frames()?;
    ensure_intercepted(&bed)?;
    let bulk = ssh(&bed, &[TARGET, &format!("head -c {BULK} /dev/zero")])?.success()?;
    ensure!(bulk.len() == BULK, "{} bytes came", bulk.len());
    let (client, open) = (bed.topology().client.clone(), [at(OPEN4, SSH_PORT), at(OPEN6, SSH_PORT)]);
    for to in open {
        ensure!(read_line(client.connect(to)?)?.contains("OpenSSH"), "{to} is no target");
    }
    bed.gateway_mut()?.kill9()?;
    for to in [at(TARGET4, SSH_PORT), at(TARGET6, SSH_PORT)] {
        ensure!(client.connect_within(to, CLOSED_AFTER).is_err(), "{to} answers without a gateway");
    }
    for to in open {
        ensure!(read_line(client.connect(to)?)?.contains("OpenSSH"), "{to} is no target");
    }
    Ok(())
}

fn ensure_intercepted(bed: &Testbed) -> Result<()> {
    let gateway = bed.gateway()?;
    until("the attachment", SOON, || {
        Ok((metric(gateway, sample::INTERFACES_REATTACHED)? == 1.0).then_some(()))
    })
    .with_context(|| gateway.log().unwrap_or_default())?;
    for target in [TARGET, TARGET_V6] {
        ensure!(ssh(bed, &[target, "echo again"])?.success()? == "again\n");
    }
    ensure!(dialled_by_the_gateway(bed)? > 0, "the server saw nobody");
    let log = bed.server().log()?;
    ensure!(!log.contains("Connection from 10.1.1."), "the server saw the client itself: {log}");
    let found = gateway.datapath_status()?;
    ensure!(found["interfaces"] == json!(["lan0", "wan0"]) && found["not_attached"] == json!([]), "{found}");
    ensure!(gateway.http("/readyz")?.0 == 200);
    Ok(())
}

/// A tunnel under the name of a configured interface has packets that no program reads.
fn left_open(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    let gateway = bed.gateway()?;
    ensure_ready(gateway)?;
    ip(&bed, "link del wan0")?;
    ip(&bed, "link add wan0 type vxlan external gpe dstport 4790")?;
    ensure_open(gateway, "interface wan0 is neither Ethernet nor WireGuard nor TUN")?;
    let found = gateway.datapath_status()?;
    ensure!(found["interfaces"] == json!(["lan0"]) && found["not_attached"] == json!(["wan0"]), "{found}");
    ip(&bed, "link del wan0")?;
    ensure_ready(gateway)
}

/// A bridge takes its frames before the stack does, whatever the program says.
fn becomes_port(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    let gateway = bed.gateway()?;
    ensure_ready(gateway)?;
    ip(&bed, "link add br0 type bridge")?;
    ip(&bed, "link set wan0 master br0")?;
    ensure_open(gateway, "interface wan0 is a port of br0, which takes its frames first; configure br0")?;
    ip(&bed, "link set wan0 nomaster")?;
    ensure_ready(gateway)
}

/// Runs `ip WORDS` at the gateway.
fn ip(bed: &Testbed, words: &str) -> Result<()> {
    let mut command = bed.topology().gateway.command("ip");
    run(command.args(words.split(' ')), b"", LIMIT)?.success().map(drop)
}

fn ensure_ready(gateway: &Gateway) -> Result<()> {
    ready_becomes(gateway, 200)?;
    ensure!(metric(gateway, sample::INTERFACES_OPEN)? == 0.0, "the gauge does not fall");
    Ok(())
}

/// Whether one interface is open, for this reason, and all that tells it does.
fn ensure_open(gateway: &Gateway, why: &str) -> Result<()> {
    ready_becomes(gateway, 503)?;
    ensure!(metric(gateway, sample::INTERFACES_OPEN)? == 1.0, "the gauge does not tell");
    let log = gateway.log()?;
    ensure!(log.contains(why) && log.contains("targets are open"), "{log}");
    Ok(())
}

fn ready_becomes(gateway: &Gateway, wanted: u16) -> Result<()> {
    let answer = || Ok((gateway.http("/readyz")?.0 == wanted).then_some(()));
    until(&format!("/readyz {wanted}"), SOON, answer)
}
