//! Verifying one session's directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};

use portreeve_core::envelope::RecipientPrivateKey;
use portreeve_core::manifest::{
    ChainId, DocumentError, Ended, FileEntry, FileFault, Link, Manifest, Signed, TrustedKeys, read,
};
use serde_json::{Value, json};

use super::entries::recordings;
use super::opening::check_contents;
use crate::audit::scan_file;
use crate::cli::logs::location::{Location, open_regular};

/// Verifies the sessions below one directory.
pub(super) struct Verifier<'a> {
    pub(super) root: &'a Location,
    pub(super) trusted: &'a TrustedKeys,
    pub(super) private_key: Option<&'a RecipientPrivateKey>,
}

/// What was found of a session.
pub(super) struct Verdict {
    pub(super) name: String,
    pub(super) problems: Vec<Problem>,
    /// Bytes of its files that were read.
    pub(super) bytes: u64,
    /// Its place in the chain, if its manifest counts.
    pub(super) link: Option<(ChainId, Link)>,
    ended: Option<Ended>,
    files: usize,
    /// Files whose blocks were opened.
    opened: usize,
    being_written: bool,
}

/// One thing that is not as it should be.
pub(super) struct Problem {
    pub(super) kind: ProblemKind,
    /// The file in the session's directory; `None` is the directory itself.
    pub(super) file: Option<String>,
    pub(super) text: String,
}

/// What kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProblemKind {
    /// The end of a file is not there.
    Cut,
    /// A file is not there.
    Missing,
    /// A file, a manifest or the directory's name is not what it was.
    Altered,
    /// A file that the manifest does not name.
    Added,
    /// The manifest is signed by a key that is not trusted.
    UnknownKey,
    /// The recording was never closed.
    NeverFinished,
    /// A file cannot be read.
    Unreadable,
}

/// A session in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As it was closed.
    Intact,
    /// A gateway writes it just now.
    BeingWritten,
    /// Anything else.
    Faulty,
}

impl Verifier<'_> {
    /// Verifies the session in the directory `name`; `None` if that is gone.
    pub(super) fn verify(&self, name: &OsStr) -> Option<Verdict> {
        let directory = self.root.join(name);
        let mut verdict = Verdict::new(name);
        if directory.path().extension().is_some_and(|extension| extension == "part") {
            match is_being_written(self.root, &directory) {
                Ok(true) => verdict.being_written = true,
                Ok(false) => {
                    let text = "its recording was never closed; the next start of the gateway closes it";
                    verdict.problem(ProblemKind::NeverFinished, None, text);
                }
                Err(error) => verdict.unreadable(None, &error),
            }
        } else if let Some(manifest) = self.manifest(&directory, &mut verdict) {
            self.compare(&directory, &manifest, &mut verdict);
        }
        match directory.is_dir() {
            Ok(is_there) => is_there.then_some(verdict),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                verdict.unreadable(None, &error);
                Some(verdict)
            }
        }
    }

    fn manifest(&self, directory: &Location, verdict: &mut Verdict) -> Option<Signed<Manifest>> {
        let document = match read_bounded(&directory.join(Manifest::FILE)) {
            Ok(document) => document,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                verdict.problem(
                    ProblemKind::Missing,
                    Some(Manifest::FILE),
                    "it is not there: the session may still go on where this is a copy",
                );
                return None;
            }
            Err(error) => {
                verdict.unreadable(Some(Manifest::FILE), &error);
                return None;
            }
        };
        match read(&document, self.trusted) {
            Ok(manifest) => Some(manifest),
            Err(error) => {
                let kind = match error {
                    DocumentError::UnknownKey(_) => ProblemKind::UnknownKey,
                    DocumentError::Shape
                    | DocumentError::Signature
                    | DocumentError::Version(_)
                    | DocumentError::Content(_)
                    | DocumentError::Encode => ProblemKind::Altered,
                };
                verdict.problem(kind, Some(Manifest::FILE), &error.to_string());
                None
            }
        }
    }

    fn compare(&self, directory: &Location, signed: &Signed<Manifest>, verdict: &mut Verdict) {
        let manifest = &signed.content;
        let Manifest { sequence, previous, .. } = *manifest;
        verdict.link =
            Some((manifest.chain, Link { sequence, manifest: signed.sha256, previous: Some(previous) }));
        verdict.ended = Some(manifest.ended);
        verdict.files = manifest.files.len();
        if manifest.directory != verdict.name {
            let text = format!("the directory was renamed: it was {}", manifest.directory);
            verdict.problem(ProblemKind::Altered, None, &text);
        }
        for entry in &manifest.files {
            self.compare_file(directory, entry, verdict);
        }
        let known: BTreeSet<&str> = manifest.files.iter().map(|entry| entry.path.as_str()).collect();
        match recordings(directory) {
            Ok(paths) => {
                for path in paths.iter().filter(|path| !known.contains(path.as_str())) {
                    verdict.problem(ProblemKind::Added, Some(path), "the manifest does not name it");
                }
            }
            Err(error) => verdict.unreadable(None, &error),
        }
    }

    fn compare_file(&self, directory: &Location, entry: &FileEntry, verdict: &mut Verdict) {
        let file = Some(entry.path.as_str());
        if !entry.path_is_safe() {
            return verdict.problem(ProblemKind::Altered, file, "its path leads out of the directory");
        }
        let path = directory.join(&entry.path);
        let facts = match path.open_regular().and_then(|mut file| scan_file(&mut file)) {
            Ok(facts) => facts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return verdict.problem(ProblemKind::Missing, file, "it is not there");
            }
            Err(error) => return verdict.unreadable(file, &error),
        };
        verdict.bytes += facts.size;
        for fault in entry.compare(&facts) {
            let kind = match fault {
                FileFault::Cut { .. } => ProblemKind::Cut,
                FileFault::Grown { .. } | FileFault::Header | FileFault::Blocks => ProblemKind::Altered,
            };
            verdict.problem(kind, file, &fault.to_string());
        }
        let own = self.private_key.filter(|key| entry.recipient == Some(key.recipient_key().id()));
        if let Some(private_key) = own {
            verdict.opened += 1;
            for problem in check_contents(&path, entry, private_key) {
                verdict.problem(ProblemKind::Altered, file, &problem);
            }
        }
    }
}

impl Verdict {
    fn new(name: &OsStr) -> Self {
        Self {
            name: name.to_string_lossy().into_owned(),
            problems: Vec::new(),
            bytes: 0,
            link: None,
            ended: None,
            files: 0,
            opened: 0,
            being_written: false,
        }
    }

    fn problem(&mut self, kind: ProblemKind, file: Option<&str>, text: &str) {
        self.problems.push(Problem { kind, file: file.map(str::to_owned), text: text.to_owned() });
    }

    fn unreadable(&mut self, file: Option<&str>, error: &io::Error) {
        self.problem(ProblemKind::Unreadable, file, &format!("it cannot be read: {error}"));
    }

    /// The session in one word.
    pub(super) fn state(&self) -> State {
        match (self.problems.is_empty(), self.being_written) {
            (true, false) => State::Intact,
            (true, true) => State::BeingWritten,
            (false, _) => State::Faulty,
        }
    }

    /// What is worth telling of an intact session.
    pub(super) fn note(&self) -> Option<&'static str> {
        match self.ended {
            Some(Ended::Crash) => Some("closed after a crash"),
            Some(Ended::Abandoned) => Some("its recording was given up"),
            Some(Ended::Finished) | None => None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let problems: Vec<Value> = self
            .problems
            .iter()
            .map(|Problem { kind, file, text }| json!({ "problem": kind.word(), "file": file, "text": text }))
            .collect();
        json!({
            "session": self.name,
            "state": self.state().word(),
            "ended": self.ended,
            "chain": self.link.map(|(chain, _)| chain),
            "sequence": self.link.map(|(_, link)| link.sequence),
            "files": self.files,
            "opened": self.opened,
            "bytes": self.bytes,
            "problems": problems,
        })
    }
}

impl State {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::BeingWritten => "being-written",
            Self::Faulty => "faulty",
        }
    }
}

impl ProblemKind {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Missing => "missing",
            Self::Altered => "altered",
            Self::Added => "added",
            Self::UnknownKey => "unknown-key",
            Self::NeverFinished => "never-finished",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.kind.word(), self.file, self.text)
    }
}

/// Whether a gateway holds the lock of a directory. A gateway that makes one must not find it locked by
/// this, so the spool's own lock is held meanwhile, as it is by who closes leftovers.
fn is_being_written(root: &Location, part: &Location) -> io::Result<bool> {
    if root.is_remote() {
        return Ok(false);
    }
    let spool = File::open(root.path())?;
    spool.lock()?;
    match open_regular(part.join("events.log").path()) {
        Ok(events) => match events.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_bounded(path: &Location) -> io::Result<Vec<u8>> {
    let mut document = Vec::new();
    path.open_regular()?.take(Manifest::MAX_SIZE.saturating_add(1)).read_to_end(&mut document)?;
    if document.len() as u64 > Manifest::MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than any manifest"));
    }
    Ok(document)
}
