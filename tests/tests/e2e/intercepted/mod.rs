//! What only the gateway does: denials, host keys, recordings, and how it stands failures.
//!
//! Cases that only look use the shared testbed; those that change policy, server or daemon start
//! one of their own.

mod access_schema;
mod accounting;
mod alerts;
mod audit;
mod bad_input;
mod capabilities;
mod denials;
mod doctor;
mod early;
mod failed_recordings;
mod failing_targets;
pub(crate) mod fast_path;
mod file_transfers;
mod fips;
mod forwards;
mod host_certificates;
mod host_keys;
mod hostile_clients;
mod ingress;
mod inspected_forwards;
mod interfaces;
mod lifecycle;
mod monitoring;
mod old_targets;
mod other_traffic;
mod probes;
mod recipients;
mod recordings;
mod reloads;
mod sessions;
mod source_address;
mod takeover;
mod unfinished;
mod units;
mod verified;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use portreeve_tests::deadline::until;
use portreeve_tests::{Finished, Gateway, Testbed};
use serde_json::Value;

use crate::beds::Beds;

/// One case.
#[derive(Clone, Copy, Debug)]
struct Check {
    name: &'static str,
    run: fn(&Beds) -> Result<()>,
}

impl Check {
    const fn new(name: &'static str, run: fn(&Beds) -> Result<()>) -> Self {
        Self { name, run }
    }
}

/// A trial for each case.
pub(crate) fn trials(beds: &Arc<Beds>) -> Vec<Trial> {
    let of_a_fips_build = if cfg!(feature = "fips") { fips::CHECKS } else { &[] };
    let groups = [
        of_a_fips_build,
        denials::CHECKS,
        forwards::CHECKS,
        inspected_forwards::CHECKS,
        reloads::CHECKS,
        host_keys::CHECKS,
        host_certificates::CHECKS,
        early::CHECKS,
        accounting::CHECKS,
        access_schema::CHECKS,
        lifecycle::CHECKS,
        takeover::CHECKS,
        interfaces::CHECKS,
        fast_path::CHECKS,
        ingress::CHECKS,
        hostile_clients::CHECKS,
        failing_targets::CHECKS,
        old_targets::CHECKS,
        source_address::CHECKS,
        recordings::CHECKS,
        recipients::CHECKS,
        verified::CHECKS,
        sessions::CHECKS,
        alerts::CHECKS,
        failed_recordings::CHECKS,
        file_transfers::CHECKS,
        other_traffic::CHECKS,
        bad_input::CHECKS,
        audit::CHECKS,
        capabilities::CHECKS,
        unfinished::CHECKS,
        probes::CHECKS,
        doctor::CHECKS,
        monitoring::CHECKS,
        units::CHECKS,
    ];
    groups
        .into_iter()
        .flatten()
        .map(|check| {
            let (check, beds) = (*check, Arc::clone(beds));
            Trial::test(format!("intercepted::{}", check.name), move || {
                (check.run)(&beds).map_err(|error| format!("{error:#}").into())
            })
        })
        .collect()
}

/// Names that the gateway gives to what it counts.
pub(crate) mod sample {
    pub(super) const BLOCKED: &str = "portreeve_connections_total{outcome=\"blocked\"}";
    pub(super) const DROPPED_BY_POLICY: &str = "portreeve_datapath_packets_total{reason=\"dropped_policy\"}";
    pub(super) const NO_SSH: &str = "portreeve_policy_blocked_packets_total{policy=\"no ssh\"}";
    pub(super) const HOST_KEY_CHANGES: &str = "portreeve_host_key_changes_total";
    pub(super) const INTERFACES_OPEN: &str = "portreeve_interfaces_open";
    pub(super) const INTERFACES_REATTACHED: &str = "portreeve_interfaces_reattached_total";
    pub(super) const RECORDING_FAILURES: &str = "portreeve_recording_failures_total";
    pub(crate) const RELOADS_APPLIED: &str = "portreeve_policy_reloads_total{result=\"applied\"}";
    pub(crate) const RELOADS_REJECTED: &str = "portreeve_policy_reloads_total{result=\"rejected\"}";
    pub(super) const SESSIONS_ACTIVE: &str = "portreeve_sessions_active";
}

/// How long the gateway may take for what needs no user.
const SOON: Duration = Duration::from_secs(30);

/// A policy with two known users, both granted `alice`: alice at the client's first addresses, bob at
/// its second; targets that refuse or are absent; `USERNAMES` of alice's policy and network `RULES`.
fn policy(usernames: &str, rules: &str) -> String {
    include_str!("policy.toml").replace("USERNAMES", usernames).replace("RULES", rules)
}

/// The value of a sample, 0 when it is not there yet.
pub(crate) fn metric(gateway: &Gateway, sample: &str) -> Result<f64> {
    let text = gateway.metrics()?;
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.map_or(Ok(0.0), |value| value.parse().with_context(|| format!("{sample} {value}")))
}

/// Waits for a line of the access log.
fn access_event(gateway: &Gateway, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let found = until(what, SOON, || Ok(gateway.access_log()?.into_iter().find(|line| wanted(line))));
    found.with_context(|| format!("{:?}", gateway.access_log().unwrap_or_default()))
}

/// An end as `ssh` gives it when there is no session, with a text in the terminal.
fn ensure_refused(finished: &Finished, texts: &[&str]) -> Result<()> {
    ensure!(finished.ending() == "exit 255", "{}: {}", finished.ending(), finished.err());
    ensure!(finished.stdout.is_empty(), "something ran: {}", finished.out());
    for text in texts {
        ensure!(finished.err().contains(text), "{text:?} is not in {:?}", finished.err());
    }
    Ok(())
}

/// The first line that a server sends by itself; empty when it closes or resets before.
fn first_line(bed: &Testbed, to: SocketAddr) -> Result<String> {
    read_line(bed.client_netns().connect(to)?)
}

pub(crate) fn read_line(mut stream: TcpStream) -> Result<String> {
    stream.set_read_timeout(Some(SOON))?;
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\n") {
        match stream.read(&mut byte) {
            Ok(1) => line.extend(byte),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(error).context("no answer at all");
            }
            _ => break,
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Connections that the server saw from the gateway's own address.
fn dialled_by_the_gateway(bed: &Testbed) -> Result<usize> {
    Ok(bed.server().log()?.matches("Connection from 10.1.2.1 ").count())
}
