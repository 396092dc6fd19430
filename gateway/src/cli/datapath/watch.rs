//! `portreeve datapath watch`: the reason counters, live.
//!
//! Reads the pinned maps again for each block, so that it goes on when they are removed and made anew, and
//! needs no gateway. Changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use portreeve_core::config::daemon::Config;
use portreeve_core::config::duration;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::super::{ConfigArg, print, runtime};
use crate::datapath::{self, Counters};

/// Home, and clear what is below: ECMA-48, CUP and ED.
const REDRAW: &str = "\x1b[H\x1b[J";

/// Arguments of `portreeve datapath watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
On a terminal the counters are drawn anew after each interval; elsewhere each interval has a block of lines, or
with --json an object on a line. Totals are since the programs' maps were made, rates of the interval. Ends by
SIGINT, with status 0.")]
pub(in crate::cli) struct WatchArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// From one reading to the next, as \"500ms\" or \"10s\"
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    interval: Duration,
    /// End after so many intervals
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
}

/// A counter, and how fast it grows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Sample {
    total: u64,
    per_second: f64,
}

/// What one interval came to.
#[derive(Debug, PartialEq, Serialize)]
struct Block {
    attached: bool,
    /// From the reading before to this one.
    seconds: f64,
    packets: BTreeMap<&'static str, Sample>,
    fast_path_frames: BTreeMap<&'static str, Sample>,
}

impl WatchArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let config = self.config.load()?;
        runtime()?.block_on(async {
            tokio::select! {
                ended = self.watch(&config, json) => ended,
                interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for SIGINT"),
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn watch(&self, config: &Config, json: bool) -> anyhow::Result<()> {
        let redraw = !json && stdout().is_terminal();
        let (mut before, mut at) = (datapath::counters(&config.datapath)?, Instant::now());
        let mut left = self.count.map(NonZeroU64::get);
        while left != Some(0) {
            sleep_until(at + self.interval).await;
            let (now, read_at) = (datapath::counters(&config.datapath)?, Instant::now());
            let block = Block::new(before.as_ref(), now.as_ref(), read_at - at);
            match (json, redraw) {
                (true, _) => print::json(&block)?,
                (false, true) => print::line(&format!("{REDRAW}{}", block.text()))?,
                (false, false) => print::line(&block.text())?,
            }
            (before, at) = (now, read_at);
            left = left.map(|left| left - 1);
        }
        Ok(())
    }
}

impl Block {
    fn new(before: Option<&Counters>, now: Option<&Counters>, elapsed: Duration) -> Self {
        let packets = |counters: &Counters| counters.packets.clone();
        let frames = |counters: &Counters| counters.fast_path.clone();
        Self {
            attached: now.is_some(),
            seconds: elapsed.as_secs_f64(),
            packets: samples(before.map(packets), now.map(packets), elapsed),
            fast_path_frames: samples(before.map(frames), now.map(frames), elapsed),
        }
    }

    /// Lines for people: every reason to drop, and of the others those that happened; an empty line ends it.
    fn text(&self) -> String {
        if !self.attached {
            return "nothing is attached: targets are open\n".to_owned();
        }
        let mut text = format!("{:>14} {:>12}\n", "total", "per second");
        for part in ["dropped", "steered", "passed"] {
            let of_part = |(reason, sample): &(&&str, &Sample)| {
                reason.starts_with(part) && (part == "dropped" || sample.total != 0)
            };
            self.packets.iter().filter(of_part).for_each(|sample| line(&mut text, sample, "packets"));
        }
        let frames = self.fast_path_frames.iter().filter(|(_, sample)| sample.total != 0);
        frames.for_each(|sample| line(&mut text, sample, "frames of the fast path"));
        text
    }
}

/// Rates of what both readings have; maps that were made anew meanwhile, or now, begin at 0.
fn samples(
    before: Option<Vec<(&'static str, u64)>>,
    now: Option<Vec<(&'static str, u64)>>,
    elapsed: Duration,
) -> BTreeMap<&'static str, Sample> {
    let before: BTreeMap<_, _> = before.into_iter().flatten().collect();
    let sample = |(reason, total): (&'static str, u64)| {
        let earlier = before.get(reason).copied().filter(|earlier| *earlier <= total).unwrap_or(0);
        // An interval has fewer packets than 2^32, in which a double is exact; more are shown as that many.
        let grown = f64::from(u32::try_from(total - earlier).unwrap_or(u32::MAX));
        (reason, Sample { total, per_second: grown / elapsed.as_secs_f64().max(f64::EPSILON) })
    };
    now.into_iter().flatten().map(sample).collect()
}

fn line(text: &mut String, (reason, sample): (&&str, &Sample), unit: &str) {
    let Sample { total, per_second } = sample;
    // A String takes all that is written to it.
    if writeln!(text, "{total:>14} {per_second:>12.1}  {unit} {reason}").is_err() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(dropped: u64, steered: u64, passed: u64) -> Counters {
        let packets = vec![
            ("passed_not_target", passed),
            ("steered_new", steered),
            ("dropped_fragment", dropped),
            ("dropped_rate", 0),
        ];
        Counters { packets, fast_path: vec![("forwarded", passed)] }
    }

    #[test]
    fn drops_come_first_and_have_their_rates() {
        let (before, now) = (counters(10, 0, 100), counters(14, 0, 107));
        let block = Block::new(Some(&before), Some(&now), Duration::from_secs(2));
        assert_eq!(block.packets["dropped_fragment"], Sample { total: 14, per_second: 2.0 });
        assert_eq!(
            block.text(),
            "         total   per second\n            14          2.0  packets dropped_fragment\n             \
             0          0.0  packets dropped_rate\n           107          3.5  packets passed_not_target\n           \
             107          3.5  frames of the fast path forwarded\n"
        );
    }

    #[test]
    fn maps_that_were_made_anew_begin_at_nothing() {
        let (before, now) = (counters(10, 5, 100), counters(2, 0, 100));
        let block = Block::new(Some(&before), Some(&now), Duration::from_secs(1));
        assert_eq!(block.packets["dropped_fragment"], Sample { total: 2, per_second: 2.0 });
        assert_eq!(block.packets["passed_not_target"].per_second, 0.0);
    }

    #[test]
    fn without_pins_it_says_that_targets_are_open() {
        let block = Block::new(Some(&counters(1, 1, 1)), None, Duration::from_secs(1));
        assert_eq!(block.text(), "nothing is attached: targets are open\n");
        assert!(!block.attached && block.packets.is_empty());
    }
}
