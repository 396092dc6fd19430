//! What was deleted from the spool after shipping: `SPOOL/shipped.log`, one signed document after another.
//!
//! A deletion is on disk here before the directory goes, so that a verifier tells it from a removal.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use portreeve_core::manifest::{Manifest, Shipped, read_unproven};
use portreeve_core::utc::UtcTime;

use super::chain::AuditChain;
use super::{AuditError, chain, keys};

/// Name of the file in the spool.
const FILE: &str = "shipped.log";

impl AuditChain {
    /// The signed statement that the finished session directory at `session` is about to be deleted, because
    /// `destination` has confirmed it, or where that is empty because it may go without; blocks the thread. `None`
    /// of one without a manifest, which is in no chain.
    ///
    /// # Errors
    /// [`AuditError`]: it must not be deleted.
    pub fn deletion(
        &self,
        session: &Path,
        destination: &str,
        now: UtcTime,
    ) -> Result<Option<String>, AuditError> {
        let path = session.join(Manifest::FILE);
        let document = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(AuditError::Io { action: "read", path, source }),
            Ok(document) => document,
        };
        let manifest = read_unproven::<Manifest>(&document)
            .map_err(|source| AuditError::Document { path: path.clone(), source })?;
        let shipped = Shipped {
            chain: manifest.content.chain,
            sequence: manifest.content.sequence,
            manifest: manifest.sha256,
            directory: manifest.content.directory,
            destination: destination.to_owned(),
            time_ms: now.unix_millis(),
        };
        self.document(&shipped, &keys::load(self.state_dir())?).map(Some)
    }

    /// Writes statements of [`AuditChain::deletion`] down, all on disk when this returns; blocks the thread.
    ///
    /// # Errors
    /// [`AuditError`]: nothing of what they name must be deleted.
    pub fn will_delete(&self, spool: &Path, deletions: &[String]) -> Result<(), AuditError> {
        let _lock = chain::lock(&chain::directory(self.state_dir()))?;
        let path = spool.join(FILE);
        append(&path, deletions.concat().as_bytes()).map_err(|source| AuditError::Io {
            action: "write",
            path: path.clone(),
            source,
        })
    }
}

/// Appends documents, the first on a line of its own, and syncs them.
fn append(path: &Path, documents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if file.seek(io::SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(io::SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        // A crash cut the document before; readers pass over it.
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    file.write_all(documents)?;
    file.sync_data()
}
