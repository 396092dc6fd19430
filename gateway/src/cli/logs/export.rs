//! `portreeve logs export`: a channel as asciicast, or as the zip that `ssh-log-cli` makes.

use std::io::{self, BufWriter, Write};
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use portreeve_core::asciicast::{Asciicast, Event, Header, Version};
use portreeve_core::envelope::{PtyHeader, RecipientPrivateKey};
use portreeve_core::record::Source;
use zip::ZipWriter;

use super::Console;
use super::channel::{Channel, ChannelArgs};
use super::decrypt::write_file;
use super::progress::Progress;
use super::recipient::read_private_key;
use super::segments::LogReading;
use super::text_files::write_zip;
use super::timeline::{Mark, Timeline, What};
use crate::cli::print::without_controls;

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portreeve logs export --key recipient --output session.cast spool/1763754158123-5f0c...
  portreeve logs export --key recipient --format asciicast-v2 channel-0.log | asciinema play -
  portreeve logs export --key recipient --format zip --channel 2 --output files.zip spool/1763754158123-5f0c...

Commands become markers, to which players can jump. Without --output it goes to standard output.")]
pub struct ExportArgs {
    /// File of the recipient's private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What to make of it
    #[arg(long, value_enum, default_value = "asciicast-v3")]
    format: Format,
    /// Put in what the user typed, too (asciicast)
    #[arg(long)]
    input: bool,
    /// Where to write; a file that exists is not overwritten
    #[arg(long, value_name = "FILE|-")]
    output: Option<PathBuf>,
    #[command(flatten)]
    channel: ChannelArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    AsciicastV3,
    AsciicastV2,
    Zip,
}

pub(super) fn export(args: &ExportArgs, console: &mut Console<'_>) -> anyhow::Result<ExitCode> {
    let key = read_private_key(&args.key)?;
    let channel = args.channel.find(&key)?;
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let reading = match (args.format, output) {
        (Format::Zip, None) if console.out_is_terminal => bail!("a zip file is not written to a terminal"),
        (Format::Zip, None) => {
            let zip = ZipWriter::new_stream(&mut *console.out);
            write_zip(&channel.log, &key, &channel.header, zip)?
        }
        (Format::Zip, Some(path)) => write_file(path, |file| {
            Ok(write_zip(&channel.log, &key, &channel.header, ZipWriter::new(file))?)
        })?,
        (Format::AsciicastV2 | Format::AsciicastV3, _) => {
            let version = if args.format == Format::AsciicastV2 { Version::V2 } else { Version::V3 };
            let (timeline, mut problems) = timeline(&channel, &key);
            let cast = Cast::new(&channel, &key, timeline, version, args.input)?;
            let Console { out, err, err_is_terminal, .. } = console;
            let mut progress = Progress::new("bytes", *err_is_terminal && output.is_some());
            let reading = match output {
                None => cast.write(&mut BufWriter::new(out), &mut |_, _| Ok(())),
                Some(path) => {
                    write_file(path, |file| cast.write(file, &mut |done, all| progress.at(done, all, err)))
                }
            };
            progress.clear(console.err)?;
            problems.extend(reading?.damage.iter().map(ToString::to_string));
            return told(&problems, console);
        }
    };
    told(&reading.damage.iter().map(ToString::to_string).collect::<Vec<_>>(), console)
}

/// The marks of a channel; without them it can be exported all the same.
pub(super) fn timeline(channel: &Channel, key: &RecipientPrivateKey) -> (Timeline, Vec<String>) {
    let (Some(events), Some(number)) = (&channel.events, channel.number) else {
        return (Timeline::default(), Vec::new());
    };
    match Timeline::read(events, number, key) {
        Ok(timeline) => {
            let problems = timeline.damage.iter().map(ToString::to_string).collect();
            (timeline, problems)
        }
        Err(error) => (Timeline::default(), vec![format!("{:#}", anyhow::Error::from(error))]),
    }
}

fn told(problems: &[String], console: &mut Console<'_>) -> anyhow::Result<ExitCode> {
    console.out.flush()?;
    for problem in problems {
        console.problem(&format!("{problem}; what is intact was exported"))?;
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What an asciicast is made of.
struct Cast<'a> {
    channel: &'a Channel,
    pty: &'a PtyHeader,
    key: &'a RecipientPrivateKey,
    timeline: Timeline,
    version: Version,
    input: bool,
}

impl<'a> Cast<'a> {
    fn new(
        channel: &'a Channel,
        key: &'a RecipientPrivateKey,
        timeline: Timeline,
        version: Version,
        input: bool,
    ) -> anyhow::Result<Self> {
        let Some(pty) = &channel.header.pty else {
            bail!(
                "{} is no recording of a terminal; --format zip shows what is in it",
                channel.log.path.display()
            );
        };
        Ok(Self { channel, pty, key, timeline, version, input })
    }

    /// Writes it, and tells how much of the data is done.
    fn write(
        self,
        out: &mut dyn Write,
        at: &mut dyn FnMut(u64, u64) -> io::Result<()>,
    ) -> anyhow::Result<LogReading> {
        let (mut cast, first) = Asciicast::begin(self.version, &self.head());
        write_line(out, &first)?;
        let mut marks = self.timeline.marks.into_iter().peekable();
        let (mut done, all) = (0, self.channel.header.data_size);
        let opened = self.timeline.opened;
        let reading = self.channel.log.read(self.key, |packet| {
            write_marks(out, &mut cast, (&mut marks, packet.elapsed), opened)?;
            let event = match packet.source {
                Source::Target => Event::Output(packet.data),
                Source::Client if self.input => Event::Input(packet.data),
                Source::Client => return Ok(()),
            };
            done += packet.data.len() as u64;
            at(done, all)?;
            cast.event(packet.elapsed.saturating_sub(opened), event)
                .map_or(Ok(()), |line| write_line(out, &line))
        })?;
        write_marks(out, &mut cast, (&mut marks, u64::MAX), opened)?;
        for line in cast.end() {
            write_line(out, &line)?;
        }
        out.flush()?;
        Ok(reading)
    }

    fn head(&self) -> Header {
        let session = &self.timeline.session;
        let title = match (&session.email, &session.login, &session.hostname) {
            (Some(email), Some(login), Some(hostname)) => Some(format!("{email}: {login}@{hostname}")),
            _ => None,
        };
        Header {
            columns: self.pty.width,
            rows: self.pty.height,
            term: self.pty.term.clone(),
            timestamp: self.channel.header.started_at.saturating_add(self.timeline.opened / 1_000_000),
            title,
        }
    }
}

/// Writes the marks before a time, in a recording that begins when the channel was opened.
fn write_marks(
    out: &mut dyn Write,
    cast: &mut Asciicast,
    (marks, until): (&mut Peekable<impl Iterator<Item = Mark>>, u64),
    opened: u64,
) -> io::Result<()> {
    while let Some(mark) = marks.next_if(|mark| mark.elapsed < until) {
        let event = match &mark.what {
            What::Command(name) => Event::Marker(name),
            What::Resize(columns, rows) => Event::Resize(*columns, *rows),
            What::Exit(status) => Event::Exit(*status),
        };
        if let Some(line) = cast.event(mark.elapsed.saturating_sub(opened), event) {
            write_line(out, &line)?;
        }
    }
    Ok(())
}

/// JSON has its control characters as escapes, but for those above U+007E.
fn write_line(out: &mut dyn Write, line: &str) -> io::Result<()> {
    writeln!(out, "{}", without_controls(line))
}
