//! Forwards to targets that policy has inspected: connections like any other, inside a session.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portreeve_tests::{Companion, Finished, Options, Testbed, run};
use serde_json::Value;

use super::recordings::{events, recordings, stream};
use super::sessions::{session_with, sessions, text};
use super::{Check, access_event, policy};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, Standing, TARGET, TARGET_V6, noise, scratch, sha256, ssh, ssh_with};

pub(super) const CHECKS: &[Check] = &[
    Check::new("an_inspected_jump_is_as_the_connection_itself", jump),
    Check::new("an_inspected_forward_carries_ssh_by_each_way_to_open_it", ways),
    Check::new("scp_over_an_inspected_jump_moves_files_whole", copies),
    Check::new("an_inspected_connection_is_recorded_as_a_session_of_its_own", recorded),
    Check::new("a_denied_login_behind_an_inspected_jump_reads_why", denied),
    Check::new("a_network_policy_blocks_an_inspected_forward", blocked),
    Check::new("an_inspected_session_ends_with_the_one_around_it", ended),
    Check::new("sessions_in_sessions_are_inspected_up_to_a_depth", nested),
];

fn inspecting(rules: &str) -> String {
    let granted = "usernames = [\"alice\"], forwards_to_targets = \"inspect\"";
    policy("\"alice\"", rules).replacen("usernames = [\"alice\"]", granted, 1)
}

fn bed() -> Result<Testbed> {
    own(&Options { policy: Some(inspecting("")), ..Options::default() })
}

/// ssh to the target's other address by way of the first, whose host keys are known from connecting directly.
fn jumped(bed: &Testbed, args: &[&str], input: &[u8]) -> Result<Finished> {
    ssh_with(bed, &[&["-o", "StrictHostKeyChecking=yes", "-J", TARGET], args].concat(), input)
}

fn jump(_: &Beds) -> Result<()> {
    let bed = bed()?;
    let input = noise(20_000_000);
    let sum = sha256(&input)?;
    let command = "sha256sum; echo aside >&2; exit 7";
    for finished in
        [ssh_with(&bed, &[TARGET_V6, command], &input)?, jumped(&bed, &[TARGET_V6, command], &input)?]
    {
        ensure!(finished.ending() == "exit 7", "{}: {}", finished.ending(), finished.err());
        ensure!(finished.out() == format!("{sum}  -\n"), "{}", finished.out());
        ensure!(finished.err() == "aside\n", "{:?}", finished.err());
    }
    fs::write(bed.server().home("alice").join("large"), &input)?;
    let down = jumped(&bed, &[TARGET_V6, "cat large"], b"")?;
    ensure!(
        down.status.success() && down.stdout == input,
        "{} bytes came: {}",
        down.stdout.len(),
        down.err()
    );
    let killed = jumped(&bed, &[TARGET_V6, "kill -9 $$"], b"")?;
    ensure!(killed.ending() == "exit 255", "{}: {}", killed.ending(), killed.err());
    Ok(())
}

fn ways(_: &Beds) -> Result<()> {
    let bed = bed()?;
    // A loopback address means the target of the session itself; a name, the target of that name.
    for destination in ["[fd00:1:2::3]:22", "10.1.2.3:22", "localhost:22", "SERVER:22", "10.66051:22"] {
        let piped = ssh_with(&bed, &["-W", destination, TARGET], b"")?;
        ensure!(piped.out().starts_with("SSH-2.0-OpenSSH"), "{destination}: {} {}", piped.out(), piped.err());
    }
    // What is no target's is opened by the target as before.
    let bytes = noise(1000);
    let echoed = ssh_with(&bed, &["-W", "127.0.0.1:7", TARGET], &bytes)?;
    ensure!(echoed.stdout == bytes, "{}", echoed.err());
    let open = ssh_with(&bed, &["-W", "10.1.2.4:22", TARGET], b"")?;
    ensure!(open.out().starts_with("SSH-2.0-OpenSSH"), "{}", open.err());

    let mut forwarding =
        Standing::start(&bed, "inspected", &["-L", "127.0.0.1:2201:[fd00:1:2::3]:22", TARGET])?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 2201));
    let client = bed.client_netns();
    forwarding.until("the forward", || client.enter(|| Ok(TcpStream::connect(address)?)).ok())?;
    let through = ["-p", "2201", "-o", "HostKeyAlias=fd00:1:2::3", "-o", "StrictHostKeyChecking=yes"];
    for _ in 0..3 {
        let finished = ssh(&bed, &[&through[..], &["alice@127.0.0.1", "id -un"]].concat())?.success()?;
        ensure!(finished == "alice\n", "{finished}");
    }
    Ok(())
}

fn copies(_: &Beds) -> Result<()> {
    let bed = bed()?;
    let (here, there) = (scratch(&bed, "inspected")?, bed.server().home("alice"));
    let bytes = noise(5_000_000);
    fs::write(here.join("up"), &bytes)?;
    for options in [&[][..], &["-O"]] {
        let scp = |from, to| {
            let mut scp = bed.client_ssh("scp");
            scp.args(options).args(["-J", TARGET, from, to]).current_dir(&here);
            run(&mut scp, b"", LIMIT)?.success()
        };
        scp("up", "alice@[fd00:1:2::3]:there")?;
        scp("alice@[fd00:1:2::3]:there", "here")?;
        for arrived in [there.join("there"), here.join("here")] {
            ensure!(fs::read(&arrived)? == bytes, "{options:?}: {} differs", arrived.display());
            fs::remove_file(&arrived)?;
        }
    }
    Ok(())
}

/// The recordings whose first event has `outer`, or has not.
fn recording_of(bed: &Testbed, count: usize, inner: bool) -> Result<(PathBuf, Vec<Value>)> {
    for recording in recordings(bed, count)?.into_iter().rev() {
        let events = events(bed, &recording)?;
        if events.first().is_some_and(|first| first["outer"].is_string() == inner) {
            return Ok((recording, events));
        }
    }
    anyhow::bail!("no such recording")
}

fn recorded(_: &Beds) -> Result<()> {
    let bed = bed()?;
    jumped(&bed, &[TARGET_V6, "echo in the inner session"], b"")?.success()?;
    let (recording, inner) = recording_of(&bed, 4, true)?;
    let (_, outer) = recording_of(&bed, 4, false)?;
    ensure!(inner[0]["outer"] == outer[0]["session"], "{inner:?}\n{outer:?}");
    ensure!(
        inner[0]["target"] == "[fd00:1:2::3]:22" && inner[0]["email"] == "alice@example.com",
        "{inner:?}"
    );
    ensure!(inner.iter().any(|event| event["command"] == "echo in the inner session"), "{inner:?}");
    let output = stream(&bed, &recording, "data_from_server.txt")?;
    ensure!(output == b"in the inner session\n", "{}", output.escape_ascii());

    let told = outer.iter().find(|event| event["event"] == "forward-inspected").context("not told")?;
    ensure!(told["session"] == inner[0]["session"] && told["target"] == "[fd00:1:2::3]:22", "{told}");
    let closed = outer.iter().find(|event| event["event"] == "channel-closed").context("not closed")?;
    ensure!(closed["channel"] == told["channel"], "{outer:?}");
    for bytes in ["client_bytes", "target_bytes"] {
        ensure!(closed[bytes].as_u64().is_some_and(|bytes| bytes > 1000), "{closed}");
    }
    ensure!(!outer.iter().any(|event| event["event"] == "exec"), "{outer:?}");
    let event = access_event(bed.gateway()?, "the inner session's line", |event| {
        event["session"] == inner[0]["session"]
    })?;
    ensure!(event["outer_session"] == outer[0]["session"] && event["outcome"] == "closed", "{event}");
    Ok(())
}

/// What the gateway says in a refusal.
fn reason(finished: &Finished) -> Result<String> {
    ensure!(finished.ending() == "exit 255" && finished.stdout.is_empty(), "{}", finished.ending());
    let err = finished.err();
    let (_, reason) = err.split_once("portreeve: ").with_context(|| err.clone())?;
    Ok(reason.lines().next().unwrap_or_default().to_owned())
}

fn denied(_: &Beds) -> Result<()> {
    let bed = bed()?;
    let direct = reason(&ssh(&bed, &["deploy@fd00:1:2::3", "id"])?)?;
    let behind = reason(&jumped(&bed, &["deploy@fd00:1:2::3", "id"], b"")?)?;
    ensure!(direct == behind && direct.contains("deploy"), "{direct:?} and {behind:?}");
    let event =
        access_event(bed.gateway()?, "the denial's line", |event| event["outer_session"].is_string())?;
    ensure!(event["outcome"] == "denied" && event["login"] == "deploy", "{event}");
    Ok(())
}

fn blocked(_: &Beds) -> Result<()> {
    let bed = bed()?;
    let gateway = bed.gateway()?;
    let rule =
        r#"{ name = "no six", action = "block", precedence = 1, traffic = "net.dst.ip == fd00:1:2::3" }"#;
    gateway.files().write_policy(&inspecting(rule))?;
    gateway.reload()?;
    portreeve_tests::deadline::until("the block", LIMIT, || {
        let refused = !jumped(&bed, &[TARGET_V6, "id"], b"")?.status.success();
        Ok(refused.then_some(()))
    })?;
    let event = access_event(gateway, "the block's line", |event| event["outcome"] == "blocked")?;
    ensure!(event["outer_session"].is_string() && event["network_policy"] == "no six", "{event}");
    Ok(())
}

fn ended(_: &Beds) -> Result<()> {
    let bed = bed()?;
    let mut command = bed.client_ssh("ssh");
    command.args(["-J", TARGET, TARGET_V6, "sleep 100"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut live = Companion::spawn(&mut command)?;
    let inner = session_with(&bed, "sleep 100")?;
    let outer = sessions(&bed, &["ls", "--json"])?.success()?;
    let outer: Vec<Value> = outer.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let outer = outer.iter().find(|session| session["session"] != inner["session"]).context("no outer")?;
    let begun = Instant::now();
    sessions(&bed, &["end", text(outer, "session")?, "--reason", "enough"])?.success()?;
    let event = access_event(bed.gateway()?, "the inner session's line", |event| {
        event["session"] == inner["session"]
    })?;
    // Not by itself, after a hundred.
    ensure!(begun.elapsed() < Duration::from_secs(30), "after {:?}", begun.elapsed());
    ensure!(event["outcome"] == "closed" && event["outer_session"] == outer["session"], "{event}");
    live.wait(LIMIT)?;
    Ok(())
}

fn nested(_: &Beds) -> Result<()> {
    let bed = bed()?;
    let chain = |hops: usize| {
        let jumps: Vec<&str> = [TARGET, "alice@[fd00:1:2::3]"].into_iter().cycle().take(hops).collect();
        let last = if hops.is_multiple_of(2) { TARGET } else { TARGET_V6 };
        ssh(&bed, &["-J", &jumps.join(","), last, "echo $SSH_CONNECTION"])
    };
    let deep = chain(3)?.success()?;
    ensure!(deep.contains("fd00:1:2::3 22"), "{deep}");
    let too_deep = chain(4)?;
    ensure!(!too_deep.status.success(), "it went through");
    ensure!(too_deep.err().contains("more than 3 targets in a row"), "{}", too_deep.err());
    Ok(())
}
