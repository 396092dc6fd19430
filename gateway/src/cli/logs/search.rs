//! `portreeve logs search`: text in commands, files, users, alerts and output, over all sessions below a directory.
//!
//! Decrypts here, session by session, and keeps no plaintext.

mod texts;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use portreeve_core::envelope::{LogName, RecipientPrivateKey};
use portreeve_core::record::{ChannelNumber, SessionSummary, Source};
use portreeve_core::utc::UtcTime;
use regex::{Regex, RegexBuilder};
use serde::Serialize;

use self::texts::{Place, texts};
use super::Console;
use super::archive::SessionDirectory;
use super::filter::FilterArgs;
use super::lines::read_events;
use super::location::BucketArgs;
use super::ls::find;
use super::plain_text::PlainText;
use super::recipient::read_private_key;
use super::segments::{Log, LogReading, logs_in};
use super::workers::{self, Report, Stopped};
use crate::cli::print::without_controls;

/// Characters of a line that people are shown; machines get it whole.
const SHOWN: usize = 400;

/// Arguments of `search`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portreeve logs search --key recipient 'rm -rf' spool/
  portreeve logs search --key recipient --regex 'curl .*\\| *(ba)?sh' --since 7d spool/
  portreeve logs search --key recipient --in output --user alice 'Permission denied' spool/

Output is what programs printed, line by line, without colours and cursor movements. It is searched only where it is
asked for, since all of it has to be decrypted.")]
pub struct SearchArgs {
    /// File of the recipient's private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to look
    #[arg(long = "in", value_name = "PLACE", value_delimiter = ',', default_values = ["commands", "files", "users", "alerts"])]
    places: Vec<PlaceArg>,
    /// The text is a regular expression
    #[arg(long)]
    regex: bool,
    /// Upper and lower case are the same
    #[arg(long, short)]
    ignore_case: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// What to look for
    #[arg(value_name = "TEXT")]
    text: String,
    #[command(flatten)]
    bucket: BucketArgs,
    /// A spool, a copy of one, or the directory of a session
    #[arg(value_name = "DIR|s3://BUCKET/PREFIX")]
    directory: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PlaceArg {
    Commands,
    Files,
    Users,
    Alerts,
    Output,
    All,
}

/// What is looked for, where.
struct Search<'a> {
    pattern: Regex,
    places: Vec<Place>,
    key: RecipientPrivateKey,
    filter: &'a FilterArgs,
    json: bool,
}

#[derive(Serialize)]
struct Match<'a> {
    session: &'a str,
    directory: String,
    time: String,
    elapsed_us: u64,
    user: Option<&'a str>,
    login: Option<&'a str>,
    hostname: Option<&'a str>,
    channel: Option<u32>,
    r#in: Place,
    text: &'a str,
}

/// A session, and what is known of it.
type Subject<'a> = (&'a SessionDirectory, &'a SessionSummary);

/// Where in a session a text stands.
#[derive(Clone, Copy)]
struct Position {
    channel: Option<u32>,
    elapsed_us: u64,
    place: Place,
}

pub(super) fn search(args: &SearchArgs, console: &mut Console<'_>) -> anyhow::Result<ExitCode> {
    let pattern = if args.regex { args.text.clone() } else { regex::escape(&args.text) };
    let pattern = RegexBuilder::new(&pattern).case_insensitive(args.ignore_case).build();
    let search = Search {
        pattern: pattern.context("the regular expression is none")?,
        places: args.places.iter().flat_map(|place| place.places()).copied().collect(),
        key: read_private_key(&args.key)?,
        filter: &args.filter,
        json: console.json,
    };
    let (sessions, all_listed) = find(&args.bucket.locate(&args.directory)?, &args.filter, console)?;
    let is_good =
        workers::in_order(&sessions, console, "sessions", |session, report| search.session(session, report))?;
    Ok(if is_good && all_listed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl PlaceArg {
    const fn places(self) -> &'static [Place] {
        match self {
            Self::Commands => &[Place::Commands],
            Self::Files => &[Place::Files],
            Self::Users => &[Place::Users],
            Self::Alerts => &[Place::Alerts],
            Self::Output => &[Place::Output],
            Self::All => &[Place::Commands, Place::Files, Place::Users, Place::Alerts, Place::Output],
        }
    }
}

impl Search<'_> {
    fn session(&self, session: &SessionDirectory, report: &mut Report<'_>) -> Result<(), Stopped> {
        let logs = match logs_in(&session.path, &self.key) {
            Ok(logs) => logs,
            Err(error) => {
                report.problem(format!("cannot read {}: {error}", session.path.display()));
                return Ok(());
            }
        };
        let summary = self.events(session, &logs, report)?;
        if !self.places.contains(&Place::Output) || !self.filter.admits(&summary) {
            return Ok(());
        }
        for (name, log) in &logs {
            if let LogName::Channel(channel) = name {
                self.output((session, &summary), (*channel, log), report)?;
            }
        }
        Ok(())
    }

    /// Searches the events; what they say of the session, as far as it is known by the first of them.
    fn events(
        &self,
        session: &SessionDirectory,
        logs: &BTreeMap<LogName, Log>,
        report: &mut Report<'_>,
    ) -> Result<SessionSummary, Stopped> {
        let mut summary = SessionSummary::default();
        let Some(events) = logs.get(&LogName::Events) else {
            report.problem(format!("{} has no events", session.path.display()));
            return Ok(summary);
        };
        let mut told = Ok(());
        let read = read_events(events, &self.key, |line, value| {
            if let Some(line) = line {
                summary.add(line);
            }
            if told.is_err() || !self.filter.admits(&summary) {
                return;
            }
            let (elapsed_us, channel) = (value["elapsed_us"].as_u64(), value["channel"].as_u64());
            let channel = channel.and_then(|channel| u32::try_from(channel).ok());
            for (place, text) in texts(value) {
                let position = Position { channel, elapsed_us: elapsed_us.unwrap_or(0), place };
                if told.is_ok() && self.places.contains(&place) {
                    told = self.look((session, &summary), position, &text, report);
                }
            }
        });
        told.and_then(|()| problems(read.map_err(anyhow::Error::from), report))?;
        Ok(summary)
    }

    /// Searches what the programs of a channel printed.
    fn output(
        &self,
        subject: Subject<'_>,
        (ChannelNumber(channel), log): (ChannelNumber, &Log),
        report: &mut Report<'_>,
    ) -> Result<(), Stopped> {
        // Each of output and errors has lines of its own.
        let mut streams: BTreeMap<u32, PlainText> = BTreeMap::new();
        let mut elapsed_us = 0;
        let mut told = Ok(());
        let position = |elapsed_us| Position { channel: Some(channel), elapsed_us, place: Place::Output };
        let read = log.read(&self.key, |packet| {
            if packet.source == Source::Client {
                return Ok(());
            }
            elapsed_us = packet.elapsed;
            // RFC 4254 section 5.2 has one code; a target that makes up others cannot make up streams.
            for line in streams.entry(packet.code.min(2)).or_default().add(packet.data) {
                if told.is_ok() {
                    told = self.look(subject, position(elapsed_us), &line, report);
                }
            }
            if told.is_ok() { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
        told?;
        for line in streams.values_mut().filter_map(PlainText::rest) {
            self.look(subject, position(elapsed_us), &line, report)?;
        }
        problems(read.map_err(anyhow::Error::from), report)
    }

    fn look(
        &self,
        (session, summary): Subject<'_>,
        position: Position,
        text: &str,
        report: &mut Report<'_>,
    ) -> Result<(), Stopped> {
        let Some(found) = self.pattern.find(text) else { return Ok(()) };
        let time = session.started.after(std::time::Duration::from_micros(position.elapsed_us));
        let found_at = Match {
            session: &session.id,
            directory: session.path.to_string(),
            time: time.to_string(),
            elapsed_us: position.elapsed_us,
            user: summary.email.as_deref(),
            login: summary.login.as_deref(),
            hostname: summary.hostname.as_deref(),
            channel: position.channel,
            r#in: position.place,
            text,
        };
        if self.json {
            return report.line(&serde_json::to_string(&found_at).unwrap_or_default());
        }
        report.line(&without_controls(&found_at.line(time, around(text, found.range()))))
    }
}

impl Match<'_> {
    fn line(&self, time: UtcTime, text: &str) -> String {
        let time = time.to_seconds_text().replace("+00", "");
        let [user, login, hostname] = [self.user, self.login, self.hostname].map(|fact| fact.unwrap_or("?"));
        let channel = self.channel.map(|channel| format!(" #{channel}")).unwrap_or_default();
        format!("{time} {} {user} {login}@{hostname}{channel} {}: {text}", self.session, self.r#in.name())
    }
}

/// The part of a line that people are shown.
fn around(text: &str, found: std::ops::Range<usize>) -> &str {
    if text.len() <= SHOWN {
        return text;
    }
    let start = text.floor_char_boundary(found.start.saturating_sub(SHOWN / 4));
    let end = text.floor_char_boundary(text.len().min(start + SHOWN));
    text.get(start..end).unwrap_or(text)
}

fn problems(read: anyhow::Result<LogReading>, report: &mut Report<'_>) -> Result<(), Stopped> {
    match read {
        Ok(reading) => reading.damage.iter().for_each(|damage| report.problem(damage.to_string())),
        Err(error) => report.problem(format!("{error:#}")),
    }
    Ok(())
}
