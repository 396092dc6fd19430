//! Playing a terminal recording: the only place where control characters of a recording reach a terminal.
//!
//! Owns the playing itself. Going back starts again from the beginning, up to the place: nothing of a recording is kept
//! in memory but the times of its commands. [`pacer`] decides when what is shown; [`keys`] has the keyboard.

pub(super) mod keys;
pub(super) mod pacer;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use portreeve_core::envelope::{Packet, RecipientPrivateKey};
use portreeve_core::record::Source;

use self::keys::{Keyboard, Keys, NoKeys};
use self::pacer::{Next, Pacer, Reaction};
use super::Console;
use super::channel::{Channel, ChannelArgs};
use super::export::timeline;
use super::reading::ReadingError;
use super::recipient::read_private_key;
use super::segments::LogReading;
use super::timeline::{Timeline, What};

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portreeve logs replay --key recipient spool/1763754158123-5f0c...
  portreeve logs replay --key recipient --speed 4 --idle-limit 2s --start 1:30 channel-0.log

Keys:
  space          pause, and go on          n p       to the next command, the one before
  .              one piece while paused    -> <-     5 seconds forward, back
  + -            twice as fast, half       1:30g     to a time (or 90g)
  q              quit

A recording may hold any control character, as the terminal got it when it was made.")]
pub struct ReplayArgs {
    /// File of the recipient's private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// How many times faster than it happened; 0 prints all at once
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = not_negative)]
    speed: f64,
    /// Longest pause, in seconds of replay, as 2s or 0.5
    #[arg(long, alias = "max-idle", value_name = "SECONDS", value_parser = idle_limit)]
    idle_limit: Option<Duration>,
    /// Where to begin, as 90 or 1:30 or 1:02:03
    #[arg(long, value_name = "TIME", value_parser = start)]
    start: Option<Duration>,
    #[command(flatten)]
    channel: ChannelArgs,
}

/// The screen, keys, attributes and cursor that a terminal begins with, whatever a recording has left.
pub(super) const AS_IT_BEGINS: &[u8] =
    b"\x1b[?1047l\x1b[?1000;1002;1003;1006;2004l\x1b[?1l\x1b>\x1b[0m\x1b[?25h\r\n";

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        Ok(_) | Err(_) => Err("expected a number, 0 or more".to_owned()),
    }
}

fn idle_limit(text: &str) -> Result<Duration, String> {
    let seconds = not_negative(text.strip_suffix('s').unwrap_or(text))?;
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

fn start(text: &str) -> Result<Duration, String> {
    pacer::time(text).ok_or_else(|| "expected a time, as 90, 1:30 or 1:02:03".to_owned())
}

pub(super) fn replay(args: &ReplayArgs, console: &mut Console<'_>) -> anyhow::Result<ExitCode> {
    // Without a keyboard it is played all the same.
    let keyboard = (console.out_is_terminal && args.speed > 0.0).then(Keyboard::open);
    match keyboard {
        Some(Ok(mut keyboard)) => {
            writeln!(
                console.err,
                "space pause, . step, + - speed, n p commands, arrows 5 s, 1:30g jump, q quit\r"
            )?;
            replay_with(args, console, &mut keyboard)
        }
        Some(Err(_)) | None => replay_with(args, console, &mut NoKeys),
    }
}

fn replay_with(
    args: &ReplayArgs,
    console: &mut Console<'_>,
    keys: &mut dyn Keys,
) -> anyhow::Result<ExitCode> {
    let key = read_private_key(&args.key)?;
    let channel = args.channel.find(&key)?;
    let name = channel.log.path.display();
    if channel.header.pty.is_none() {
        bail!("{name} is no recording of a terminal; portreeve logs decrypt shows what is in it");
    }
    let (Timeline { marks, opened, .. }, mut problems) = timeline(&channel, &key);
    let commands = marks.iter().filter(|mark| matches!(mark.what, What::Command(_)));
    let idle_limit = args.idle_limit.unwrap_or(Duration::MAX);
    let mut pacer = Pacer::new(opened, args.speed, idle_limit, commands.map(|mark| mark.elapsed).collect());
    pacer.begin_at(args.start.unwrap_or_default());
    let is_paced = console.out_is_terminal && args.speed > 0.0;
    let mut player = Player { console, keys, pacer: is_paced.then_some(pacer), stop: None };
    let played = player.play(&channel, &key);
    if console.out_is_terminal {
        console.out.write_all(AS_IT_BEGINS)?;
    }
    console.out.flush()?;
    problems.extend(played?.iter().flat_map(|reading| reading.damage.iter().map(ToString::to_string)));
    match problems.as_slice() {
        [] => Ok(ExitCode::SUCCESS),
        problems => bail!("{}; what is intact was played", problems.join("; ")),
    }
}

struct Player<'a, 'c> {
    console: &'a mut Console<'c>,
    keys: &'a mut dyn Keys,
    /// Absent: all at once.
    pacer: Option<Pacer>,
    /// Why a reading was broken off.
    stop: Option<Reaction>,
}

impl Player<'_, '_> {
    /// Plays to the end; `None` when it was left before.
    fn play(
        &mut self,
        channel: &Channel,
        key: &RecipientPrivateKey,
    ) -> Result<Option<LogReading>, ReadingError> {
        loop {
            let read = channel.log.read(key, |packet| self.packet(packet));
            match (self.stop.take(), &mut self.pacer) {
                (Some(Reaction::Quit), _) => return Ok(None),
                (Some(Reaction::Restart), Some(pacer)) => {
                    pacer.restarted();
                    // A terminal as it was when it was switched on (DEC's RIS).
                    self.console.out.write_all(b"\x1bc").map_err(ReadingError::PassOn)?;
                }
                (Some(Reaction::Restart | Reaction::GoOn) | None, _) => return read.map(Some),
            }
        }
    }

    fn packet(&mut self, packet: Packet<'_>) -> io::Result<()> {
        if packet.source == Source::Client {
            return Ok(());
        }
        while let Some(pacer) = &mut self.pacer {
            let limit = match pacer.next(packet.elapsed) {
                Next::Show => break,
                Next::Wait(limit) => Some(limit),
                Next::WaitForKey => None,
            };
            self.console.out.flush()?;
            let (waited, key) = self.keys.wait(limit)?;
            if limit.is_some() {
                pacer.waited(waited);
            }
            match key.map_or(Reaction::GoOn, |key| pacer.key(key)) {
                Reaction::GoOn => {}
                stop @ (Reaction::Restart | Reaction::Quit) => {
                    self.stop = Some(stop);
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
        }
        self.console.out.write_all(packet.data)?;
        if let Some(pacer) = &mut self.pacer {
            pacer.shown(packet.elapsed);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Presses no key, and notes how long was waited.
    struct Waits(Vec<Duration>);

    impl Keys for Waits {
        fn wait(&mut self, limit: Option<Duration>) -> io::Result<(Duration, Option<pacer::Key>)> {
            let limit = limit.expect("nobody presses a key");
            self.0.push(limit);
            Ok((limit, None))
        }
    }

    /// Plays without a keyboard; how long it waited.
    pub(in super::super) fn waits(args: &ReplayArgs, console: &mut Console<'_>) -> Vec<Duration> {
        let mut waits = Waits(Vec::new());
        replay_with(args, console, &mut waits).unwrap();
        waits.0
    }
}
