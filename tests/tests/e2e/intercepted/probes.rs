//! `portreeve probe` from the gateway, against the real server and what is none.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, ensure};
use portreeve_tests::topology::{GATEWAY4, METRICS_PORT};
use portreeve_tests::{Finished, Options, Route, Testbed, run};
use serde_json::Value;

use super::bad_input::ensure_error;
use super::host_keys::{fingerprint, pinned};
use super::{Check, metric, sample};
use crate::beds::{Beds, own};
use crate::ssh::LIMIT;

pub(super) const CHECKS: &[Check] = &[
    Check::new("a_probe_reports_what_the_target_shows_and_that_it_trusts_the_ca", trusted),
    Check::new("a_probe_says_when_the_target_does_not_trust_the_ca_and_what_to_do", not_trusted),
    Check::new("a_probe_of_a_target_that_refuses_or_is_absent_is_one_clear_error", unreachable),
    Check::new("a_probe_of_what_is_no_ssh_server_is_one_clear_error", not_ssh),
];

/// Runs `portreeve probe ARGS` in the gateway's namespace, with the gateway's CA.
fn probe(bed: &Testbed, args: &[&str]) -> Result<Finished> {
    let files = bed.gateway()?.files();
    let mut command = bed.topology().gateway.command(files.binary());
    command.arg("probe").args(args).arg("--state-dir").arg(files.state_dir());
    run(&mut command, b"", LIMIT)
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn trusted(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let pins = pinned(bed)?;
    let report = probe(bed, &["10.1.2.3", "--login", "alice", "--json"])?.success()?;
    let report: Value = serde_json::from_str(&report)?;
    ensure!(report["target"] == "10.1.2.3:22", "{report}");
    ensure!(report["ca_trusted"] == true, "{report}");
    let identification = report["identification"].as_str().unwrap_or_default();
    ensure!(identification.starts_with("SSH-2.0-OpenSSH_"), "{report}");
    let own = [("ed25519", "ssh-ed25519"), ("ecdsa", "ecdsa-sha2-nistp256"), ("rsa", "ssh-rsa")];
    for (place, (kind, algorithm)) in own.into_iter().enumerate() {
        let shown = &report["host_keys"][place];
        ensure!(shown["fingerprint"] == fingerprint(bed, kind)?.as_str(), "{kind}: {report}");
        ensure!(shown["algorithm"] == algorithm, "{report}");
    }
    ensure!(report["host_keys"][3].is_null(), "{report}");
    ensure!(report["algorithms"]["cipher"] == "aes128-gcm@openssh.com", "{report}");
    ensure!(report["algorithms"]["mac"].is_null(), "AES-GCM has no MAC: {report}");
    let key_exchange = report["algorithms"]["key_exchange"].as_str().unwrap_or_default();
    ensure!(key_exchange.contains("25519"), "{report}");
    let (Some(round_trip), Some(handshake)) =
        (report["round_trip_us"].as_u64(), report["handshake_us"].as_u64())
    else {
        anyhow::bail!("no times: {report}");
    };
    ensure!(round_trip > 0 && round_trip < handshake, "{report}");
    ensure!(!texts(&report["advice"]).iter().any(|advice| advice.contains("TrustedUserCAKeys")), "{report}");
    let said = probe(bed, &["fd00:1:2::3", "--login", "alice"])?.success()?;
    for text in ["[fd00:1:2::3]:22 is SSH-2.0-OpenSSH_", "round trip", "the gateway's CA is trusted"] {
        ensure!(said.contains(text), "{text:?} is not in {said:?}");
    }
    ensure!(pinned(bed)? == pins, "the probe changed the pins");
    Ok(())
}

fn not_trusted(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    bed.server().trust("")?;
    let finished = probe(&bed, &["10.1.2.3", "--login", "alice", "--json"])?;
    ensure!(finished.ending() == "exit 3", "{}: {}", finished.ending(), finished.err());
    let report: Value = serde_json::from_str(&finished.out())?;
    ensure!(report["ca_trusted"] == false && !report["host_keys"][2].is_null(), "{report}");
    ensure!(texts(&report["advice"]).iter().any(|advice| advice.contains("TrustedUserCAKeys")), "{report}");
    let finished = probe(&bed, &["10.1.2.3", "--login", "alice"])?;
    ensure!(finished.ending() == "exit 3", "{}: {}", finished.ending(), finished.err());
    ensure!(finished.out().contains("the gateway's certificate is NOT accepted"), "{}", finished.out());
    // Without a login nothing is tried, and nothing is wrong.
    let said = probe(&bed, &["10.1.2.3"])?.success()?;
    ensure!(said.contains("the log-in was not tried"), "{said}");
    // A login that does not exist is not let in by any CA.
    bed.server().trust(&bed.gateway()?.files().ca_public_key()?)?;
    probe(&bed, &["10.1.2.3", "--login", "alice"])?.success()?;
    let finished = probe(&bed, &["10.1.2.3", "--login", "nosuchuser"])?;
    ensure!(finished.ending() == "exit 3", "{}: {}", finished.ending(), finished.err());
    ensure!(metric(bed.gateway()?, sample::SESSIONS_ACTIVE)? == 0.0, "a probe is no session");
    Ok(())
}

/// One line on standard error, nothing on standard output.
fn ensure_one_error(finished: &Finished, texts: &[&str]) -> Result<()> {
    ensure_error(finished, texts)?;
    ensure!(finished.stdout.is_empty(), "a report all the same: {}", finished.out());
    let said = finished.err();
    ensure!(said.lines().count() == 1, "more than one line: {said}");
    Ok(())
}

fn unreachable(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    for (address, why) in [("10.1.2.5", "refused"), ("10.1.2.99", "10.1.2.99:22")] {
        ensure_one_error(&probe(bed, &[address, "--login", "alice"])?, &[address, why])?;
    }
    ensure_one_error(&probe(bed, &["10.1.2.3", "--port", "23"])?, &["10.1.2.3:23", "refused"])?;
    ensure_one_error(&probe(bed, &["no-such-host.invalid"])?, &["no-such-host.invalid"])
}

fn not_ssh(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let (gateway, port) = (GATEWAY4.to_string(), METRICS_PORT.to_string());
    let http = probe(bed, &[&gateway, "--port", &port])?;
    ensure_one_error(&http, &[&format!("{gateway}:{port}"), "is it an SSH server"])?;
    // The echo service sends the probe's own identification line back.
    ensure_one_error(&probe(bed, &["10.1.2.3", "--port", "7"])?, &["10.1.2.3:7", "is it an SSH server"])?;
    let silent = bed.topology().gateway.enter(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?))?;
    let port = silent.local_addr()?.port().to_string();
    ensure_one_error(&probe(bed, &["127.0.0.1", "--port", &port])?, &["127.0.0.1", "did not answer"])
}
