//! How shipping stands, for who runs the gateway: read from the spool and from what shippers wrote down there.
//!
//! Asks no destination and no gateway, and changes nothing. Blocks the thread.

use std::io;
use std::path::Path;

use portreeve_core::config::shipping::Destination;
use portreeve_core::shipping::{Aside, DestinationStatus, Item};
use portreeve_core::utc::UtcTime;

use super::source;
use super::state::StateDir;

/// How one destination stands.
#[derive(Debug)]
pub struct DestinationReport {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Whether deletion waits for it.
    pub required: bool,
    /// What it has not confirmed.
    pub pending: Pending,
    /// What is set aside of that, and why.
    pub aside: Vec<(Item, Aside)>,
    /// What its shipper last wrote down; `None` where it never did.
    pub status: Option<DestinationStatus>,
}

/// What waits for a destination.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Finished sessions.
    pub sessions: u64,
    /// Finished files of sessions that go on.
    pub files: u64,
    /// Heads of the chain, and successions of keys.
    pub heads: u64,
    /// Their bytes; of what cannot be read none.
    pub bytes: u64,
    /// Start of the oldest session.
    pub oldest: Option<UtcTime>,
}

/// How each destination stands.
///
/// # Errors
/// When the spool cannot be read.
pub fn report(spool: &Path, destinations: &[Destination]) -> io::Result<Vec<DestinationReport>> {
    let items = source::items(spool)?;
    let state = StateDir::of(spool);
    let of = |destination: &Destination| {
        let known = match state.known(&destination.name) {
            // Nothing was ever shipped there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            known => known?,
        };
        let mut pending = Pending::default();
        for item in items.iter().filter(|item| !known.confirmed.contains(item)) {
            pending.add(spool, item);
        }
        let aside = known.aside.into_iter().filter(|item| items.contains(item));
        Ok(DestinationReport {
            name: destination.name.clone(),
            kind: destination.kind_name(),
            required: destination.required,
            pending,
            aside: aside
                .filter_map(|item| state.aside(&destination.name, &item).map(|aside| (item, aside)))
                .collect(),
            status: state.status(&destination.name),
        })
    };
    destinations.iter().map(of).collect()
}

impl Pending {
    fn add(&mut self, spool: &Path, item: &Item) {
        match item {
            Item::Session { started, .. } => {
                self.sessions += 1;
                let started = UtcTime::from_unix_millis(*started);
                self.oldest = Some(self.oldest.map_or(started, |oldest| oldest.min(started)));
            }
            Item::Segment { .. } => self.files += 1,
            Item::Head { .. } => self.heads += 1,
        }
        let files = source::files(spool, item).unwrap_or_default();
        self.bytes = files.iter().fold(self.bytes, |sum, file| sum.saturating_add(file.size));
    }
}
