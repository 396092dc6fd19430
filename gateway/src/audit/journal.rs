//! The journal of the chain: `STATE/audit_chain/journal`, lines of JSON.
//!
//! The first line is the base: the chain, and the number and SHA-256 of the newest manifest when the journal
//! was begun. Each further line is a batch of manifests that were signed together, whole, with the directory
//! that each belongs to. A line counts when it is on disk with its newline; what stands after the last
//! newline was never counted. Manifests are in the journal before they are in their directories, so that
//! none is lost with the power; once they are on disk there, the journal is begun again.
//!
//! Who uses it holds the lock of the chain.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use portreeve_core::manifest::{ChainId, Sha256};
use serde::{Deserialize, Serialize};

use super::AuditError;
use super::files::{self, Durability};

const FILE: &str = "journal";

/// Where the chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) chain: ChainId,
    /// Number of the newest manifest; 0 before the first.
    pub(super) sequence: u64,
    /// SHA-256 of its file.
    pub(super) manifest: Sha256,
}

/// A manifest that was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The session's directory while it is written.
    pub(super) part: PathBuf,
    /// The manifest's file.
    pub(super) document: String,
}

/// The journal as it was read last. Kept between uses, since mostly nobody else has written.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// The file when it was read; another gateway that writes changes it.
    seen: Identity,
    position: Position,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change.
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
struct Batch {
    batch: Vec<Entry>,
}

/// Whether a chain was begun.
pub(super) fn exists(directory: &Path) -> bool {
    directory.join(FILE).exists()
}

impl Journal {
    /// Begins a journal at `position`, in place of any.
    pub(super) fn begin(directory: &Path, position: Position) -> Result<Self, AuditError> {
        let path = directory.join(FILE);
        let failed = |source| AuditError::Io { action: "write", path: path.clone(), source };
        let line = line(&position).map_err(failed)?;
        files::replace(&path, &line, Durability::Synced).map_err(failed)?;
        let seen = identity(&path).map_err(failed)?;
        Ok(Self { path, seen, position, entries: Vec::new() })
    }

    /// Reads the journal.
    pub(super) fn read(directory: &Path) -> Result<Self, AuditError> {
        let path = directory.join(FILE);
        let failed = |source| AuditError::Io { action: "read", path: path.clone(), source };
        let bytes = fs::read(&path).map_err(failed)?;
        let seen = identity(&path).map_err(failed)?;
        let damaged = |line| AuditError::Journal { path: path.clone(), line };
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let base = lines.next().ok_or_else(|| damaged(1))?;
        let mut position: Position = serde_json::from_slice(base).map_err(|_| damaged(1))?;
        let mut entries = Vec::new();
        for (index, line) in lines.enumerate() {
            let Batch { batch } = serde_json::from_slice(line).map_err(|_| damaged(index + 2))?;
            for entry in batch {
                position.advance(&entry)?;
                entries.push(entry);
            }
        }
        Ok(Self { path, seen, position, entries })
    }

    /// Whether nobody else has written since.
    pub(super) fn is_current(&self) -> bool {
        identity(&self.path).is_ok_and(|now| now == self.seen)
    }

    pub(super) const fn position(&self) -> Position {
        self.position
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of its file.
    pub(super) const fn size(&self) -> u64 {
        self.seen.size
    }

    /// Adds manifests; they count when this returns. After an error none does.
    pub(super) fn append(&mut self, entries: Vec<Entry>) -> Result<(), AuditError> {
        let mut position = self.position;
        for entry in &entries {
            position.advance(entry)?;
        }
        let batch = Batch { batch: entries };
        let written = line(&batch).and_then(|line| self.append_line(&line));
        let path = &self.path;
        written.map_err(|source| AuditError::Io { action: "write", path: path.clone(), source })?;
        self.position = position;
        self.entries.extend(batch.batch);
        Ok(())
    }

    fn append_line(&mut self, line: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let counted = counted(&file)?;
        file.set_len(counted)?;
        let written = append_synced(&file, counted, line);
        if written.is_err() {
            // Whether or not a part of it is there: it must not count.
            file.set_len(counted)?;
        }
        written?;
        self.seen = identity(&self.path)?;
        Ok(())
    }
}

impl Position {
    fn advance(&mut self, entry: &Entry) -> Result<(), AuditError> {
        self.sequence = self.sequence.checked_add(1).ok_or(AuditError::Exhausted)?;
        self.manifest = Sha256::of(entry.document.as_bytes());
        Ok(())
    }
}

fn append_synced(mut file: &File, at: u64, line: &[u8]) -> io::Result<()> {
    use std::io::Seek as _;
    file.seek(io::SeekFrom::Start(at))?;
    file.write_all(line)?;
    file.sync_data()
}

/// Where the last line that counts ends.
fn counted(file: &File) -> io::Result<u64> {
    use std::os::unix::fs::FileExt as _;
    let mut end = file.metadata()?.len();
    let mut byte = [0];
    while end > 0 {
        file.read_exact_at(&mut byte, end - 1)?;
        if byte == *b"\n" {
            break;
        }
        end -= 1;
    }
    Ok(end)
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::metadata(path)?;
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    Ok(Identity { inode: metadata.ino(), size: metadata.len(), changed })
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}
