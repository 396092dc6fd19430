//! Mirroring a terminal of a live session, from the sealed files that the gateway is writing.
//!
//! Owns what is shown: all that the terminal has shown so far at once, then what it shows, up to half a second after
//! the user saw it. It is decrypted here, with the recipient's private key; the gateway takes no part, and the session
//! does not notice. What the user types is not shown but where the target echoes it.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use portreeve_core::envelope::{LogName, RecipientPrivateKey};
use portreeve_core::record::{ChannelNumber, EventLine, Exit, RecordEvent, Source};

use super::Console;
use super::channel::{numbers, only_terminal};
use super::follow::{Follower, Step};
use super::lines::Lines;
use super::location::Location;
use super::recipient::read_private_key;
use super::replay::AS_IT_BEGINS;
use super::replay::keys::{Keyboard, Keys, NoKeys};
use super::replay::pacer::Key;
use super::segments::logs_in;
use crate::cli::print::without_controls;

/// How often it is looked for more.
const EVERY: Duration = Duration::from_millis(50);

/// How long what has happened may be on its way into the files: half a second to be sealed, and some.
const SEALED_LIMIT: Duration = Duration::from_secs(2);

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct WatchArgs {
    /// File of the recipient's private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The channel, where the session has several terminals
    #[arg(long, value_name = "N")]
    channel: Option<u32>,
}

/// A session that is being written.
#[derive(Debug)]
pub(in crate::cli) struct Live {
    /// Its directory, which has another name as soon as it is finished.
    pub(in crate::cli) directory: PathBuf,
    /// The process that writes it.
    pub(in crate::cli) writer: Option<i32>,
}

impl Live {
    fn is_written(&self) -> bool {
        let runs = |pid: i32| PathBuf::from(format!("/proc/{pid}")).exists();
        self.directory.exists() && self.writer.is_none_or(runs)
    }
}

pub(super) fn watch(live: &Live, args: &WatchArgs, console: &mut Console<'_>) -> anyhow::Result<ExitCode> {
    let key = read_private_key(&args.key)?;
    let channel = find(live, args.channel, &key)?;
    let keyboard = console.out_is_terminal.then(Keyboard::open);
    let mut mirror = Mirror {
        out: console.out,
        is_terminal: console.out_is_terminal,
        terminal: Follower::new(&live.directory, LogName::Channel(channel), &key),
        events: Follower::new(&live.directory, LogName::Events, &key),
        told: Told::of(channel),
    };
    mirror.hear()?;
    if let Some((width, height)) = mirror.told.size {
        writeln!(console.err, "a terminal of {width} columns and {height} rows; q or Ctrl-C leaves it\r")?;
    }
    let watched = match keyboard {
        Some(Ok(mut keyboard)) => mirror.run(live, &mut keyboard),
        Some(Err(_)) | None => mirror.run(live, &mut NoKeys),
    };
    if mirror.is_terminal {
        mirror.out.write_all(AS_IT_BEGINS)?;
    }
    mirror.out.flush()?;
    let told = mirror.told;
    let end = match watched? {
        Seen::Left => "left; the session goes on".to_owned(),
        Seen::End => told.end().context("the recording stops here: nobody writes it any more")?,
    };
    console.problem(&without_controls(&end))?;
    Ok(ExitCode::SUCCESS)
}

/// The channel of a terminal that is open.
fn find(live: &Live, number: Option<u32>, key: &RecipientPrivateKey) -> anyhow::Result<ChannelNumber> {
    let directory = &live.directory;
    let unreadable = || format!("cannot read {}", directory.display());
    let limit = Instant::now() + SEALED_LIMIT;
    let logs = loop {
        let mut logs = logs_in(&Location::local(directory), key).with_context(unreadable)?;
        let mut no_terminal = true;
        logs.retain(|name, log| {
            let header = log.header(key);
            no_terminal &= header.as_ref().is_ok_and(|header| header.pty.is_none());
            // One that does not open is told by who needs it.
            matches!(name, LogName::Channel(_)) && header.map_or(true, |header| !header.last)
        });
        if !no_terminal || Instant::now() >= limit {
            break logs;
        }
        sleep(EVERY);
    };
    let Some(number) = number.map(ChannelNumber) else { return only_terminal(directory, &logs, key) };
    let Some(log) = logs.get(&LogName::Channel(number)) else {
        bail!(
            "no channel {} is open in {}; there is {}",
            number.0,
            directory.display(),
            numbers(logs.keys())
        );
    };
    if log.header(key)?.pty.is_none() {
        bail!("channel {} is no terminal", number.0);
    }
    Ok(number)
}

/// Why it is over.
enum Seen {
    Left,
    End,
}

struct Mirror<'a, 'k> {
    out: &'a mut dyn io::Write,
    is_terminal: bool,
    terminal: Follower<'k>,
    events: Follower<'k>,
    told: Told,
}

impl Mirror<'_, '_> {
    fn run(&mut self, live: &Live, keys: &mut dyn Keys) -> anyhow::Result<Seen> {
        loop {
            let written = live.is_written();
            let step = self.show()?;
            let pause = if step == Step::More { Duration::ZERO } else { EVERY };
            if pause > Duration::ZERO {
                self.hear_sizes()?;
                self.out.flush()?;
                if step == Step::Over || !written {
                    break;
                }
            }
            if keys.wait(Some(pause))?.1 == Some(Key::Quit) {
                return Ok(Seen::Left);
            }
        }
        let limit = Instant::now() + SEALED_LIMIT;
        while !self.told.is_over() && Instant::now() < limit {
            self.hear()?;
            keys.wait(Some(EVERY))?;
        }
        Ok(Seen::End)
    }

    fn show(&mut self) -> anyhow::Result<Step> {
        let Self { terminal, out, .. } = self;
        Ok(terminal.step(|packet| match packet.source {
            Source::Target => out.write_all(packet.data),
            Source::Client => Ok(()),
        })?)
    }

    /// Takes in what the events say by now.
    fn hear(&mut self) -> anyhow::Result<()> {
        let Self { events, told, .. } = self;
        while events.step(|packet| told.add(packet.data))? == Step::More {}
        Ok(())
    }

    /// Shows a change of the terminal's size as the title of this one, where nothing else is written.
    fn hear_sizes(&mut self) -> anyhow::Result<()> {
        let before = self.told.size;
        self.hear()?;
        if let Some((width, height)) = self.told.size.filter(|size| self.is_terminal && Some(*size) != before)
        {
            write!(self.out, "\x1b]2;{width} columns, {height} rows\x07")?;
        }
        Ok(())
    }
}

/// What the events say.
struct Told {
    channel: ChannelNumber,
    lines: Lines,
    /// Columns and rows.
    size: Option<(u32, u32)>,
    exit: Option<Exit>,
    closed: bool,
    session_ended: Option<String>,
}

impl Told {
    fn of(channel: ChannelNumber) -> Self {
        Self { channel, lines: Lines::default(), size: None, exit: None, closed: false, session_ended: None }
    }

    fn add(&mut self, data: &[u8]) -> io::Result<()> {
        let Self { channel: own, lines, size, exit, closed, session_ended } = self;
        lines.add(data, |line| {
            // Lines of a later version say nothing here.
            let Ok(EventLine { event, .. }) = serde_json::from_slice(line) else { return Ok(()) };
            #[expect(clippy::wildcard_enum_match_arm, reason = "other events are about something else")]
            match event {
                RecordEvent::Pty { channel, pty } if channel == *own => *size = Some((pty.width, pty.height)),
                RecordEvent::WindowChange { channel, width, height } if channel == *own => {
                    *size = Some((width, height));
                }
                RecordEvent::Exit { channel, exit: how } if channel == *own => *exit = Some(how),
                RecordEvent::ChannelClosed { channel, .. } if channel == *own => *closed = true,
                RecordEvent::SessionEnded { reason } => *session_ended = Some(reason),
                _ => {}
            }
            Ok(())
        })
    }

    const fn is_over(&self) -> bool {
        self.closed || self.session_ended.is_some()
    }

    /// How it ended, if that was told.
    fn end(self) -> Option<String> {
        match (self.session_ended, self.closed, self.exit) {
            (Some(reason), ..) => Some(format!("the session has ended: {reason}")),
            (None, true, Some(Exit::Status(status))) => {
                Some(format!("the terminal was closed: its program ended with status {status}"))
            }
            (None, true, Some(Exit::Signal { signal, .. })) => Some(format!(
                "the terminal was closed: its program was ended by signal {}",
                String::from_utf8_lossy(&signal.0)
            )),
            (None, true, None) => Some("the terminal was closed".to_owned()),
            (None, false, _) => None,
        }
    }
}
