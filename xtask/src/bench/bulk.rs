//! Throughput of one session, and what it costs the process in the middle.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::process::cpu_seconds;
use super::report::Report;
use super::routes::{Route, Routes};

pub(super) const CIPHERS: [&str; 3] =
    ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"];
const CHUNK: usize = 256 * 1024;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
    Both,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Up, Self::Down, Self::Both];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Both => "both ways",
        }
    }

    /// The target says `go` when it is ready; only what comes after is measured.
    fn program(self, bytes: usize) -> String {
        match self {
            Self::Up => "echo go; exec cat > /dev/null".to_owned(),
            Self::Down => format!("echo go; exec head -c {bytes} /dev/zero"),
            Self::Both => "echo go; exec cat".to_owned(),
        }
    }

    fn bytes_up(self, bytes: usize) -> usize {
        if self == Self::Down { 0 } else { bytes }
    }

    fn bytes_down(self, bytes: usize) -> usize {
        if self == Self::Up { 0 } else { bytes }
    }
}

/// The measure's name for a cipher and a way.
pub(super) fn throughput(cipher: &str, way: Way) -> String {
    format!("{} {}, MB/s", short(cipher), way.name())
}

/// The cost's name for a cipher and a way.
pub(super) fn cost(cipher: &str, way: Way) -> String {
    format!("{} {}, CPU s/GB", short(cipher), way.name())
}

fn short(cipher: &str) -> &str {
    cipher.split('@').next().unwrap_or(cipher)
}

/// Moves `bytes` each way on each route with each cipher, `rounds` times. A route that stalls is
/// reported as such and not tried again that way.
///
/// # Errors
/// When a session does not start.
pub(super) fn measure(routes: &Routes, report: &mut Report, rounds: usize, bytes: usize) -> Result<()> {
    let limit = Duration::from_secs(5 + u64::try_from(bytes / 20_000_000)?);
    let mut stalled = Vec::new();
    for _ in 0..rounds {
        for (cipher, way) in CIPHERS.into_iter().flat_map(|cipher| Way::ALL.map(|way| (cipher, way))) {
            for route in Route::ALL {
                if stalled.contains(&(route, way.name())) {
                    report.stalled(&throughput(cipher, way), route);
                    continue;
                }
                let Some(seconds) = transfer(routes, report, (route, cipher, way), bytes, limit)? else {
                    report.stalled(&throughput(cipher, way), route);
                    stalled.push((route, way.name()));
                    continue;
                };
                report.sample(&throughput(cipher, way), route, bytes as f64 / 1e6 / seconds);
            }
        }
    }
    Ok(())
}

/// Seconds for one transfer; `None` when it does not end in time.
fn transfer(
    routes: &Routes,
    report: &mut Report,
    (route, cipher, way): (Route, &str, Way),
    bytes: usize,
    limit: Duration,
) -> Result<Option<f64>> {
    let mut command = routes.ssh(route, cipher, &["-T"])?;
    command.arg(way.program(bytes)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("start ssh")?;
    await_go(&mut child, "go\n").with_context(|| format!("a session by way of {}", route.name()))?;
    let middle = routes.middle(route, cipher);
    let cpu = || middle.map(cpu_seconds).transpose();
    let before = cpu()?;
    let began = Instant::now();
    let bytes_each = (way.bytes_up(bytes), way.bytes_down(bytes));
    let whole = exchange(&mut child, &[b'x'; CHUNK], bytes_each, limit)?;
    let seconds = began.elapsed().as_secs_f64();
    child.wait()?;
    if !whole {
        return Ok(None);
    }
    if let (Some(before), Some(after)) = (before, cpu()?) {
        let gigabytes = (way.bytes_up(bytes) + way.bytes_down(bytes)) as f64 / 1e9;
        report.sample(&cost(cipher, way), route, (after - before) / gigabytes);
    }
    Ok(Some(seconds))
}

/// Reads the target's first line, which is `go`.
pub(super) fn await_go(child: &mut Child, go: &str) -> Result<()> {
    let output = child.stdout.as_mut().context("no output")?;
    let mut line = vec![0; go.len()];
    output.read_exact(&mut line).context("the session did not start")?;
    ensure!(line == go.as_bytes(), "the session began with {:?}", line.escape_ascii().to_string());
    Ok(())
}

/// Writes `up` bytes, `source` again and again, and reads `down`; whether all came before `limit`, and no more.
pub(super) fn exchange(
    child: &mut Child,
    source: &[u8],
    (up, down): (usize, usize),
    limit: Duration,
) -> Result<bool> {
    let (mut input, mut output) =
        (child.stdin.take().context("no input")?, child.stdout.take().context("no output")?);
    let (ended, watched) = mpsc::sync_channel::<()>(1);
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut left = up;
            for chunk in source.chunks(CHUNK).cycle() {
                let part = chunk.get(..left).unwrap_or(chunk);
                input.write_all(part)?;
                left -= part.len();
                if left == 0 {
                    break;
                }
            }
            Ok::<(), std::io::Error>(())
        });
        let killer = scope.spawn(move || {
            let late = watched.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
            if late { child.kill() } else { Ok(()) }
        });
        let (mut chunk, mut read) = (vec![0; CHUNK], 0);
        while let Ok(count @ 1..) = output.read(&mut chunk) {
            read += count;
        }
        drop(ended);
        let (Ok(written), Ok(killed)) = (writer.join(), killer.join()) else { bail!("a thread panicked") };
        killed?;
        Ok(written.is_ok() && read == down)
    })
}
