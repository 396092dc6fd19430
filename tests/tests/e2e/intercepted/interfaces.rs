//! Interfaces that change under a daemon that runs.

use anyhow::{Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::{Options, run};
use serde_json::json;

use super::{Check, SOON, dialled_by_the_gateway, metric, sample};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, TARGET_V6, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("an_interface_made_anew_is_intercepted", made_anew),
    Check::new("an_interface_left_open_is_told_and_not_ready", left_open),
];

/// The client has no key, so a session is one through the gateway.
fn made_anew(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    bed.topology().relink_client()?;
    let gateway = bed.gateway()?;
    until("the attachment", SOON, || {
        Ok((metric(gateway, sample::INTERFACES_REATTACHED)? == 1.0).then_some(()))
    })?;
    for target in [TARGET, TARGET_V6] {
        ensure!(ssh(&bed, &[target, "echo again"])?.success()? == "again\n");
    }
    ensure!(dialled_by_the_gateway(&bed)? > 0, "the server saw nobody");
    let log = bed.server().log()?;
    ensure!(!log.contains("Connection from 10.1.1."), "the server saw the client itself: {log}");
    let found = gateway.datapath_status()?;
    ensure!(found["interfaces"] == json!(["lan0", "wan0"]) && found["not_attached"] == json!([]), "{found}");
    ensure!(gateway.http("/readyz")?.0 == 200);
    Ok(())
}

/// A tunnel under the name of a configured interface has no Ethernet frames.
fn left_open(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    let gateway = bed.gateway()?;
    let ip = |words: &str| {
        let mut command = bed.topology().gateway.command("ip");
        run(command.args(words.split(' ')), b"", LIMIT)?.success()
    };
    let answers = |wanted: u16| {
        until(&format!("/readyz {wanted}"), SOON, || Ok((gateway.http("/readyz")?.0 == wanted).then_some(())))
    };
    answers(200)?;
    ip("link del wan0")?;
    ip("tuntap add mode tun name wan0")?;
    answers(503)?;
    ensure!(metric(gateway, sample::INTERFACES_OPEN)? == 1.0, "the gauge does not tell");
    let log = gateway.log()?;
    ensure!(log.contains("wan0 is not Ethernet") && log.contains("targets are open"), "{log}");
    let found = gateway.datapath_status()?;
    ensure!(found["interfaces"] == json!(["lan0"]) && found["not_attached"] == json!(["wan0"]), "{found}");
    ip("link del wan0")?;
    answers(200)?;
    ensure!(metric(gateway, sample::INTERFACES_OPEN)? == 0.0, "the gauge does not fall");
    Ok(())
}
