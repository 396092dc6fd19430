//! `portreeve logs ls`: the sessions below a directory.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use portreeve_core::envelope::{LogName, RecipientPrivateKey};
use portreeve_core::record::SessionSummary;
use serde::Serialize;

use super::Console;
use super::archive::{self, SessionDirectory};
use super::filter::FilterArgs;
use super::lines::read_events;
use super::location::{BucketArgs, Location};
use super::recipient::read_private_key;
use super::segments::logs_in;
use super::workers::{self, Report, Stopped};
use crate::cli::print::without_controls;

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portreeve logs ls /var/lib/portreeve/spool
  portreeve logs ls --key recipient --user alice --since 7d spool/

Without --key it says when sessions started and how large they are; all else is sealed. DIR may hold the
directories of sessions some levels down, as shipped copies do.")]
pub struct LsArgs {
    /// File of the recipient's private key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    bucket: BucketArgs,
    /// A spool, a copy of one, or the directory of a session
    #[arg(value_name = "DIR|s3://BUCKET/PREFIX")]
    directory: PathBuf,
}

#[derive(Serialize)]
struct Row {
    session: String,
    started: String,
    directory: PathBuf,
    size_bytes: u64,
    unfinished: bool,
    #[serde(flatten)]
    inside: Option<Inside>,
}

/// What takes the key.
#[derive(Serialize)]
struct Inside {
    duration_ms: u64,
    user: Option<String>,
    login: Option<String>,
    client: Option<String>,
    target: Option<String>,
    hostname: Option<String>,
    channels: u64,
    commands: u64,
    refused: u64,
    client_bytes: u64,
    target_bytes: u64,
    ended: Option<String>,
}

pub(super) fn ls(args: &LsArgs, console: &mut Console<'_>) -> anyhow::Result<ExitCode> {
    let key = args.key.as_deref().map(read_private_key).transpose()?;
    if key.is_none() && args.filter.needs_key() {
        bail!("users, targets and logins are sealed: --key is needed to ask for them");
    }
    let (sessions, mut is_good) = find(&args.bucket.locate(&args.directory)?, &args.filter, console)?;
    if !console.json {
        writeln!(console.out, "{}", head(key.is_some()))?;
    }
    let json = console.json;
    is_good &= workers::in_order(&sessions, console, "sessions", |session, report| {
        list(session, key.as_ref(), &args.filter, json, report)
    })?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The sessions below `directory` that started when `filter` says, and whether all of it could be listed.
pub(super) fn find(
    directory: &Location,
    filter: &FilterArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<(Vec<SessionDirectory>, bool)> {
    let (mut sessions, unlisted) =
        archive::sessions(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for (path, error) in &unlisted {
        console.problem(&format!("cannot read {}: {error}", path.display()))?;
    }
    if sessions.is_empty() && unlisted.is_empty() {
        bail!(
            "no session is below {}: their directories are named <started>-<session id>",
            directory.display()
        );
    }
    sessions.retain(|session| filter.is_in_time(session.started));
    Ok((sessions, unlisted.is_empty()))
}

fn list(
    session: &SessionDirectory,
    key: Option<&RecipientPrivateKey>,
    filter: &FilterArgs,
    json: bool,
    report: &mut Report<'_>,
) -> Result<(), Stopped> {
    let summary = key.map(|key| summary(session, key, report));
    if summary.as_ref().is_some_and(|summary| !filter.admits(summary)) {
        return Ok(());
    }
    let size_bytes = session.size().unwrap_or_else(|error| {
        report.problem(format!("cannot read {}: {error}", session.path.display()));
        0
    });
    let row = Row {
        session: session.id.clone(),
        started: session.started.to_string(),
        directory: session.path.to_path(),
        size_bytes,
        unfinished: session.is_unfinished,
        inside: summary.map(Inside::from),
    };
    if json {
        return report.line(&serde_json::to_string(&row).unwrap_or_default());
    }
    report.line(&without_controls(&row.text(session)))
}

/// What the events of a session say; problems are told.
pub(super) fn summary(
    session: &SessionDirectory,
    key: &RecipientPrivateKey,
    report: &mut Report<'_>,
) -> SessionSummary {
    let mut summary = SessionSummary::default();
    let logs = logs_in(&session.path, key);
    let events = logs.as_ref().map(|logs| logs.get(&LogName::Events));
    let read = match events {
        Ok(Some(events)) => read_events(events, key, |line, _| {
            if let Some(line) = line {
                summary.add(line);
            }
        }),
        Ok(None) => {
            report.problem(format!("{} has no events", session.path.display()));
            return summary;
        }
        Err(error) => {
            report.problem(format!("cannot read {}: {error}", session.path.display()));
            return summary;
        }
    };
    match read {
        Ok(reading) => reading.damage.iter().for_each(|damage| report.problem(damage.to_string())),
        Err(error) => report.problem(format!("{:#}", anyhow::Error::from(error))),
    }
    summary
}

impl From<SessionSummary> for Inside {
    fn from(summary: SessionSummary) -> Self {
        Self {
            duration_ms: summary.elapsed_us / 1_000,
            user: summary.email,
            login: summary.login,
            client: summary.client,
            target: summary.target,
            hostname: summary.hostname,
            channels: summary.channels,
            commands: summary.commands,
            refused: summary.refused,
            client_bytes: summary.client_bytes,
            target_bytes: summary.target_bytes,
            ended: summary.ended,
        }
    }
}

fn head(with_key: bool) -> String {
    let outside = format!("{:<20} {:<36} {:>9}", "STARTED (UTC)", "SESSION", "SIZE");
    if !with_key {
        return format!("{outside}  STATE");
    }
    format!(
        "{outside} {:>9} {:<24} {:<12} {:<24} {:>4} {:>5}  ENDED",
        "LASTED", "USER", "LOGIN", "TARGET", "CHAN", "CMDS"
    )
}

impl Row {
    fn text(&self, session: &SessionDirectory) -> String {
        let started = session.started.to_seconds_text().replace("+00", "");
        let outside = format!("{started:<20} {:<36} {:>9}", self.session, bytes(self.size_bytes));
        let state = if self.unfinished { "not finished" } else { "finished" };
        let Some(inside) = &self.inside else { return format!("{outside}  {state}") };
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        let target = inside.hostname.as_ref().or(inside.target.as_ref()).cloned();
        format!(
            "{outside} {:>9} {:<24} {:<12} {:<24} {:>4} {:>5}  {}",
            duration(Duration::from_millis(inside.duration_ms)),
            or_unknown(&inside.user),
            or_unknown(&inside.login),
            or_unknown(&target),
            inside.channels,
            inside.commands,
            inside.ended.as_deref().unwrap_or(if self.unfinished { state } else { "cut short" }),
        )
    }
}

/// A length of time for people: `7s`, `2m07s`, `3h02m`.
pub(super) fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

/// A number of bytes for people: `512`, `4.0K`, `1.5G`.
pub(super) fn bytes(number: u64) -> String {
    let mut tenths = u128::from(number) * 10;
    if number < 1024 {
        return number.to_string();
    }
    for unit in ["K", "M", "G", "T"] {
        tenths /= 1024;
        if tenths < 10_240 || unit == "T" {
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
    }
    number.to_string()
}
