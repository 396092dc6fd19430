//! Signed heads of the chain in the spool, from where they ship like recordings.
//!
//! `SPOOL/heads/` holds one file for each head, and with them the successions of keys, so that a shipped copy
//! is verified with the first key alone. Deliberately absent: when a head is deleted; one is as good as all
//! before it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::MissedTickBehavior;
use tracing::error;

use super::chain::AuditChain;
use super::files::{self, Durability};
use super::{AuditError, keys};
use crate::telemetry::with_causes;

const DIRECTORY: &str = "heads";

impl AuditChain {
    /// Writes a head into the spool, if the chain has grown since the last one, and successions of keys that
    /// are not there yet; blocks the thread.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn write_head(&self, spool: &Path) -> Result<(), AuditError> {
        let directory = spool.join(DIRECTORY);
        for (path, _) in keys::successions(self.state_dir())? {
            let unreadable = |source| AuditError::Io { action: "read", path: path.clone(), source };
            let document = fs::read(&path).map_err(unreadable)?;
            write_once(&directory.join(path.file_name().unwrap_or_default()), &document)?;
        }
        match self.head(SystemTime::now().into())? {
            Some((name, document)) => write_once(&directory.join(name), document.as_bytes()),
            None => Ok(()),
        }
    }

    /// Writes a head every `interval`, as long as it is polled.
    pub async fn write_heads(self: Arc<Self>, spool: PathBuf, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.write_head_now(spool.clone()).await;
        }
    }

    /// Writes a head now; one that cannot be written is logged.
    pub async fn write_head_now(self: &Arc<Self>, spool: PathBuf) {
        let chain = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || chain.write_head(&spool)).await;
        if let Ok(Err(error)) = written {
            error!(error = with_causes(&error), "no head of the audit chain is written");
        }
    }
}

fn write_once(path: &Path, document: &[u8]) -> Result<(), AuditError> {
    if path.exists() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), files::make_directory)?;
    files::replace(path, document, Durability::Synced).map_err(|source| AuditError::Io {
        action: "write",
        path: path.into(),
        source,
    })
}
