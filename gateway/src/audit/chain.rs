//! The chain of this gateway: numbers for manifests, one at a time.
//!
//! A session is closed in three steps: its manifest is signed with the next number and stands in the
//! [journal](super::journal), from where on it counts; it is written into the session's directory; the
//! directory gets its final name. A crash between these is completed by whoever opens the chain next. All
//! of this blocks the thread, save [`AuditChain::close`], which gathers what is closed at the same time
//! into one write to disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portreeve_core::manifest::{
    AuditKey, ChainHead, ChainId, Ended, FileEntry, Manifest, Sha256, SignedContent, sign,
};
use portreeve_core::utc::UtcTime;
use tokio::sync::oneshot;

use super::files::{self, Durability};
use super::journal::{self, Entry, Journal, Position};
use super::{AuditError, keys};

const DIRECTORY: &str = "audit_chain";
const LOCK_FILE: &str = "lock";

/// Bytes of the journal after which its manifests are synced and it is begun again.
const JOURNAL_SIZE: u64 = 1024 * 1024;

/// A session that is closed, all of whose files are written.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Its directory while it is written; the final name is that without the extension.
    pub part: PathBuf,
    /// Start of the session.
    pub started: UtcTime,
    /// Now.
    pub closed: UtcTime,
    /// How it ended.
    pub ended: Ended,
    /// Every file in it.
    pub files: Vec<FileEntry>,
}

/// The chain, shared by all sessions of the process.
#[derive(Debug)]
pub struct AuditChain {
    state_dir: PathBuf,
    /// Also what keeps the sessions of this process apart: a lock on a file keeps processes apart.
    journal: Mutex<Option<Journal>>,
    waiting: Mutex<Vec<Waiting>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Waiting {
    closing: Closing,
    done: oneshot::Sender<Result<(), Arc<AuditError>>>,
}

/// The directory of the chain.
pub(super) fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join(DIRECTORY)
}

/// Keeps other processes from the chain, as long as the handle lives.
pub(super) fn lock(directory: &Path) -> Result<File, AuditError> {
    let path = directory.join(LOCK_FILE);
    let open = || {
        let file = File::options().create(true).append(true).open(&path)?;
        file.lock().map(|()| file)
    };
    open().map_err(|source| AuditError::Io { action: "lock", path: path.clone(), source })
}

impl AuditChain {
    /// Opens the chain of the state directory, beginning one, and making the audit key, where there is none;
    /// completes what a crash cut.
    ///
    /// # Errors
    /// [`AuditError`]: nothing can be signed.
    pub fn open(state_dir: &Path) -> Result<Self, AuditError> {
        let directory = directory(state_dir);
        files::make_directory(&directory)?;
        let opened = Self {
            state_dir: state_dir.into(),
            journal: Mutex::new(None),
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        };
        let _lock = lock(&directory)?;
        keys::load_or_make(state_dir)?;
        if !journal::exists(&directory) {
            let chain = ChainId::from_random_bytes(rand::random());
            let position = Position { chain, sequence: 0, manifest: Sha256::NONE };
            Journal::begin(&directory, position)?;
        }
        let mut journal = opened.current(&directory)?;
        for Entry { part, document } in journal.as_mut().map_or(&[][..], |journal| journal.entries()) {
            sweep(part);
            place(part, document)?;
        }
        drop(journal);
        Ok(opened)
    }

    /// Signs the manifest of a session, writes it into its directory and gives that its final name. What
    /// has begun goes on if the caller goes away.
    ///
    /// # Errors
    /// [`AuditError`]: the directory keeps its name, and the next start closes it.
    pub async fn close(self: &Arc<Self>, closing: Closing) -> Result<(), Arc<AuditError>> {
        let (done, outcome) = oneshot::channel();
        self.waiting().push(Waiting { closing, done });
        let turn = self.turn.lock().await;
        let batch = std::mem::take(&mut *self.waiting());
        if !batch.is_empty() {
            let chain = Arc::clone(self);
            let closed = tokio::task::spawn_blocking(move || chain.close_batch(batch));
            // Who waits is told by its own channel, which a panic closes.
            drop(closed.await);
        }
        drop(turn);
        let stopped = || io::Error::other("what closes sessions has stopped");
        let path = directory(&self.state_dir);
        outcome
            .await
            .unwrap_or_else(|_| Err(Arc::new(AuditError::Io { action: "write to", path, source: stopped() })))
    }

    /// As [`AuditChain::close`], for several sessions, in order.
    ///
    /// # Errors
    /// As there, the first.
    pub fn close_all(&self, closings: Vec<Closing>) -> Result<(), AuditError> {
        let placed = self.sign_all(&closings)?;
        placed.iter().try_for_each(|Entry { part, document }| place(part, document))
    }

    fn close_batch(&self, batch: Vec<Waiting>) {
        let (closings, callers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.closing, waiting.done)).unzip();
        match self.sign_all(&closings) {
            Ok(entries) => {
                for (Entry { part, document }, done) in entries.iter().zip(callers) {
                    let placed = place(part, document).map_err(Arc::new);
                    // Who waited may have gone.
                    done.send(placed).ok();
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for done in callers {
                    done.send(Err(Arc::clone(&error))).ok();
                }
            }
        }
    }

    /// Gives the next numbers; the manifests count when this returns.
    pub(super) fn sign_all(&self, closings: &[Closing]) -> Result<Vec<Entry>, AuditError> {
        let directory = directory(&self.state_dir);
        let _lock = lock(&directory)?;
        let key = keys::load(&self.state_dir)?;
        let mut current = self.current(&directory)?;
        if let Some(journal) = current.as_mut().filter(|journal| journal.size() > JOURNAL_SIZE) {
            *journal = settle(&directory, journal)?;
        }
        let Some(journal) = current.as_mut() else { return Ok(Vec::new()) };
        let mut position = journal.position();
        let mut entries = Vec::with_capacity(closings.len());
        for closing in closings {
            let manifest = manifest(closing, position)?;
            let document = self.document(&manifest, &key)?;
            position = Position {
                chain: position.chain,
                sequence: manifest.sequence,
                manifest: Sha256::of(document.as_bytes()),
            };
            entries.push(Entry { part: closing.part.clone(), document });
        }
        journal.append(entries.clone())?;
        Ok(entries)
    }

    /// A signed head of the chain, and its file's name; `None` before the first session.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn head(&self, now: UtcTime) -> Result<Option<(String, String)>, AuditError> {
        let directory = directory(&self.state_dir);
        let _lock = lock(&directory)?;
        let current = self.current(&directory)?;
        let Some(position) = current.as_ref().map(Journal::position).filter(|at| at.sequence > 0) else {
            return Ok(None);
        };
        let Position { chain, sequence, manifest } = position;
        let head = ChainHead { chain, sequence, manifest, time_ms: now.unix_millis() };
        let key = keys::load(&self.state_dir)?;
        Ok(Some((head.file_name(), self.document(&head, &key)?)))
    }

    pub(super) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    pub(super) fn document<T: SignedContent>(
        &self,
        content: &T,
        key: &AuditKey,
    ) -> Result<String, AuditError> {
        let failed = |source| AuditError::Document { path: directory(&self.state_dir), source };
        let bytes = sign(content, key).map_err(failed)?;
        String::from_utf8(bytes).map_err(|_| failed(portreeve_core::manifest::DocumentError::Encode))
    }

    /// The journal as it is now; the caller holds the lock. Never `None` when this returns.
    fn current(&self, directory: &Path) -> Result<MutexGuard<'_, Option<Journal>>, AuditError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if !journal.as_ref().is_some_and(Journal::is_current) {
            *journal = Some(Journal::read(directory)?);
        }
        Ok(journal)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn manifest(closing: &Closing, position: Position) -> Result<Manifest, AuditError> {
    let name = final_name(&closing.part);
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut files = closing.files.clone();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Manifest {
        chain: position.chain,
        sequence: position.sequence.checked_add(1).ok_or(AuditError::Exhausted)?,
        previous: position.manifest,
        directory: name,
        started_ms: closing.started.unix_millis(),
        closed_ms: closing.closed.unix_millis(),
        ended: closing.ended,
        files,
    })
}

/// Makes sure that every manifest of the journal is on disk in its directory, and begins the journal again.
fn settle(directory: &Path, journal: &Journal) -> Result<Journal, AuditError> {
    let mut spools = BTreeSet::new();
    for Entry { part, document } in journal.entries() {
        place(part, document)?;
        spools.extend(part.parent());
    }
    for spool in spools {
        // Once for all of them: a thousand calls of fsync take some ten seconds.
        match File::open(spool).and_then(|spool| Ok(nix::unistd::syncfs(spool)?)) {
            // The spool was moved away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            synced => {
                synced.map_err(|source| AuditError::Io { action: "sync", path: spool.into(), source })?
            }
        }
    }
    Journal::begin(directory, journal.position())
}

/// Writes a manifest that counts into its directory, under whichever name that has, and gives it the final
/// one. Done already, or a directory that was deleted since, is no error.
fn place(part: &Path, document: &str) -> Result<(), AuditError> {
    let finished = final_name(part);
    let placed = match place_in(part, document).and_then(|()| fs::rename(part, &finished)) {
        // Another process may have renamed it just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => place_in(&finished, document),
        placed => placed,
    };
    match placed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(AuditError::Io { action: "close", path: part.into(), source })
        }
        _ => Ok(()),
    }
}

/// Removes a manifest from a directory that is about to be closed: one that counts would have been completed
/// when the chain was opened, so its chain is lost.
///
/// # Errors
/// Those of removing it.
pub fn discard_uncounted(part: &Path) -> io::Result<()> {
    sweep(part);
    match fs::remove_file(part.join(Manifest::FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes manifests that a crash left half written; a directory must hold nothing that its manifest does
/// not name.
fn sweep(part: &Path) {
    for directory in [part, &final_name(part)] {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            if files::is_temporary(&entry.file_name()) {
                // One that stays is told by a verifier.
                drop(fs::remove_file(entry.path()));
            }
        }
    }
}

fn place_in(directory: &Path, document: &str) -> io::Result<()> {
    let path = directory.join(Manifest::FILE);
    match fs::read(&path) {
        Ok(there) if there == document.as_bytes() => Ok(()),
        _ => files::replace(&path, document.as_bytes(), Durability::Cached),
    }
}

fn final_name(part: &Path) -> PathBuf {
    part.with_extension("")
}
