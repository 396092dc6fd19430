//! One gateway takes over from another: sessions live, new connections are served, failures change nothing.

#![expect(clippy::print_stdout, reason = "the figures of a takeover")]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portreeve_ssh::message::CHANNEL_DATA;
use portreeve_tests::deadline::until;
use portreeve_tests::raw_client::{Message, RawClient};
use portreeve_tests::topology::{OPEN4, SSH_PORT, TARGET4, TARGET6, at};
use portreeve_tests::{Options, Testbed};

use super::lifecycle::ensure_serves;
use super::reloads::{lasting, wait_for};
use super::{Check, SOON, metric, policy, sample};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("two_hundred_sessions_live_through_five_takeovers", five_takeovers),
    Check::new("a_takeover_of_nothing_is_a_start", nothing_to_take_over),
    Check::new("a_takeover_that_fails_leaves_the_old_gateway_in_charge", failing),
    Check::new("a_gateway_killed_in_a_takeover_opens_nothing", killed),
    Check::new(
        "a_gateway_killed_before_it_answers_is_followed_by_the_one_that_asked",
        killed_before_it_answers,
    ),
    Check::new("a_draining_gateway_follows_policy_and_ends_by_sigterm", draining),
    Check::new("a_draining_gateway_ends_at_its_limit", limit),
];

const SESSIONS: usize = 200;
const TAKEOVERS: usize = 5;
/// Threads that connect meanwhile.
const CONNECTING: usize = 4;
/// Longer than a gateway holds a lock that others wait for.
const LONG_LOCKED: Duration = Duration::from_secs(1);
/// Longer than a gateway that drains listens on.
const DRAINED: Duration = Duration::from_secs(25);

/// A session whose other end is `cat`.
struct Echo {
    client: RawClient,
    channel: u32,
}

impl Echo {
    fn open(bed: &Testbed, number: usize) -> Result<Self> {
        let target = if number.is_multiple_of(2) { at(TARGET4, SSH_PORT) } else { at(TARGET6, SSH_PORT) };
        let mut client = RawClient::connect_to(bed, target, "alice")?;
        let channel = client.open_session(0, 1 << 20, 1 << 15)?;
        client.send(&Message::request(channel, "exec", false)?.string("cat")?)?;
        Ok(Self { client, channel })
    }

    fn echo(&mut self, text: &str) -> Result<()> {
        self.client.send(&Message::new(CHANNEL_DATA).u32(self.channel).string(text)?)?;
        loop {
            let said = self.client.receive()?;
            if said.contains(text) {
                return Ok(());
            }
            ensure!(!said.contains("closed") && !said.starts_with("DISCONNECT"), "{said}");
        }
    }
}

fn echo_all(sessions: &mut [Echo], text: &str) -> Result<()> {
    for (number, session) in sessions.iter_mut().enumerate() {
        session.echo(&format!("{text}-{number};")).with_context(|| format!("session {number}, {text}"))?;
    }
    Ok(())
}

/// SYNs that the client has sent again.
fn syn_retransmissions(bed: &Testbed) -> Result<u64> {
    let text = bed.client_netns().enter(|| Ok(fs::read_to_string("/proc/thread-self/net/netstat")?))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs.find(|(name, _)| *name == "TCPSynRetrans").context("no TCPSynRetrans")?;
    Ok(value.parse()?)
}

/// Logs in again and again until told to stop; how many times, and the longest.
fn connect_until(bed: &Testbed, stop: &AtomicBool) -> Result<(usize, Duration)> {
    let (mut served, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let mut session = Echo::open(bed, served).with_context(|| format!("after {served} connections"))?;
        session.echo("served").with_context(|| format!("after {served} connections"))?;
        longest = longest.max(begun.elapsed());
        served += 1;
    }
    Ok((served, longest))
}

/// Connections that the server saw from the client itself: past the gateway.
fn ensure_nothing_passed(bed: &Testbed) -> Result<()> {
    let log = bed.server().log()?;
    ensure!(!log.contains("Connection from 10.1.1.") && !log.contains("Connection from fd00:1:1:"), "{log}");
    Ok(())
}

fn memory_of(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn five_takeovers(_: &Beds) -> Result<()> {
    let limits = "[limits]\nhandshakes_per_source = 64\nconnections_per_source = 1024\n";
    let mut bed = own(&Options { config: Some(limits.to_owned()), ..Options::default() })?;
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        sessions.push(Echo::open(&bed, number).with_context(|| format!("session {number}"))?);
    }
    let (sent_again, stop) = (syn_retransmissions(&bed)?, AtomicBool::new(false));
    let (mut daemons, mut took) = (Vec::new(), Vec::new());
    let (served, longest) = thread::scope(|scope| {
        let connecting: Vec<_> =
            (0..CONNECTING).map(|_| scope.spawn(|| connect_until(&bed, &stop))).collect();
        let taken = (0..TAKEOVERS).try_for_each(|round| -> Result<()> {
            echo_all(&mut sessions, &format!("before{round}"))?;
            let begun = Instant::now();
            daemons.push(bed.gateway()?.take_over()?);
            took.push(begun.elapsed());
            echo_all(&mut sessions, &format!("after{round}"))?;
            // Each gateway that drains has sessions of its own.
            sessions.push(Echo::open(&bed, round)?);
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        let (mut served, mut longest) = (0, Duration::ZERO);
        for thread in connecting {
            let Ok(connected) = thread.join() else { bail!("a connecting thread panicked") };
            let (count, time) = connected?;
            (served, longest) = (served + count, longest.max(time));
        }
        taken.map(|()| (served, longest))
    })?;
    println!(
        "{} sessions kept through {TAKEOVERS} takeovers, which took {took:?}; {served} connections served \
         meanwhile, the longest in {longest:?}",
        sessions.len()
    );
    ensure!(served > TAKEOVERS, "only {served} connections were made");
    ensure!(syn_retransmissions(&bed)? == sent_again, "a SYN was not answered at once");

    let last = daemons.pop().context("nobody has taken over")?;
    let mut draining = daemons;
    draining.extend(bed.gateway_mut()?.adopt(last));
    for daemon in &mut draining {
        ensure!(daemon.is_running()?, "a gateway with sessions has ended");
        println!("{} KiB in a gateway that drains", memory_of(daemon.pid().as_raw())?);
    }
    drop(sessions);
    for daemon in &mut draining {
        let status = daemon.wait(DRAINED)?;
        ensure!(status.success(), "{status}");
    }
    ensure_serves(&bed)?;
    let gateway = bed.gateway()?;
    ensure!(gateway.in_charge() == gateway.pid().and_then(|pid| i32::try_from(pid).ok()), "not the last");
    let log = gateway.log()?;
    for bad in ["ERROR", "panic"] {
        ensure!(!log.contains(bad), "{log}");
    }
    ensure_nothing_passed(&bed)
}

fn nothing_to_take_over(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    bed.gateway_mut()?.stop()?;
    ensure!(!bed.gateway()?.files().state_dir().join("control.sock").exists(), "the control socket is left");
    for _ in 0..2 {
        let daemon = bed.gateway()?.take_over()?;
        bed.gateway_mut()?.adopt(daemon);
        ensure_serves(&bed)?;
        // Leaves the socket behind; nobody answers there.
        bed.gateway_mut()?.kill9()?;
    }
    Ok(())
}

/// The testbed's configuration with one text replaced.
fn config_with(bed: &Testbed, name: &str, from: &str, to: &str) -> Result<std::path::PathBuf> {
    let files = bed.gateway()?.files();
    let text = fs::read_to_string(files.config_file())?;
    ensure!(text.contains(from), "{from} is not in {text}");
    let path = files.config_file().with_file_name(name);
    fs::write(&path, text.replace(from, to))?;
    Ok(path)
}

fn failing(_: &Beds) -> Result<()> {
    let mut bed = own(&Options { policy: Some(policy("\"alice\"", "")), ..Options::default() })?;
    let mut session = Echo::open(&bed, 0)?;
    let cases = [
        ("\"wan0\"", "\"wan7\"", "wan7 does not exist", "in charge again"),
        ("[datapath]", "[datapath]\nmark = 7", "pin_dir, mark and route_table", "is refused"),
    ];
    for (number, (from, to, said, then)) in cases.into_iter().enumerate() {
        let config = config_with(&bed, &format!("bad{number}.toml"), from, to)?;
        let mut daemon = bed.gateway()?.spawn(&["--takeover"], &config)?;
        let status = daemon.wait(LIMIT)?;
        ensure!(status.code() == Some(1), "{status}");
        let gateway = bed.gateway()?;
        until(then, SOON, || Ok(gateway.log()?.contains(then).then_some(())))?;
        ensure!(gateway.log()?.contains(said), "{said} is not in {}", gateway.log()?);
        session.echo(&format!("after{number}"))?;
        ensure_serves(&bed)?;
        ensure!(gateway.http("/readyz")?.0 == 200);
    }
    // The old gateway has its datapath back: it still follows the policy file, and can be taken over.
    let before = metric(bed.gateway()?, sample::RELOADS_APPLIED)?;
    let text = policy("\"alice\"", "").replace("@REFUSING4@", "@OPEN4@");
    bed.gateway()?.files().write_policy(&text)?;
    wait_for(bed.gateway()?, sample::RELOADS_APPLIED, before + 1.0)?;
    // The client has no key: only the gateway lets it in.
    ensure!(ssh(&bed, &[&format!("alice@{OPEN4}"), "echo new"])?.success()? == "new\n");
    let daemon = bed.gateway()?.take_over()?;
    session.echo("taken over")?;
    bed.gateway_mut()?.adopt(daemon);
    ensure_serves(&bed)?;
    ensure_nothing_passed(&bed)
}

/// New or old is killed at some moment of a takeover; whoever is left, or the next start, serves.
fn killed(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let (mut relieved, mut stayed) = (0, 0);
    for round in 0..24 {
        let gateway = bed.gateway()?;
        let old = gateway.in_charge().context("nobody is in charge")?;
        let mut new = gateway.spawn(&["--takeover"], &gateway.files().config_file())?;
        let asked = format!("pid={}", new.pid());
        until("the question", SOON, || {
            let log = gateway.log()?;
            let seen =
                log.lines().any(|line| line.contains("prepares to take over") && line.ends_with(&asked));
            Ok((seen || !new.is_running()?).then_some(()))
        })?;
        thread::sleep(Duration::from_millis(round / 2 * 12));
        if round % 2 == 0 {
            new.signal(Signal::SIGKILL)?;
            new.wait(LIMIT)?;
            // The old one takes its datapath back, unless it had handed it over already.
            let log_says = |text: &str| Ok::<_, anyhow::Error>(gateway.log()?.matches(text).count());
            until("the old gateway's decision", SOON, || {
                let decided = log_says("in charge again")? + log_says("handed over; draining")?;
                Ok((decided > relieved + stayed).then_some(()))
            })?;
            if log_says("in charge again")? > stayed {
                stayed += 1;
            } else {
                relieved += 1;
                bed.gateway_mut()?.launch()?;
            }
        } else {
            bed.gateway_mut()?.kill9()?;
            let gateway = bed.gateway()?;
            gateway.await_ready(&mut new)?;
            relieved = gateway.log()?.matches("handed over; draining").count();
            bed.gateway_mut()?.adopt(new);
        }
        ensure!(round % 2 == 0 || bed.gateway()?.in_charge() != Some(old), "a killed gateway is in charge");
        ensure_serves(&bed).with_context(|| format!("round {round}"))?;
    }
    println!("killed 24 times: {stayed} times the old gateway stayed in charge, {relieved} times it drained");
    ensure!(stayed > 0, "no gateway was killed before it served");
    ensure_nothing_passed(&bed)
}

fn killed_before_it_answers(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let gateway = bed.gateway()?;
    let old = gateway.in_charge().context("nobody is in charge")?;
    let signal = |signal| kill(Pid::from_raw(old), signal);
    signal(Signal::SIGSTOP)?;
    let mut new = gateway.spawn(&["--takeover"], &gateway.files().config_file())?;
    let asks = format!("taking over pid={old}");
    let mut stopped = Instant::now();
    let asked = until("the question", SOON, || {
        // It may have been stopped while it held the lock of the audit chain.
        if stopped.elapsed() > LONG_LOCKED {
            signal(Signal::SIGCONT)?;
            signal(Signal::SIGSTOP)?;
            stopped = Instant::now();
        }
        Ok(gateway.log()?.contains(&asks).then_some(()))
    });
    asked.with_context(|| gateway.log().unwrap_or_default())?;
    bed.gateway_mut()?.kill9()?;
    bed.gateway()?.await_ready(&mut new)?;
    bed.gateway_mut()?.adopt(new);
    ensure_serves(&bed)?;
    ensure_nothing_passed(&bed)
}

fn draining(_: &Beds) -> Result<()> {
    let mut bed = own(&Options { policy: Some(policy("\"alice\"", "")), ..Options::default() })?;
    let mut alice = lasting(&bed, "10.1.1.2", "alice_lasts")?;
    let mut bob = lasting(&bed, "10.1.1.9", "bob_lasts")?;
    let daemon = bed.gateway()?.take_over()?;
    let mut old = bed.gateway_mut()?.adopt(daemon).context("no gateway ran")?;
    bed.gateway()?.files().write_policy(&policy("\"deploy\"", ""))?;
    alice.wait(Duration::from_secs(5)).context("a withdrawn grant")?;
    ensure!(bob.is_running()?, "the other user's session ended too");
    old.signal(Signal::SIGTERM)?;
    ensure!(old.wait(LIMIT)?.success());
    bob.wait(SOON)?;
    let said = |name: &str| fs::read_to_string(bed.dir().join("client").join(name));
    ensure!(said("alice_lasts")?.contains("withdrawn"), "{}", said("alice_lasts")?);
    ensure!(said("bob_lasts")?.contains("stopping"), "{}", said("bob_lasts")?);
    // Routes, listeners and targets are the new gateway's.
    bed.gateway()?.files().write_policy(&policy("\"alice\"", ""))?;
    until("a granted log-in", SOON, || Ok(ensure_serves(&bed).ok()))?;
    ensure!(bed.gateway()?.http("/readyz")?.0 == 200);
    ensure_nothing_passed(&bed)
}

fn limit(_: &Beds) -> Result<()> {
    let config = Some("[limits]\ndrain_timeout = \"2s\"\n".to_owned());
    let mut bed = own(&Options { config, policy: Some(policy("\"alice\"", "")), ..Options::default() })?;
    let mut session = lasting(&bed, "10.1.1.2", "lasts")?;
    let daemon = bed.gateway()?.take_over()?;
    let mut old = bed.gateway_mut()?.adopt(daemon).context("no gateway ran")?;
    ensure!(session.is_running()?, "it was not waited for");
    ensure!(old.wait(SOON)?.success());
    session.wait(SOON)?;
    let said = fs::read_to_string(bed.dir().join("client/lasts"))?;
    ensure!(said.contains("stopping"), "the user reads {said:?}");
    ensure_serves(&bed)
}
