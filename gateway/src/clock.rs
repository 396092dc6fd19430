//! The gateway's clock: looked at at the start and while it runs, since certificates rest on it.
//!
//! Owns what is known to have been: when the program was made, and when a recording was last closed. A human is told
//! when a doubt begins. Nothing waits and nothing is refused: targets are closed to whoever they do not believe.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use portreeve_core::clock::{self, Doubt};
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::Metrics;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// What is wrong with the clock by what has been.
pub fn doubt(state_dir: &Path) -> Option<Doubt> {
    let marks = [
        ("the making of this program", PathBuf::from("/proc/self/exe")),
        ("the newest recording", state_dir.join("audit_chain/journal")),
    ];
    let made = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let past: Vec<_> = marks.iter().filter_map(|(what, path)| Some((*what, made(path)?))).collect();
    clock::behind(SystemTime::now(), &past)
}

/// Looks again and again, as long as it is polled.
pub async fn watch(state_dir: PathBuf, metrics: Metrics) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut wall, mut steady, mut doubted) = (SystemTime::now(), Instant::now(), false);
    loop {
        ticks.tick().await;
        let (now, elapsed) = (SystemTime::now(), steady.elapsed());
        if let Some(doubt) = clock::set(wall, now, elapsed) {
            metrics.clock.steps.inc();
            tracing::error!(%doubt, "look after the machine's time: `portreeve doctor`, `timedatectl`");
        }
        (wall, steady) = (now, Instant::now());
        let doubt = doubt(&state_dir);
        metrics.clock.doubted.set(doubt.is_some().into());
        if let Some(doubt) = doubt.as_ref().filter(|_| !doubted) {
            tracing::error!(%doubt, "look after the machine's time: `portreeve doctor`, `timedatectl`");
        }
        doubted = doubt.is_some();
    }
}
