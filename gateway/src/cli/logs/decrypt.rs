//! Decrypting: streams into zip files, events as JSON lines.
//!
//! Files that exist are never overwritten. A damaged file gives what is intact in it, and a problem on
//! standard error; the other files are decrypted all the same.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use portreeve_core::envelope::{Header, LogKind, RecipientPrivateKey};
use serde_json::json;
use zip::ZipWriter;

use super::Console;
use super::lines::Lines;
use super::location::{BucketArgs, Location};
use super::recipient::read_private_key;
use super::segments::{Log, LogReading, logs_in};
use super::text_files::write_zip;
use crate::cli::print::without_controls;

/// Arguments of `decrypt`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portreeve logs decrypt --key recipient events.log
  portreeve logs decrypt --key recipient --output session.zip channel-0.log
  portreeve logs decrypt --key recipient --output out/ spool/1763754158123-5f0c...

Events are printed as JSON lines. A channel becomes a zip: of a terminal with term_data.txt and
term_times.txt (scriptreplay --timing term_times.txt term_data.txt), else with data_from_client.txt and
data_from_server.txt. Without --output a zip is written beside its recording.")]
pub struct DecryptArgs {
    /// File of the recipient's private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to write: a zip file, a directory, or - for standard output
    #[arg(long, value_name = "FILE.zip|DIR|-")]
    output: Option<PathBuf>,
    #[command(flatten)]
    bucket: BucketArgs,
    /// Files of a recording, or directories of sessions; of this machine, or s3://BUCKET/PATH
    #[arg(required = true, value_name = "FILE|SESSION_DIR")]
    inputs: Vec<PathBuf>,
}

pub(super) fn decrypt(args: &DecryptArgs, console: &mut Console<'_>) -> anyhow::Result<ExitCode> {
    let private_key = read_private_key(&args.key)?;
    let mut outcome = ExitCode::SUCCESS;
    let mut recordings = Vec::new();
    for input in &args.inputs {
        match args.bucket.locate(input).and_then(|input| recordings_of(&input, &private_key)) {
            Ok(found) => recordings.extend(found),
            Err(error) => {
                console.problem(&format!("{error:#}"))?;
                outcome = ExitCode::FAILURE;
            }
        }
    }
    let destination = Destination::new(args.output.as_deref(), recordings.len())?;
    for recording in &recordings {
        let problem = match decrypt_one(recording, &private_key, &destination, console) {
            Ok(problem) => problem,
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(problem) = problem {
            console.problem(&problem)?;
            outcome = ExitCode::FAILURE;
        }
    }
    console.out.flush()?;
    Ok(outcome)
}

/// A log to decrypt, and the session directory it was found in.
struct Recording {
    log: Log,
    session: Option<PathBuf>,
    /// It is in a bucket.
    is_remote: bool,
}

/// Where plaintext goes.
enum Destination {
    Beside,
    Zip(PathBuf),
    Directory(PathBuf),
    Stdout,
}

impl Destination {
    fn new(output: Option<&Path>, recordings: usize) -> anyhow::Result<Self> {
        let Some(path) = output else { return Ok(Self::Beside) };
        let destination = if path == Path::new("-") {
            Self::Stdout
        } else if path.extension().is_some_and(|extension| extension == "zip") {
            Self::Zip(path.into())
        } else {
            return Ok(Self::Directory(path.into()));
        };
        if recordings > 1 {
            bail!("--output {} takes one recording, here are {recordings}; give a directory", path.display());
        }
        Ok(destination)
    }

    /// The file for what is in `recording`, with its directory made; `None` is standard output.
    fn file(&self, recording: &Recording, events: bool) -> anyhow::Result<Option<PathBuf>> {
        let directory = match self {
            Self::Stdout => return Ok(None),
            Self::Beside if events => return Ok(None),
            Self::Zip(path) => return Ok(Some(path.clone())),
            Self::Beside if recording.is_remote => {
                bail!("{}: nothing is written into a bucket; give --output", recording.log.path.display())
            }
            Self::Beside => {
                let mut path = recording.log.path.clone().into_os_string();
                path.push("-decrypted.zip");
                return Ok(Some(path.into()));
            }
            Self::Directory(directory) => directory,
        };
        let session = recording.session.as_deref().and_then(Path::file_name);
        let directory = session.map_or_else(|| directory.clone(), |session| directory.join(session));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.with_context(|| format!("cannot create {}", directory.display()))?;
        let mut name = recording.log.path.file_stem().unwrap_or_default().to_owned();
        name.push(if events { ".jsonl" } else { ".zip" });
        Ok(Some(directory.join(name)))
    }
}

fn recordings_of(input: &Location, private_key: &RecipientPrivateKey) -> anyhow::Result<Vec<Recording>> {
    let unreadable = || format!("cannot read {}", input.display());
    let is_remote = input.is_remote();
    if !input.is_dir().with_context(unreadable)? {
        return Ok(vec![Recording { log: Log::single(input), session: None, is_remote }]);
    }
    let logs = logs_in(input, private_key).with_context(unreadable)?;
    if logs.is_empty() {
        bail!("{} has no recordings (events.log, channel-0.log, ...)", input.display());
    }
    let session = Some(input.canonical().with_context(unreadable)?.path().to_owned());
    Ok(logs.into_values().map(|log| Recording { log, session: session.clone(), is_remote }).collect())
}

/// Decrypts one log and says what is wrong with it.
fn decrypt_one(
    recording: &Recording,
    private_key: &RecipientPrivateKey,
    destination: &Destination,
    console: &mut Console<'_>,
) -> anyhow::Result<Option<String>> {
    let log = &recording.log;
    let header = log.header(private_key)?;
    let as_lines = header.kind == Some(LogKind::Events) && !matches!(destination, Destination::Zip(_));
    let target = destination.file(recording, as_lines)?;
    if log.never_finished(&header) {
        let name = log.path.display();
        writeln!(console.err, "{name}: never finished; it ends where the gateway stopped writing")?;
    }
    let reading = match &target {
        None if as_lines => write_events(recording, private_key, &mut console.out)?,
        None if console.out_is_terminal => {
            bail!("{}: a zip file is not written to a terminal", log.path.display())
        }
        None => {
            let zip = ZipWriter::new_stream(&mut *console.out);
            write_zip(log, private_key, &header, zip)?
        }
        Some(path) => write_file(path, |file| {
            if as_lines {
                return write_events(recording, private_key, file);
            }
            Ok(write_zip(log, private_key, &header, ZipWriter::new(file))?)
        })?,
    };
    let shown =
        target.as_ref().map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    if let Some(path) = &target {
        report(recording, path, &header, &reading, console)?;
    }
    let damage: Vec<String> = reading.damage.iter().map(ToString::to_string).collect();
    Ok((!damage.is_empty()).then(|| format!("{}; what is intact was written to {shown}", damage.join("; "))))
}

/// Creates a file for plaintext; removes it again if it cannot be filled.
pub(super) fn write_file<T>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = match created {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{} exists and is not overwritten; remove it or give --output", path.display())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
    };
    let mut writer = BufWriter::new(file);
    let filled = fill(&mut writer).and_then(|reading| {
        writer.flush().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(reading)
    });
    if filled.is_err() {
        // The first error is the one to tell.
        drop(fs::remove_file(path));
    }
    filled
}

fn report(
    recording: &Recording,
    target: &Path,
    header: &Header,
    reading: &LogReading,
    console: &mut Console<'_>,
) -> io::Result<()> {
    let kind = match (header.kind, &header.pty) {
        (Some(LogKind::Events), _) => "events",
        (_, Some(_)) => "terminal",
        (_, None) => "streams",
    };
    if console.json {
        let written = json!({
            "file": recording.log.path,
            "output": target,
            "kind": kind,
            "packets": reading.packets,
            "finished": header.kind.is_some() && !recording.log.never_finished(header),
            "damage": reading.damage.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        return writeln!(console.out, "{}", json!({ "decrypted": written }));
    }
    writeln!(
        console.err,
        "{}: {kind}, {} packets -> {}",
        recording.log.path.display(),
        reading.packets,
        target.display()
    )
}

fn write_events(
    recording: &Recording,
    private_key: &RecipientPrivateKey,
    out: &mut dyn Write,
) -> anyhow::Result<LogReading> {
    let mut lines = Lines::default();
    let reading =
        recording.log.read(private_key, |packet| lines.add(packet.data, |line| write_line(out, line)))?;
    lines.rest().map_or(Ok(()), |line| write_line(out, &line)).context("cannot write what was decrypted")?;
    Ok(reading)
}

/// Anyone who has the public key can make a file that opens, so a line is not trusted to be one of JSON; whatever is
/// none becomes one.
fn write_line(out: &mut dyn Write, line: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(line);
    let line = match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        // JSON has raw control characters below U+0020 only between its tokens.
        Ok(_) => text.replace(|character| character < ' ', " "),
        Err(_) => json!({ "malformed": text }).to_string(),
    };
    writeln!(out, "{}", without_controls(&line))
}
