//! The fast path of a gateway through what happens to gateways.

use std::fs;

use anyhow::{Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{GATEWAY_INTERFACES, OPEN4, OPEN6, SSH_PORT, at};
use portreeve_tests::{Options, Testbed, run};
use serde_json::json;

use super::early::{attach, detach};
use super::lifecycle::{ensure_closed, ensure_serves};
use super::{Check, SOON, first_line};
use crate::beds::{Beds, own};
use crate::ssh::LIMIT;

pub(super) const CHECKS: &[Check] = &[
    Check::new("the_fast_path_lives_through_takeovers", takeovers),
    Check::new("the_fast_path_is_a_gateways_to_switch_on", without_a_gateway),
];

/// A testbed with the fast path on in a mode: the gateway is started anew once its devices leave VLAN tags in
/// the frames.
pub(crate) fn fast(mode: &str) -> Result<Testbed> {
    let mut bed = own(&Options::default())?;
    for device in GATEWAY_INTERFACES {
        let off = ["rxvlan", "off", "rx-vlan-stag-hw-parse", "off", "tx", "off"];
        gateway_runs(&bed, &[&["ethtool", "-K", device][..], &off].concat())?;
    }
    let on = format!("[datapath]\nfast_path = {{ lan0 = \"{mode}\", wan0 = \"{mode}\" }}\n");
    configure(&bed, "[datapath]\n", &on)?;
    bed.gateway_mut()?.stop()?;
    bed.gateway_mut()?.launch()?;
    ensure_on(&bed)?;
    Ok(bed)
}

fn gateway_runs(bed: &Testbed, words: &[&str]) -> Result<()> {
    let [program, arguments @ ..] = words else { return Ok(()) };
    let mut command = bed.topology().gateway.command(program);
    run(command.args(arguments), b"", LIMIT)?.success()?;
    Ok(())
}

/// Replaces a text of the configuration.
fn configure(bed: &Testbed, from: &str, to: &str) -> Result<()> {
    let path = bed.gateway()?.files().config_file();
    let text = fs::read_to_string(&path)?;
    ensure!(text.contains(from), "{from} is not in {text}");
    Ok(fs::write(path, text.replace(from, to))?)
}

fn interfaces(bed: &Testbed) -> Result<serde_json::Value> {
    Ok(bed.gateway()?.datapath_status()?["fast_path"].clone())
}

/// Frames that took the fast path so far.
pub(crate) fn forwarded(bed: &Testbed) -> Result<u64> {
    Ok(bed.gateway()?.datapath_status()?["fast_path_frames"]["forwarded"].as_u64().unwrap_or_default())
}

/// The fast path carries what is no target's, and nothing else.
fn ensure_on(bed: &Testbed) -> Result<()> {
    ensure!(interfaces(bed)? == json!(GATEWAY_INTERFACES), "{}", bed.gateway()?.log()?);
    let before = forwarded(bed)?;
    for open in [at(OPEN4, SSH_PORT), at(OPEN6, SSH_PORT)] {
        let line = first_line(bed, open)?;
        ensure!(
            line.starts_with("SSH-2.0-OpenSSH"),
            "{open} said {line:?}, its sshd {}",
            bed.server().log()?
        );
    }
    ensure!(forwarded(bed)? >= before + 4, "{}", bed.gateway()?.datapath_status()?);
    Ok(())
}

fn takeovers(_: &Beds) -> Result<()> {
    let mut bed = fast("native")?;
    let warned = bed.gateway()?.log()?.contains("the other end of a veth");
    ensure!(warned, "{}", bed.gateway()?.log()?);
    for _ in 0..2 {
        let daemon = bed.gateway()?.take_over()?;
        let old = bed.gateway_mut()?.adopt(daemon);
        ensure_on(&bed)?;
        ensure_serves(&bed)?;
        // The end of a gateway that handed over takes nothing along.
        drop(old);
        ensure_on(&bed)?;
    }
    // A successor that fails behind the point where it has switched the fast path off.
    gateway_runs(&bed, &["ip", "link", "add", "tags0", "type", "veth", "peer", "name", "far0"])?;
    gateway_runs(&bed, &["ethtool", "-K", "tags0", "rxvlan", "on"])?;
    configure(&bed, "\"wan0\"]", "\"wan0\", \"tags0\"]")?;
    configure(&bed, "wan0 = \"native\"", "wan0 = \"native\", tags0 = \"native\"")?;
    let mut daemon = bed.gateway()?.spawn(&["--takeover"], &bed.gateway()?.files().config_file())?;
    let status = daemon.wait(LIMIT)?;
    ensure!(status.code() == Some(1), "{status}");
    let log = || bed.gateway()?.log();
    ensure!(log()?.contains("tags0 takes VLAN tags off"), "{}", log()?);
    until("the fast path of the old gateway", SOON, || {
        Ok((interfaces(&bed)? == json!(GATEWAY_INTERFACES)).then_some(()))
    })?;
    ensure_on(&bed)?;
    ensure_serves(&bed)?;
    // And one that switches it off.
    configure(&bed, "\"wan0\", \"tags0\"]", "\"wan0\"]")?;
    configure(&bed, "fast_path =", "# fast_path =")?;
    let daemon = bed.gateway()?.take_over()?;
    bed.gateway_mut()?.adopt(daemon);
    ensure!(interfaces(&bed)? == json!([]), "it is still on");
    ensure_serves(&bed)
}

fn without_a_gateway(_: &Beds) -> Result<()> {
    let mut bed = fast("native")?;
    bed.gateway_mut()?.stop()?;
    ensure_on(&bed)?;
    ensure_closed(&bed)?;
    attach(&bed, &[])?.success()?;
    ensure_on(&bed)?;
    ensure_closed(&bed)?;
    detach(&bed)?;
    attach(&bed, &["--wait", "10s"])?.success()?;
    ensure!(interfaces(&bed)? == json!([]), "no gateway has looked at what it would skip");
    ensure_closed(&bed)?;
    bed.gateway_mut()?.launch()?;
    ensure_on(&bed)?;
    ensure_serves(&bed)
}
