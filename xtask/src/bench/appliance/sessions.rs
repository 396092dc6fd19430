//! ssh through the machine: until a session is there, and a file down.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portreeve_tests::run;
use portreeve_tests::server::accounts::LOGIN;
use portreeve_tests::topology::TARGET4;

use super::super::bulk::{await_go, exchange};
use super::figures::{Figures, Measure};
use super::machine::{Router, Way};

const LIMIT: Duration = Duration::from_secs(120);

/// Opens `connections` one after the other, and moves `bytes` from the target.
///
/// # Errors
/// When a session fails.
pub(super) fn measure(
    router: &mut Router,
    way: Way,
    connections: usize,
    bytes: usize,
    figures: &mut Figures,
) -> Result<()> {
    // The first one meets a host key and a target that nobody knows yet.
    connect(router, way)?;
    let before = router.ticks()?;
    for _ in 0..connections {
        figures.sample(Measure::SetUp, way, connect(router, way)?);
    }
    let (busy, _) = router.ticks()?.busy_since(before);
    figures.sample(Measure::SetUpBusy, way, busy);
    let before = router.ticks()?;
    let seconds = download(router, way, bytes)?;
    let (busy, _) = router.ticks()?.busy_since(before);
    figures.sample(Measure::Bulk, way, bytes as f64 / 1e6 / seconds);
    figures.sample(Measure::BulkBusy, way, busy);
    Ok(())
}

/// `ssh` to the target; without a gateway with a key, and with another known host key.
fn ssh(router: &Router, way: Way) -> Command {
    let mut command = router.bed.client_ssh("ssh");
    let dir = router.bed.dir().join("client");
    let known = format!("UserKnownHostsFile={}", dir.join(format!("known-{way:?}")).display());
    command.args(["-T", "-q", "-o", &known, "-i"]).arg(dir.join("id_ed25519"));
    command.arg(format!("{LOGIN}@{TARGET4}"));
    command
}

/// Milliseconds.
fn connect(router: &Router, way: Way) -> Result<f64> {
    let began = Instant::now();
    run(ssh(router, way).arg("true"), b"", LIMIT)?.success().with_context(|| way.name())?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Seconds, from when the target begins to send.
fn download(router: &Router, way: Way, bytes: usize) -> Result<f64> {
    let mut command = ssh(router, way);
    command.arg(format!("echo go; exec head -c {bytes} /dev/zero"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("start ssh")?;
    await_go(&mut child, "go\n")?;
    let began = Instant::now();
    let whole = exchange(&mut child, b"x", (0, bytes), LIMIT)?;
    let seconds = began.elapsed().as_secs_f64();
    child.wait()?;
    ensure!(whole, "{bytes} bytes did not come in {LIMIT:?}");
    Ok(seconds)
}
