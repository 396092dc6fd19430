//! `portreeve datapath attach`: targets are closed before a gateway runs.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{SSH_PORT, TARGET4, at};
use portreeve_tests::{Companion, Finished, Options, Testbed, run};
use serde_json::{Value, json};

use super::lifecycle::{ensure_closed, ensure_serves};
use super::{Check, SOON, first_line};
use crate::beds::{Beds, own};
use crate::ssh::LIMIT;

pub(super) const CHECKS: &[Check] = &[
    Check::new("targets_are_closed_before_the_gateway_starts", before_the_gateway),
    Check::new("a_broken_policy_leaves_older_targets_closed", broken_policy),
    Check::new("attach_names_an_interface_that_is_a_port", port),
    Check::new("attach_waits_for_an_interface_that_comes_later", later),
];

pub(super) fn datapath(bed: &Testbed, words: &[&str]) -> Result<Command> {
    let files = bed.gateway()?.files();
    let mut command = bed.topology().gateway.command(files.binary());
    command.args(["--json", "datapath"]).args(words).arg("--config").arg(files.config_file());
    Ok(command)
}

pub(super) fn attach(bed: &Testbed, more: &[&str]) -> Result<Finished> {
    run(&mut datapath(bed, &[&["attach"], more].concat())?, b"", LIMIT)
}

pub(super) fn detach(bed: &Testbed) -> Result<()> {
    run(&mut datapath(bed, &["detach"])?, b"", LIMIT)?.success()?;
    let line = first_line(bed, at(TARGET4, SSH_PORT))?;
    ensure!(line.contains("OpenSSH"), "a target that nothing is attached for answers {line:?}");
    Ok(())
}

/// As after a boot: a gateway was never there.
fn before_the_gateway(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let running = attach(&bed, &[])?;
    ensure!(running.out().contains("nothing to do"), "{}", running.out());
    running.success()?;
    let pid = bed.gateway()?.pid();
    ensure!(
        bed.gateway()?.datapath_status()?["gateway"] == json!(pid),
        "{}",
        bed.gateway()?.datapath_status()?
    );
    bed.gateway_mut()?.stop()?;
    detach(&bed)?;
    let report: Value = serde_json::from_str(&attach(&bed, &[])?.success()?)?;
    ensure!(report["attached"] == json!(["lan0", "wan0"]) && report["absent"] == json!([]), "{report}");
    ensure_closed(&bed)?;
    let found = bed.gateway()?.datapath_status()?;
    ensure!(found["interfaces"] == json!(["lan0", "wan0"]) && found["gateway"].is_null(), "{found}");
    let again = attach(&bed, &["--unless-attached", "--wait", "10s"])?;
    ensure!(again.out().contains("nothing to do"), "{again:?}");
    let same = bed.gateway()?.datapath_status()?;
    ensure!(same["programs"] == found["programs"], "programs were loaded for nothing: {same} {found}");
    ensure!(found["targets"] == report["targets"] && report["targets"] != json!(0), "{found} {report}");
    bed.gateway_mut()?.launch()?;
    ensure_serves(&bed)
}

fn broken_policy(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    bed.gateway_mut()?.stop()?;
    let policy = bed.gateway()?.files().policy_file();
    let good = fs::read_to_string(&policy)?;
    fs::write(&policy, "targets = 7")?;
    let refused = attach(&bed, &[])?;
    ensure!(refused.ending() == "exit 1" && refused.err().contains("targets of before"), "{refused:?}");
    ensure_closed(&bed)?;
    detach(&bed)?;
    let refused = attach(&bed, &[])?;
    ensure!(refused.ending() == "exit 1" && refused.err().contains("no target is closed"), "{refused:?}");
    fs::write(&policy, good)?;
    attach(&bed, &[])?.success()?;
    ensure_closed(&bed)
}

/// The program is there all the same: it drops what is for targets before the bridge sees it.
fn port(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    bed.gateway_mut()?.stop()?;
    detach(&bed)?;
    let gateway = &bed.topology().gateway;
    for words in ["link add br0 type bridge", "link set lan0 master br0"] {
        run(gateway.command("ip").args(words.split(' ')), b"", LIMIT)?.success()?;
    }
    let refused = attach(&bed, &[])?;
    ensure!(refused.ending() == "exit 1", "{refused:?}");
    let report: Value = serde_json::from_str(&refused.out())?;
    let why = report["open"][0][1].as_str().unwrap_or_default();
    ensure!(why.contains("interface lan0 is a port of br0"), "{report}");
    let found = bed.gateway()?.datapath_status()?;
    ensure!(found["interfaces"] == json!(["lan0", "wan0"]), "{found}");
    Ok(())
}

fn later(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    bed.gateway_mut()?.stop()?;
    detach(&bed)?;
    let file = bed.gateway()?.files().config_file();
    let text = fs::read_to_string(&file)?.replace("\"lan0\"", "\"lan0\", \"late0\"");
    fs::write(&file, text)?;
    let report: Value = serde_json::from_str(&attach(&bed, &[])?.success()?)?;
    ensure!(report["absent"] == json!(["late0"]), "{report}");
    let impatient = attach(&bed, &["--wait", "100ms"])?;
    ensure!(impatient.ending() == "exit 1" && impatient.out().contains("late0"), "{impatient:?}");
    run(&mut datapath(&bed, &["detach"])?, b"", LIMIT)?.success()?;
    let mut waiting =
        Companion::spawn(&mut datapath(&bed, &["attach", "--unless-attached", "--wait", "1m"])?)?;
    let there = json!(["lan0", "wan0"]);
    // Pins that are half made are no status.
    until("the first interfaces", SOON, || {
        Ok(bed.gateway()?.datapath_status().ok().filter(|found| found["interfaces"] == there).map(drop))
    })?;
    let second = attach(&bed, &[])?;
    ensure!(second.out().contains("nothing to do"), "it holds the pins while it waits: {second:?}");
    ensure!(waiting.is_running()?, "it does not wait");
    let gateway = &bed.topology().gateway;
    run(
        gateway.command("ip").args(["link", "add", "late0", "type", "veth", "peer", "name", "far0"]),
        b"",
        LIMIT,
    )?
    .success()?;
    let ended = waiting.wait(SOON)?;
    ensure!(ended.success(), "{ended}");
    ensure!(
        bed.gateway()?.datapath_status()?["interfaces"] == json!(["lan0", "late0", "wan0"]),
        "{}",
        bed.gateway()?.datapath_status()?
    );
    ensure_closed(&bed)
}
