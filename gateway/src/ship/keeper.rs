//! Deletes recordings that are old, or too many, and that every required destination has confirmed.
//!
//! Before that a signed statement of each session is on disk in `SPOOL/shipped.log` ([`crate::audit`]), so that a
//! session that was deleted can be told from one that was removed. A deletion is one rename, then what is left is cleared; a
//! crash in between leaves nothing that could be taken for a session. Heads stay.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::time::{Duration, SystemTime};

use portreeve_core::config::shipping::{Destination, Retention};
use portreeve_core::shipping::{Candidate, Item, deletions};
use portreeve_core::utc::UtcTime;
use tokio::time::sleep;

use super::shipper::Ground;
use super::source;
use super::store::blocking;
use crate::audit::AuditError;
use crate::telemetry::with_causes;

/// How often it is looked what may go.
const SWEEP: Duration = Duration::from_secs(10);

/// Most sessions that one sweep deletes: each is a rename and some removals.
const AT_ONCE: usize = 1000;

/// Deletes what may go.
#[derive(Debug)]
pub(super) struct Keeper {
    ground: Ground,
    destinations: Vec<Destination>,
    retention: Retention,
    /// Bytes of sessions, which never change.
    sizes: HashMap<Item, u64>,
    /// What cannot be deleted, and why, so that it is told once.
    told: HashMap<Item, String>,
}

impl Keeper {
    pub(super) fn new(ground: Ground, destinations: &[Destination], retention: Retention) -> Self {
        Self {
            ground,
            destinations: destinations.to_vec(),
            retention,
            sizes: HashMap::new(),
            told: HashMap::new(),
        }
    }

    /// Sweeps for ever.
    pub(super) async fn run(mut self) {
        loop {
            let swept = blocking(move || {
                let deleted = self.sweep(SystemTime::now());
                Ok((self, deleted))
            });
            let (keeper, deleted) = match swept.await {
                Ok(swept) => swept,
                Err(error) => {
                    tracing::error!(%error, "old recordings are not deleted any more: an error of the gateway");
                    return;
                }
            };
            self = keeper;
            match deleted {
                Ok(0) => {}
                Ok(deleted) => tracing::info!(deleted, "old recordings are deleted from the spool"),
                Err(error) => tracing::error!(error = with_causes(&error), "cannot delete old recordings"),
            }
            sleep(SWEEP).await;
        }
    }

    /// Deletes what may go now; returns how many sessions.
    pub(super) fn sweep(&mut self, now: SystemTime) -> io::Result<u64> {
        self.ground.state.clear_gone()?;
        let mut going = deletions(self.candidates(now)?, self.retention);
        going.truncate(AT_ONCE);
        let mut sessions = 0;
        let mut statements = Vec::new();
        going.retain(|item| match self.statements(item, now.into()) {
            Ok(Some(of_item)) => {
                statements.extend(of_item);
                true
            }
            Ok(None) => false,
            Err(error) => {
                let error = with_causes(&error);
                if self.told.get(item) != Some(&error) {
                    tracing::error!(%item, error, "a recording is not deleted: that cannot be signed");
                    self.told.insert(item.clone(), error);
                }
                false
            }
        });
        if !statements.is_empty() {
            self.ground.chain.will_delete(&self.ground.spool, &statements).map_err(io::Error::other)?;
        }
        for item in &going {
            fs::rename(self.ground.spool.join(item.path()), self.ground.state.gone(item))?;
            self.sizes.remove(item);
            for destination in &self.destinations {
                self.ground.state.forget(&destination.name, item)?;
            }
            if matches!(item, Item::Session { .. }) {
                sessions += 1;
                self.ground.board.metrics.deleted.inc();
            }
        }
        // The directory is one file system with what is removed: the renames are on disk before the removals.
        File::open(&self.ground.spool)?.sync_all()?;
        self.ground.state.clear_gone()?;
        Ok(sessions)
    }

    /// Every finished session.
    fn candidates(&mut self, now: SystemTime) -> io::Result<Vec<Candidate>> {
        let mut items = source::items(&self.ground.spool)?;
        items.retain(|item| matches!(item, Item::Session { .. }));
        let mut required: Option<BTreeSet<Item>> = None;
        for destination in self.destinations.iter().filter(|destination| destination.required) {
            let confirmed = self.ground.state.known(&destination.name)?.confirmed;
            required = Some(match required {
                Some(sofar) => sofar.intersection(&confirmed).cloned().collect(),
                None => confirmed,
            });
        }
        let required = required.unwrap_or_default();
        self.sizes.retain(|item, _| items.contains(item));
        self.told.retain(|item, _| items.contains(item));
        let mut candidates = Vec::with_capacity(items.len());
        for item in items {
            let Ok(modified) =
                self.ground.spool.join(item.path()).metadata().and_then(|found| found.modified())
            else {
                continue;
            };
            let confirmed = required.contains(&item);
            let bytes = if self.retention.keep_bytes.is_some() { self.bytes(&item) } else { 0 };
            // From the future, after a step of the clock: new.
            let age = now.duration_since(modified).unwrap_or_default();
            candidates.push(Candidate { item, age, bytes, confirmed });
        }
        Ok(candidates)
    }

    fn bytes(&mut self, item: &Item) -> u64 {
        let spool = &self.ground.spool;
        let measure =
            || source::files(spool, item).map_or(0, |files| files.iter().map(|file| file.size).sum());
        *self.sizes.entry(item.clone()).or_insert_with(measure)
    }

    /// What is signed of a session that is about to be deleted, one for each destination that has it; `None` where
    /// it must not be after all.
    fn statements(&self, item: &Item, now: UtcTime) -> Result<Option<Vec<String>>, AuditError> {
        let mut confirmed = Vec::new();
        for destination in &self.destinations {
            if self.ground.state.confirmed(&destination.name, item).is_some() {
                confirmed.push(&*destination.name);
            } else if destination.required {
                // The file is there and cannot be read: the destination is asked again.
                self.ground.state.doubt(&destination.name, item).ok();
                return Ok(None);
            }
        }
        if confirmed.is_empty() {
            confirmed.push("");
        }
        let session = self.ground.spool.join(item.path());
        let statements =
            confirmed.into_iter().map(|destination| self.ground.chain.deletion(&session, destination, now));
        let statements: Vec<Option<String>> = statements.collect::<Result<_, _>>()?;
        Ok(Some(statements.into_iter().flatten().collect()))
    }
}
