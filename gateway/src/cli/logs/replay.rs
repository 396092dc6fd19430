//! Playing a terminal recording: the only place where control characters of a recording reach a terminal.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use portreeve_core::record::Source;

use super::Console;
use super::reading::{read_header, read_packets};
use super::recipient::read_private_key;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portreeve logs replay --key recipient channel-0.log
  portreeve logs replay --key recipient --speed 4 --max-idle 2 channel-0.log

A recording may hold any control character, as the terminal got it when it was made.")]
pub struct ReplayArgs {
    /// File of the recipient's private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// How many times faster than it happened; 0 prints all at once
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = not_negative)]
    speed: f64,
    /// Longest pause, in seconds of replay
    #[arg(long, value_name = "SECONDS", value_parser = not_negative)]
    max_idle: Option<f64>,
    /// A channel's file with a terminal
    file: PathBuf,
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        Ok(_) | Err(_) => Err("expected a number, 0 or more".to_owned()),
    }
}

pub(super) fn replay(
    args: &ReplayArgs,
    console: &mut Console<'_>,
    pause: &mut dyn FnMut(Duration),
) -> anyhow::Result<ExitCode> {
    let private_key = read_private_key(&args.key)?;
    let name = args.file.display();
    if read_header(&args.file, &private_key)?.pty.is_none() {
        bail!("{name} is no recording of a terminal; portreeve logs decrypt shows what is in it");
    }
    let paced = console.out_is_terminal && args.speed > 0.0;
    let longest = args.max_idle.map_or(Duration::MAX, seconds);
    let mut shown = 0;
    let reading = read_packets(&args.file, &private_key, |packet| {
        if packet.source == Source::Client {
            return Ok(());
        }
        if paced {
            let gap = Duration::from_micros(packet.elapsed.saturating_sub(shown)).as_secs_f64();
            pause(seconds(gap / args.speed).min(longest));
            shown = shown.max(packet.elapsed);
        }
        console.out.write_all(packet.data)?;
        if paced { console.out.flush() } else { Ok(()) }
    })?;
    if console.out_is_terminal {
        // Plain attributes and a visible cursor, whatever state the recording ended in.
        console.out.write_all(b"\x1b[0m\x1b[?25h\r\n")?;
    }
    console.out.flush()?;
    match reading.damage {
        None => Ok(ExitCode::SUCCESS),
        Some(damage) => bail!("{name}: {damage}; what is intact before that was played"),
    }
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX)
}
