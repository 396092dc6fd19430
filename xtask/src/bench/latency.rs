//! Times that a person notices: until a session is there, and from a key to its echo.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::bulk::{CIPHERS, await_go};
use super::process::cpu_seconds;
use super::report::Report;
use super::routes::{Route, Routes};

pub(super) const SET_UP: &str = "set-up, ms";
pub(super) const SET_UP_CPU: &str = "set-up, CPU ms";
const CAPACITY: &str = "connections/s that fill a core";
pub(super) const KEYSTROKE: &str = "keystroke, ms";

/// Connections of one route in a row, before the next route's turn.
const BATCH: usize = 5;
/// A connection's end costs the middle something too, which belongs to the connection.
const SETTLE: Duration = Duration::from_millis(100);

/// Runs `ssh host true` `rounds` x 5 times on each route, after one that is not counted.
///
/// # Errors
/// When a connection fails.
pub(super) fn set_up(routes: &Routes, report: &mut Report, rounds: usize) -> Result<()> {
    let mut cpu = Route::ALL.map(|_| 0.0);
    for route in Route::ALL {
        connect(routes, route)?;
    }
    for _ in 0..rounds {
        for (route, spent) in Route::ALL.into_iter().zip(&mut cpu) {
            let middle = routes.middle(route, CIPHERS[0]);
            let before = middle.map(cpu_seconds).transpose()?;
            for _ in 0..BATCH {
                report.sample(SET_UP, route, connect(routes, route)?);
            }
            thread::sleep(SETTLE);
            if let (Some(before), Some(after)) = (before, middle.map(cpu_seconds).transpose()?) {
                *spent += after - before;
            }
        }
    }
    for (route, spent) in Route::ALL.into_iter().zip(cpu) {
        if routes.middle(route, CIPHERS[0]).is_some() {
            // One sample of all rounds: what a connection costs after its end is not told from the next.
            let connections = (rounds * BATCH) as f64;
            report.sample(SET_UP_CPU, route, spent * 1e3 / connections);
            if spent > 0.0 {
                report.sample(CAPACITY, route, connections / spent);
            }
        }
    }
    Ok(())
}

/// Milliseconds.
fn connect(routes: &Routes, route: Route) -> Result<f64> {
    let mut command = routes.ssh(route, CIPHERS[0], &["-n", "-T"])?;
    command.arg("true").stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let status = command.status().context("start ssh")?;
    let elapsed = began.elapsed();
    ensure!(status.success(), "ssh by way of {} ended with {status}", route.name());
    Ok(elapsed.as_secs_f64() * 1e3)
}

/// A session whose terminal echoes.
struct Keyboard {
    ssh: Child,
    keys: ChildStdin,
    screen: ChildStdout,
}

impl Keyboard {
    fn open(routes: &Routes, route: Route) -> Result<Self> {
        let mut command = routes.ssh(route, CIPHERS[0], &["-tt"])?;
        command.arg("stty raw echo; echo go; exec sleep 600");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut ssh = command.spawn().context("start ssh")?;
        await_go(&mut ssh, "go\n")?;
        let (keys, screen) = (ssh.stdin.take().context("no input")?, ssh.stdout.take().context("no output")?);
        Ok(Self { ssh, keys, screen })
    }

    /// Milliseconds from a key to its echo.
    fn strike(&mut self) -> Result<f64> {
        let mut echo = [0];
        let began = Instant::now();
        self.keys.write_all(b"k")?;
        self.screen.read_exact(&mut echo)?;
        let elapsed = began.elapsed();
        ensure!(echo == *b"k", "another echo");
        Ok(elapsed.as_secs_f64() * 1e3)
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.ssh.kill().ok();
        self.ssh.wait().ok();
    }
}

/// Strikes `count` keys on each route, in turn.
///
/// # Errors
/// When a session does not start or ends.
pub(super) fn keystroke(routes: &Routes, report: &mut Report, count: usize) -> Result<()> {
    let mut keyboards = Vec::new();
    for route in Route::ALL {
        keyboards.push((route, Keyboard::open(routes, route)?));
    }
    for number in 0..count + 20 {
        for (route, keyboard) in &mut keyboards {
            let sample = keyboard.strike().with_context(|| route.name())?;
            // The first ones meet cold caches.
            if number >= 20 {
                report.sample(KEYSTROKE, *route, sample);
            }
        }
    }
    Ok(())
}
