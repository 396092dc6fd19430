//! `cargo xtask demo`: the main job on real input, step by step.
//!
//! Each step says what it does, shows what came of it, and fails the demo when that is not what the
//! gateway promises. Everything happens in a testbed that is torn down at the end.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::server::accounts;
use portreeve_tests::topology::{ECHO_PORT, OPEN4, OPEN6, SSH_PORT, TARGET4, TARGET6, at};
use portreeve_tests::{Finished, Options, Route, Testbed, interrupt, keeper, run as execute, template};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const COMMAND: &str = "uname -a; exit 7";
/// What the blocked network adds to the policy.
const BLOCK: &str = "rules = [{ name = \"no ssh\", action = \"block\", enabled = true, precedence = 1, \
                     traffic = \"net.dst.port == 22\" }]";

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub struct Args {}

type Step = (&'static str, fn(&Testbed) -> Result<()>);

const STEPS: &[Step] = &[
    ("plain ssh over IPv4: the command runs and its exit status comes back", ssh_v4),
    ("the same over IPv6", ssh_v6),
    ("no key and no password was used; the server saw a certificate", credentials),
    ("a login that policy does not grant: refused, and the user reads why", denied),
    ("a blocked network: not one byte of SSH", blocked),
    ("the command log, opened with the recipient's private key", command_log),
    ("the access log", access_log),
    ("the metrics", metrics),
    ("traffic to what is no target passes", other_traffic),
];

/// Runs the demo with the gateway that `build` yields.
///
/// # Errors
/// The first step that does not do what it should.
pub fn run(_args: Args, build: impl FnOnce() -> Result<PathBuf>) -> Result<ExitCode> {
    println!("== building the kernel programs and the gateway");
    let binary = Some(build()?);
    interrupt::watch(interrupted)?;
    println!("== making client - gateway - server, with a real sshd and `portreeve run`");
    let begun = Instant::now();
    let bed = Testbed::start(Route::Intercepted, &Options { binary, ..Options::default() })?;
    show(&format!(
        "up in {:.1} s: namespaces {}; sshd trusts the gateway's CA and nothing else",
        begun.elapsed().as_secs_f32(),
        bed.topology().names().join(", ")
    ));
    for (number, (title, step)) in STEPS.iter().enumerate() {
        println!("== {}. {title}", number + 1);
        step(&bed).with_context(|| format!("step {}, {title}", number + 1))?;
    }
    println!("== tearing down");
    bed.stop()?;
    println!("demo: every step did what it should");
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::exit, reason = "the main thread waits for what the signal ends")]
fn interrupted(signal: nix::sys::signal::Signal) {
    keeper::tear_down_all().ok();
    std::process::exit(128 + signal as i32);
}

/// Prints a text below the title of its step.
fn show(text: &str) {
    for line in text.lines() {
        println!("   {}", line.trim_end());
    }
}

/// Runs ssh as the user types it, and shows what the user sees.
fn ssh(bed: &Testbed, login: &str, address: IpAddr) -> Result<Finished> {
    show(&format!("$ ssh {login}@{address} '{COMMAND}'"));
    let destination = format!("{login}@{address}");
    let finished = execute(bed.client_ssh("ssh").args([&destination, COMMAND]), b"", LIMIT)?;
    show(&finished.err());
    show(&finished.out());
    show(&format!("-> {}", finished.ending()));
    Ok(finished)
}

fn runs(bed: &Testbed, address: IpAddr) -> Result<()> {
    let finished = ssh(bed, accounts::LOGIN, address)?;
    ensure!(finished.ending() == "exit 7", "the exit status is not 7");
    ensure!(finished.out().starts_with("Linux server "), "the command did not run on the server");
    Ok(())
}

fn ssh_v4(bed: &Testbed) -> Result<()> {
    runs(bed, TARGET4.into())
}

fn ssh_v6(bed: &Testbed) -> Result<()> {
    runs(bed, TARGET6.into())
}

fn credentials(bed: &Testbed) -> Result<()> {
    let destination = format!("{}@{TARGET4}", accounts::LOGIN);
    let said = execute(bed.client_ssh("ssh").args(["-v", &destination, "true"]), b"", LIMIT)?.err();
    let client = said.lines().find(|line| line.contains("using \"none\""));
    show(&format!("client: {}", client.context("the client showed a credential")?));
    let log = bed.server().log()?;
    let accepted = log.lines().rev().find(|line| line.starts_with("Accepted certificate ID"));
    show(&format!("sshd:   {}", accepted.context("the server accepted no certificate")?));
    Ok(())
}

fn denied(bed: &Testbed) -> Result<()> {
    let finished = ssh(bed, accounts::DENIED_LOGIN, TARGET4.into())?;
    ensure!(finished.ending() == "exit 255" && finished.stdout.is_empty(), "the login was let in");
    ensure!(finished.err().contains(accounts::DENIED_LOGIN), "the reason does not name the login");
    Ok(())
}

/// Writes a policy and waits until the gateway counts it as applied.
fn put_in_force(bed: &Testbed, policy: &str) -> Result<()> {
    let gateway = bed.gateway()?;
    let applied = || {
        let text = gateway.metrics()?;
        let sample = text.lines().find(|line| line.starts_with("portreeve_policy_generation "));
        Ok::<_, anyhow::Error>(sample.context("no policy generation in the metrics")?.to_owned())
    };
    let before = applied()?;
    gateway.files().write_policy(policy)?;
    until("the new policy", LIMIT, || Ok((applied()? != before).then_some(())))
}

fn blocked(bed: &Testbed) -> Result<()> {
    put_in_force(bed, &template::POLICY.replacen("rules = []", BLOCK, 1))?;
    show("policy.toml now blocks net.dst.port == 22; the gateway has read it by itself");
    let bytes = first_bytes(bed, TARGET4.into())?;
    ensure!(bytes.is_empty(), "the gateway sent {:?}", bytes.escape_ascii().to_string());
    let destination = format!("{}@{TARGET4}", accounts::LOGIN);
    let finished = execute(bed.client_ssh("ssh").args([&destination, "true"]), b"", LIMIT)?;
    show(&finished.err());
    ensure!(finished.ending() == "exit 255", "the blocked user was let in");
    put_in_force(bed, template::POLICY)?;
    ensure!(!first_bytes(bed, TARGET4.into())?.is_empty(), "the block outlives its policy");
    show("the connection was reset before any byte; the old policy is back");
    Ok(())
}

/// What a server sends first; nothing when the connection is reset before.
fn first_bytes(bed: &Testbed, address: IpAddr) -> Result<Vec<u8>> {
    let stream = match bed.client_netns().connect(at(address, SSH_PORT)) {
        Ok(stream) => stream,
        Err(error) if is_reset(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(LIMIT))?;
    let mut buffer = [0; 256];
    match (&stream).read(&mut buffer) {
        Ok(count) => Ok(buffer.get(..count).unwrap_or_default().to_vec()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn is_reset(error: &anyhow::Error) -> bool {
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::ConnectionRefused];
    error.downcast_ref::<std::io::Error>().is_some_and(|error| kinds.contains(&error.kind()))
}

fn command_log(bed: &Testbed) -> Result<()> {
    let files = bed.gateway()?.files();
    let mut sealed: Vec<PathBuf> = until("finished recordings", LIMIT, || {
        let found: Vec<PathBuf> = fs::read_dir(files.spool_dir())?
            .filter_map(|entry| Some(entry.ok()?.path().join("events.log")))
            .filter(|events| events.is_file() && !is_open(events))
            .collect();
        Ok((found.len() >= 3).then_some(found))
    })?;
    sealed.sort();
    let mut commands = 0;
    for events in sealed {
        let mut command = Command::new(files.binary());
        command.args(["logs", "decrypt", "--key"]).arg(files.recipient_key()).arg(&events);
        let lines = execute(&mut command, b"", LIMIT)?.success()?;
        for line in lines.lines() {
            let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            if event["event"] == "session-started" || event["event"] == "exec" || event["event"] == "exit" {
                show(line);
            }
            commands += usize::from(event["event"] == "exec" && event["command"] == COMMAND);
        }
    }
    ensure!(commands == 2, "{COMMAND:?} is in the log {commands} times, not twice");
    Ok(())
}

/// Whether a recording is still written: its directory has another name until then.
fn is_open(events: &Path) -> bool {
    events.parent().is_some_and(|session| session.extension().is_some_and(|extension| extension == "part"))
}

fn access_log(bed: &Testbed) -> Result<()> {
    let lines = bed.gateway()?.access_log()?;
    for line in &lines {
        show(&line.to_string());
    }
    for outcome in ["closed", "denied", "blocked"] {
        ensure!(lines.iter().any(|line| line["outcome"] == outcome), "no line says {outcome}");
    }
    Ok(())
}

fn metrics(bed: &Testbed) -> Result<()> {
    let text = bed.gateway()?.metrics()?;
    let wanted =
        ["portreeve_connections_total", "portreeve_datapath_packets_total", "portreeve_policy_reloads"];
    let shown: Vec<&str> =
        text.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))).collect();
    show(&shown.join("\n"));
    ensure!(shown.iter().any(|line| line.contains("denied")), "the denial is not counted");
    Ok(())
}

fn other_traffic(bed: &Testbed) -> Result<()> {
    for address in [IpAddr::from(OPEN4), IpAddr::from(OPEN6)] {
        let banner = String::from_utf8_lossy(&first_bytes(bed, address)?).into_owned();
        ensure!(banner.starts_with("SSH-2.0-OpenSSH"), "{address} answers {banner:?}");
        let echoed = echo(bed.client_netns().connect(at(address, ECHO_PORT))?, b"hello")?;
        ensure!(echoed == b"hello", "the echo service at {address} answers {echoed:?}");
        show(&format!("{address}: {} on port 22, echo on port 7", banner.trim_end()));
    }
    Ok(())
}

fn echo(mut stream: TcpStream, bytes: &[u8]) -> Result<Vec<u8>> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
