//! Many sessions that start within one second.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use portreeve_tests::raw_client::{Message, RawClient};
use portreeve_tests::server::accounts::LOGIN;

use super::figures::{Figures, Unit};
use super::loss::{Expected, missing};
use super::scene::{Scene, Way};

const NAME: &str = "sessions that start in one second";

/// Bytes that each session gets.
const BYTES: usize = 20_000;

/// Sessions wait for each other on the cores.
const PATIENCE: Duration = Duration::from_secs(240);

/// Opens `sessions` sessions on each way.
///
/// # Errors
/// When one of them does not get through, or what was recorded is not what was sent.
pub(super) fn measure(scene: &Scene, sessions: usize, figures: &mut Figures) -> Result<()> {
    for way in Way::MAIN {
        let (times, usage) = scene.watch(way, sessions, || crowd(scene, way, sessions))?;
        let (whole, slowest) = times;
        figures.sample(NAME, Unit::SessionsPerSecond, way, sessions as f64 / whole);
        figures.sample(NAME, Unit::Slowest, way, slowest);
        let Some(usage) = usage else { continue };
        figures.sample(NAME, Unit::CpuPerSession, way, usage.cpu * 1e3 / sessions as f64);
        figures.sample(NAME, Unit::Peak, way, usage.peak / 1e6);
        if way.records() {
            let expected = Expected { first: b"", repeated: scene.noise(), bytes: BYTES };
            for session in &usage.recordings {
                figures.compared(BYTES, missing(scene, way, session, "target", &expected)?);
            }
        }
    }
    Ok(())
}

/// Seconds until all are over, and those that the slowest took.
fn crowd(scene: &Scene, way: Way, sessions: usize) -> Result<(f64, f64)> {
    let began = Instant::now();
    let times = thread::scope(|scope| {
        let starts =
            (0..sessions).map(|number| Duration::from_secs(1).mul_f64(number as f64 / sessions as f64));
        let running: Vec<_> = starts
            .map(|start| {
                scope.spawn(move || {
                    thread::sleep(start.saturating_sub(began.elapsed()));
                    let started = Instant::now();
                    session(scene, way).map(|()| started.elapsed().as_secs_f64())
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<f64>>| {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?
        };
        running.into_iter().map(join).collect::<Result<Vec<_>>>()
    });
    let times = times.with_context(|| format!("a session of many, {}", way.name()))?;
    let whole = began.elapsed().as_secs_f64();
    ensure!(times.len() == sessions, "{} sessions", times.len());
    Ok((whole, times.into_iter().fold(0.0, f64::max)))
}

fn session(scene: &Scene, way: Way) -> Result<()> {
    let mut client = RawClient::connect_within(scene.bed(way)?, LOGIN, PATIENCE)?;
    let channel = client.open_session(0, 1 << 21, 1 << 15)?;
    let command = format!("exec head -c {BYTES} {}", scene.files().join("noise").display());
    client.send(&Message::request(channel, "exec", true)?.string(command)?)?;
    client.receive_until("0: close").map(drop)
}
