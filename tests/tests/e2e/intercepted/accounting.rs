//! `portreeve datapath watch` and `coverage`: what the kernel counted, live and as an equation.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use nix::sys::signal::Signal;
use portreeve_ebpf::names;
use portreeve_ebpf::stats::Reason;
use portreeve_tests::deadline::until;
use portreeve_tests::frames::{self, IPV4, Ipv4, Mac, SYN, TCP, Tcp};
use portreeve_tests::topology::{CLIENT4, OPEN4, SSH_PORT, STRANGER4, TARGET4, at};
use portreeve_tests::wire::{Wire, hardware_address};
use portreeve_tests::{Companion, Options, Testbed, run};
use serde_json::{Value, json};

use super::early::{datapath, detach};
use super::{Check, SOON, ensure_refused, policy};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, TARGET_V6, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("datapath_watch_shows_counters_live", watch),
    Check::new("datapath_coverage_accounts_for_every_flow", coverage),
];

/// A host that no stack answers for, behind the client's interface.
const GHOST: Mac = [2, 0, 0, 0, 0, 0x98];
const GHOST4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 1, 1, 98);
/// New flows that one source may begin in a second and at once.
const RATE: u64 = 30;

fn watched(bed: &Testbed, more: &[&str]) -> Result<Vec<Value>> {
    let mut command = datapath(bed, &[&["watch", "--interval", "200ms"], more].concat())?;
    let lines = run(&mut command, b"", LIMIT)?.success()?;
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn watch(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let mut watching = datapath(&bed, &["watch", "--interval", "100ms"])?;
    let mut watching = Companion::spawn(watching.stdout(Stdio::piped()))?;
    let mut lines = BufReader::new(watching.child().stdout.take().context("no output")?).lines();
    let mut next = || -> Result<Value> { Ok(serde_json::from_str(&lines.next().context("it ended")??)?) };
    let before = next()?["packets"]["steered_new"]["total"].as_u64().context("no counter")?;
    ssh(&bed, &[TARGET, "true"])?.success()?;
    let mut fastest = 0.0_f64;
    until("a new flow in its output", SOON, || {
        let block = next()?;
        let flows = &block["packets"]["steered_new"];
        fastest = fastest.max(flows["per_second"].as_f64().context("no rate")?);
        Ok((flows["total"].as_u64() > Some(before)).then_some(()))
    })?;
    ensure!(fastest > 0.0, "the rate was never above 0");
    watching.signal(Signal::SIGINT)?;
    let ended = watching.wait(SOON)?;
    ensure!(ended.success(), "SIGINT: {ended}");

    bed.gateway_mut()?.stop()?;
    ensure!(bed.client_netns().connect(at(TARGET4, SSH_PORT)).is_err(), "a stopped gateway serves");
    let blocks = watched(&bed, &["--count", "2"])?;
    ensure!(blocks.len() == 2, "{blocks:?}");
    let last = blocks.last().context("no block")?;
    ensure!(last["packets"]["dropped_no_listener"]["total"].as_u64() >= Some(1), "{last}");
    detach(&bed)?;
    let blocks = watched(&bed, &["--count", "1"])?;
    ensure!(blocks.iter().all(|block| block["attached"] == json!(false)), "{blocks:?}");
    Ok(())
}

/// Exit status and report of `portreeve datapath coverage`.
fn covered(bed: &Testbed, more: &[&str]) -> Result<(String, Value)> {
    let finished = run(&mut datapath(bed, &[&["coverage"], more].concat())?, b"", LIMIT)?;
    let report = serde_json::from_str(&finished.out()).with_context(|| format!("{finished:?}"))?;
    Ok((finished.ending(), report))
}

/// Waits until every attempt has become a connection, or all but so many.
fn settles(bed: &Testbed, slack: u64) -> Result<Value> {
    let slack = slack.to_string();
    let settled = until("an account that balances", SOON, || {
        let (ending, report) = covered(bed, &["--slack", &slack])?;
        Ok((ending == "exit 0").then_some(report))
    });
    settled.with_context(|| format!("{:?}", covered(bed, &[])))
}

fn coverage(_: &Beds) -> Result<()> {
    let no_strangers = format!(
        "{{ name = \"no strangers\", action = \"block\", enabled = true, precedence = 1, \
         traffic = \"net.src.ip == {STRANGER4}\" }}"
    );
    let options = Options {
        policy: Some(policy("\"alice\"", &no_strangers)),
        config: Some(format!("[datapath]\nnew_connections_per_source = {RATE}")),
        ..Options::default()
    };
    let mut bed = own(&options)?;

    // Served, denied by a policy that asks who it is, and by one that the kernel asks.
    for target in [TARGET, TARGET_V6] {
        ssh(&bed, &[target, "true"])?.success()?;
    }
    ensure_refused(&ssh(&bed, &["root@10.1.2.3", "id"])?, &["root"])?;
    ensure_refused(&ssh(&bed, &["-b", &STRANGER4.to_string(), TARGET, "id"])?, &[])?;
    let report = settles(&bed, 0)?;
    ensure!(report["gateway"]["connections"].as_u64() >= Some(6), "{report}");
    ensure!(report["gateway"]["blocked_in_kernel"].as_u64() >= Some(1), "{report}");

    // Above the rate, in pieces, and from a source that is elsewhere.
    let half_open = flood(&bed)?;
    let report = settles(&bed, half_open)?;
    ensure!(report["gateway"]["without_connection"] == json!(half_open), "{half_open}: {report}");
    let (ending, report) = covered(&bed, &["--slack", &(half_open - 1).to_string()])?;
    ensure!(ending == "exit 4" && report["kernel"]["balances"] == json!(true), "{ending}: {report}");
    ensure!(covered(&bed, &[])?.0 == "exit 0", "{report}");

    // Without a gateway there is nobody to connect to, and the kernel's equation alone.
    bed.gateway_mut()?.stop()?;
    ensure!(bed.client_netns().connect(at(TARGET4, SSH_PORT)).is_err(), "a stopped gateway serves");
    let (ending, report) = covered(&bed, &[])?;
    ensure!(ending == "exit 0" && report["gateway"].is_null(), "{ending}: {report}");
    for (part, reason) in [
        ("connection", "steered_established"),
        ("proxied", "steered_new"),
        ("denied", "dropped_policy"),
        ("denied", "dropped_source_rate"),
        ("dropped", "dropped_fragment"),
        ("dropped", "dropped_reverse_path"),
        ("dropped", "dropped_no_listener"),
    ] {
        ensure!(report["kernel"][part][reason].as_u64() >= Some(1), "no {reason}: {report}");
    }

    for reason in [Reason::SteeredNew, Reason::DroppedFragment] {
        change(&bed, reason, 1)?;
        let (ending, report) = covered(&bed, &[])?;
        ensure!(ending == "exit 4" && report["balances"] == json!(false), "{reason:?}: {ending}: {report}");
        change(&bed, reason, -1)?;
        ensure!(covered(&bed, &[])?.0 == "exit 0", "{reason:?} is as before");
    }
    Ok(())
}

/// Sends what has no connection, and returns how many attempts were let in.
fn flood(bed: &Testbed) -> Result<u64> {
    let topology = bed.topology();
    let wire = Wire::open(&topology.client, "eth0")?;
    let gateway = hardware_address(&topology.gateway, "lan0")?;
    let send = |packet: &[u8]| wire.send(&frames::ethernet(gateway, GHOST, IPV4, packet));
    let syn = |src: std::net::Ipv4Addr, port| {
        let (from, to) = (src.into(), TARGET4.into());
        frames::packet(from, to, TCP, &Tcp::new(port, SSH_PORT, SYN).bytes(from, to))
    };
    let (_, before) = covered(bed, &[])?;
    let first = Ipv4 { fragment: 0x2000, ..Ipv4::new(CLIENT4, TARGET4, TCP) };
    send(&first.packet(&Tcp::new(1, SSH_PORT, SYN).bytes(CLIENT4.into(), TARGET4.into())))?;
    send(&syn(OPEN4, 1))?;
    for port in 1..=4 * u16::try_from(RATE)? {
        send(&syn(GHOST4, port))?;
    }
    let seen = |report: &Value| report["kernel"]["seen"][0].as_u64();
    let wanted = seen(&before).map(|seen| seen + 2 + 4 * RATE);
    let after = until("what was sent in the counters", SOON, || {
        Ok(Some(covered(bed, &[])?.1).filter(|report| seen(report) >= wanted))
    })?;
    let attempts = |report: &Value| report["gateway"]["attempts"].as_u64().context("no attempts");
    let let_in = attempts(&after)? - attempts(&before)?;
    ensure!(let_in >= RATE, "{let_in} of {} were let in: {after}", 4 * RATE);
    Ok(let_in)
}

/// Adds to a counter on the first CPU, as a fault in a program might.
fn change(bed: &Testbed, reason: Reason, by: i64) -> Result<()> {
    let map = MapData::from_pin(bed.gateway()?.files().map_pin(names::STATS)?)?;
    let mut stats: PerCpuArray<MapData, u64> = Map::PerCpuArray(map).try_into()?;
    let mut values = stats.get(&reason.index(), 0)?.to_vec();
    let first = values.first_mut().context("no CPU")?;
    *first = first.wrapping_add_signed(by);
    stats.set(reason.index(), PerCpuValues::try_from(values)?, 0)?;
    Ok(())
}
