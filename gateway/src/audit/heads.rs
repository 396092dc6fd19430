//! Signed heads of the chain in the spool, from where they ship like recordings.
//!
//! `SPOOL/heads/` holds one file for each head, and with them the successions of keys, so that a shipped copy
//! is verified with the first key alone. One head is as good as all before it, so the oldest of the chain are deleted;
//! shipped copies keep them.

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

/// Heads of the chain that stay in the spool: those of most of a day, where one is written each minute.
const KEPT: usize = 1_000;

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
            Some((name, document)) => {
                write_once(&directory.join(&name), document.as_bytes())?;
                prune(&directory, &name, KEPT)
            }
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

/// Deletes all but the newest `kept` heads of the chain that `name` is a head of.
fn prune(directory: &Path, name: &str, kept: usize) -> Result<(), AuditError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| AuditError::Io { action, path, source }
    };
    let Some((chain, _)) = parts(name) else { return Ok(()) };
    let mut heads = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let entry = entry.map_err(failed("read", directory))?;
        let name = entry.file_name();
        let head = name.to_str().and_then(parts).filter(|(of, _)| *of == chain);
        heads.extend(head.map(|(_, sequence)| (sequence, entry.path())));
    }
    heads.sort_unstable();
    let excess = heads.len().saturating_sub(kept);
    heads.iter().take(excess).try_for_each(|(_, path)| fs::remove_file(path).map_err(failed("delete", path)))
}

/// Chain and number of a head, by the name of its file.
fn parts(name: &str) -> Option<(&str, u64)> {
    let (chain, sequence) = name.strip_suffix(".json")?.split_once('-')?;
    Some((chain, sequence.parse().ok()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_heads_of_the_own_chain_go() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["a-9.json", "a-10.json", "a-11.json", "b-1.json", "key-1.json", "a-1.json.tmp"] {
            fs::write(scratch.path().join(name), "{}").unwrap();
        }
        prune(scratch.path(), "a-11.json", 2).unwrap();
        prune(scratch.path(), "a-11.json", 2).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a-1.json.tmp", "a-10.json", "a-11.json", "b-1.json", "key-1.json"]);
    }
}
