//! Verifying: whether recordings are as the gateway closed them, and whether any are missing.
//!
//! Works on a spool, on a shipped copy and on one session, with public keys alone; the recipient's private
//! key opens every block besides. Nothing is changed. Sessions are verified on all cores, each with little
//! memory; of each some hundred bytes stay, for the chain. What a directory holds is not trusted: names are
//! shown without control characters, and only regular files are opened.

mod chains;
mod entries;
mod opening;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use portreeve_core::envelope::RecipientPrivateKey;
use portreeve_core::manifest::{Manifest, TrustedKeys};
use serde_json::json;

use super::Console;
use super::location::{BucketArgs, Entry, Kind, Location};
use super::progress::Progress;
use super::recipient::read_private_key;
use crate::audit;
use crate::cli::print::without_controls;
use chains::Chains;
use session::{State, Verdict, Verifier};

/// Sessions whose verdicts may wait for one that takes long.
const AHEAD: usize = 64;

/// A gateway that runs renames directories while they are listed: so often what is missing is looked for again.
const ROUNDS: usize = 4;

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(250);

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portreeve logs verify --audit-key audit_key.pub /mnt/archive/spool
  portreeve logs verify --audit-key audit_key.pub --head head.json --json spool
  portreeve logs verify --audit-key audit_key.pub --key recipient spool/1763754158123-5f0c...

The audit key is what `portreeve audit-key show` prints on the gateway. Exit status 0 means that everything is
there and as it was; sessions that are being written do not count. Of one session the chain is not judged.
What is removed after the newest head does not show: keep a head elsewhere (`portreeve audit-key head`).")]
pub struct VerifyArgs {
    /// File of audit keys that are trusted, one a line; without it, those of the state directory
    #[arg(long, value_name = "FILE")]
    audit_key: Vec<PathBuf>,
    /// The gateway's state directory, where no audit key is given
    #[arg(long, value_name = "DIR", default_value = "/var/lib/portreeve", conflicts_with = "audit_key")]
    state_dir: PathBuf,
    /// File of the recipient's private key: opens every block, and compares what headers claim
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A signed head that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    head: Vec<PathBuf>,
    /// Number that chains begin with, where what is before it was deleted on purpose
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    from: u64,
    #[command(flatten)]
    bucket: BucketArgs,
    /// A spool, a shipped copy of one, or one session
    #[arg(value_name = "DIR|s3://BUCKET/PREFIX")]
    directory: PathBuf,
}

/// What was verified so far.
#[derive(Default)]
struct Tally {
    intact: u64,
    being_written: u64,
    faulty: u64,
    bytes: u64,
}

pub(super) fn verify(args: &VerifyArgs, console: &mut Console<'_>) -> anyhow::Result<ExitCode> {
    let mut chains = Chains::new(trusted(args)?);
    let private_key = args.key.as_deref().map(read_private_key).transpose()?;
    let directory = args.bucket.locate(&args.directory)?;
    let unreadable = || format!("cannot read {}", args.directory.display());
    if !directory.is_dir().with_context(unreadable)? {
        bail!("{} is no directory", args.directory.display());
    }
    if is_session(&directory).with_context(unreadable)? {
        return verify_one(args, &directory, &chains, private_key.as_ref(), console);
    }
    chains.read_heads(&directory, &args.head).with_context(unreadable)?;
    let trusted = chains.trusted().clone();
    let verifier = Verifier { root: &directory, trusted: &trusted, private_key: private_key.as_ref() };
    let mut tally = Tally::default();
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            thread::sleep(PAUSE);
        }
        let names = session_names(&directory).with_context(unreadable)?;
        let new: Vec<OsString> = names.into_iter().filter(|name| !seen.contains(name)).collect();
        let mut progress = Progress::new("sessions", console.err_is_terminal);
        let (mut done, all) = (0, new.len() as u64);
        let vanished = verify_all(&verifier, &new, |verdict| {
            tally.add(&verdict);
            chains.add(&verdict);
            progress.clear(console.err)?;
            report(&verdict, console)?;
            done += 1;
            progress.at(done, all, console.err)
        })?;
        progress.clear(console.err)?;
        seen.extend(new.into_iter().filter(|name| !vanished.contains(name)));
        chains.read_deletions(&directory).with_context(unreadable)?;
        findings = chains.findings(args.from);
        if findings.is_empty() && vanished.is_empty() {
            break;
        }
    }
    for finding in &findings {
        if console.json {
            writeln!(console.out, "{}", finding.to_json())?;
        } else {
            writeln!(console.out, "{:<15}{finding}", "chain")?;
        }
    }
    tally.report(&chains, findings.len(), console)?;
    let whole = findings.is_empty() && tally.faulty == 0;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One session alone: its files and its signature, and not its place in the chain.
fn verify_one(
    args: &VerifyArgs,
    directory: &Location,
    chains: &Chains,
    private_key: Option<&RecipientPrivateKey>,
    console: &mut Console<'_>,
) -> anyhow::Result<ExitCode> {
    let directory = directory.canonical().with_context(|| format!("cannot read {directory}"))?;
    let root = &directory.parent();
    let mut chains = chains.clone();
    // A key that took over from a given one is known by the spool that the session lies in.
    chains.read_heads(root, &args.head).with_context(|| format!("cannot read {root}"))?;
    let verifier = Verifier { root, trusted: chains.trusted(), private_key };
    let name = directory.file_name().unwrap_or_default();
    let verdict = verifier.verify(name).with_context(|| format!("{directory} is gone"))?;
    report(&verdict, console)?;
    Ok(if verdict.state() == State::Faulty { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn trusted(args: &VerifyArgs) -> anyhow::Result<TrustedKeys> {
    let mut trusted = TrustedKeys::default();
    for path in &args.audit_key {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the audit key {}", path.display()))?;
        trusted.add_lines(&text).with_context(|| format!("{} holds no audit key", path.display()))?;
    }
    if args.audit_key.is_empty() {
        let keys = audit::public_keys(&args.state_dir)
            .context("no --audit-key is given, and there is none in the state directory")?;
        for key in keys {
            trusted.add(key);
        }
    }
    if trusted.is_empty() {
        bail!("no audit key is given: `portreeve audit-key show` prints it on the gateway");
    }
    Ok(trusted)
}

fn is_session(directory: &Location) -> std::io::Result<bool> {
    Ok(directory.join(Manifest::FILE).exists()? || directory.join("events.log").exists()?)
}

/// Names of directories that are sessions', in order: they begin with a number.
fn session_names(root: &Location) -> std::io::Result<Vec<OsString>> {
    let entries = root.entries()?.into_iter();
    let sessions = entries.filter(|Entry { name, kind }| {
        *kind == Kind::Directory && name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
    });
    let mut names: Vec<OsString> = sessions.map(|entry| entry.name).collect();
    names.sort_unstable();
    Ok(names)
}

/// Verifies sessions on all cores and passes on what was found in their order; returns those that were gone
/// when their turn came.
fn verify_all(
    verifier: &Verifier<'_>,
    names: &[OsString],
    mut found: impl FnMut(Verdict) -> std::io::Result<()>,
) -> std::io::Result<BTreeSet<OsString>> {
    let cores = thread::available_parallelism().map_or(1, usize::from).min(names.len().max(1));
    let next = AtomicUsize::new(0);
    let mut vanished = BTreeSet::new();
    thread::scope(|scope| {
        let (sender, verdicts) = sync_channel(AHEAD);
        for _ in 0..cores {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(name) = names.get(index) else { return };
                    if sender.send((index, verifier.verify(name))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (index, verdict) in verdicts {
            early.insert(index, verdict);
            while let Some(verdict) = early.remove(&due) {
                match (verdict, names.get(due)) {
                    (Some(verdict), _) => found(verdict)?,
                    (None, name) => vanished.extend(name.cloned()),
                }
                due += 1;
            }
        }
        Ok(vanished)
    })
}

fn report(verdict: &Verdict, console: &mut Console<'_>) -> std::io::Result<()> {
    if console.json {
        return writeln!(console.out, "{}", verdict.to_json());
    }
    let name = without_controls(&verdict.name);
    if verdict.problems.is_empty() {
        let note = verdict.note().map(|note| format!("  ({note})")).unwrap_or_default();
        return writeln!(console.out, "{:<15}{name}{note}", verdict.state().word());
    }
    for problem in &verdict.problems {
        let file = problem.file.as_ref().map(|file| format!("{}: ", without_controls(file)));
        let (kind, text) = (problem.kind.word(), without_controls(&problem.text));
        writeln!(console.out, "{kind:<15}{name}: {}{text}", file.unwrap_or_default())?;
    }
    Ok(())
}

impl Tally {
    fn add(&mut self, verdict: &Verdict) {
        self.bytes += verdict.bytes;
        match verdict.state() {
            State::Intact => self.intact += 1,
            State::BeingWritten => self.being_written += 1,
            State::Faulty => self.faulty += 1,
        }
    }

    fn report(&self, chains: &Chains, problems: usize, console: &mut Console<'_>) -> std::io::Result<()> {
        let Self { intact, being_written, faulty, bytes } = self;
        let deleted = chains.deleted();
        if console.json {
            let summary = json!({
                "intact": intact, "being_written": being_written, "faulty": faulty, "deleted": deleted,
                "bytes": bytes, "chain_problems": problems,
            });
            return writeln!(console.out, "{}", json!({ "verified": summary }));
        }
        writeln!(
            console.err,
            "{intact} intact, {faulty} faulty, {being_written} being written, {deleted} deleted after shipping; \
             {problems} problems of the chain; {bytes} bytes"
        )
    }
}
