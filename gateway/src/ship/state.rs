//! What is known about shipping, in `SPOOL/.shipping`. Blocks the thread.
//!
//! ```text
//! .shipping/lock                          locked by the process that ships
//! .shipping/<destination>/<item>.confirmed
//! .shipping/<destination>/<item>.aside
//! .shipping/<destination>/status.json
//! .shipping/gone/<item>                   what is being deleted
//! ```
//!
//! Each is one small JSON document that appears whole. None is synced: one that is lost, or that a loss of power
//! left empty, counts as absent, and costs that the destination is asked again.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use portreeve_core::shipping::{Aside, Confirmed, DestinationStatus, Item};
use serde::Serialize;
use serde::de::DeserializeOwned;

const CONFIRMED: &str = "confirmed";
const ASIDE: &str = "aside";
const STATUS: &str = "status.json";

/// Where what is deleted goes first; no destination's name begins so.
const GONE: &str = ".gone";

/// `SPOOL/.shipping`.
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
}

/// What a destination has, and has not.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) confirmed: BTreeSet<Item>,
    pub(super) aside: BTreeSet<Item>,
}

impl StateDir {
    /// Of a spool; nothing is made.
    pub fn of(spool: &Path) -> Self {
        Self { root: spool.join(".shipping") }
    }

    /// Makes the directories of these destinations.
    pub(super) fn create<'n>(&self, destinations: impl Iterator<Item = &'n str>) -> io::Result<()> {
        let make = |path: PathBuf| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(self.root.join(GONE))?;
        destinations.map(|name| self.root.join(name)).try_for_each(make)
    }

    /// The lock of the one process that ships; `None` while another one has it.
    pub(super) fn try_lock(&self) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        let lock =
            options.write(true).create(true).truncate(false).mode(0o600).open(self.root.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What is known of a destination, by the names of its files.
    pub(super) fn known(&self, destination: &str) -> io::Result<Known> {
        let mut known = Known::default();
        for entry in fs::read_dir(self.root.join(destination))? {
            let name = entry?.file_name();
            let Some((item, kind)) = name.to_str().and_then(|name| name.rsplit_once('.')) else { continue };
            let Some(item) = Item::from_state_name(item) else { continue };
            match kind {
                CONFIRMED => drop(known.confirmed.insert(item)),
                ASIDE => drop(known.aside.insert(item)),
                _ => {}
            }
        }
        Ok(known)
    }

    /// That a destination has all of an item.
    pub(super) fn confirmed(&self, destination: &str, item: &Item) -> Option<Confirmed> {
        read(&self.file(destination, item, CONFIRMED))
    }

    /// Why an item is set aside.
    pub(super) fn aside(&self, destination: &str, item: &Item) -> Option<Aside> {
        read(&self.file(destination, item, ASIDE))
    }

    /// Writes that a destination has all of an item.
    pub(super) fn confirm(&self, destination: &str, item: &Item, confirmed: &Confirmed) -> io::Result<()> {
        write(&self.file(destination, item, CONFIRMED), confirmed)?;
        remove(&self.file(destination, item, ASIDE))
    }

    /// Takes that back.
    pub(super) fn doubt(&self, destination: &str, item: &Item) -> io::Result<()> {
        remove(&self.file(destination, item, CONFIRMED))
    }

    /// Sets an item aside.
    pub(super) fn set_aside(&self, destination: &str, item: &Item, aside: &Aside) -> io::Result<()> {
        write(&self.file(destination, item, ASIDE), aside)
    }

    /// Forgets about an item that is not there any more.
    pub(super) fn forget(&self, destination: &str, item: &Item) -> io::Result<()> {
        self.doubt(destination, item)?;
        remove(&self.file(destination, item, ASIDE))
    }

    /// Writes how a destination stands.
    pub(super) fn write_status(&self, destination: &str, status: &DestinationStatus) -> io::Result<()> {
        write(&self.root.join(destination).join(STATUS), status)
    }

    /// How a destination stands; `None` where it never said.
    pub fn status(&self, destination: &str) -> Option<DestinationStatus> {
        read(&self.root.join(destination).join(STATUS))
    }

    /// What is set aside for a destination, each with why.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn all_aside(&self, destination: &str) -> io::Result<Vec<(Item, Aside)>> {
        let known = self.known(destination)?;
        Ok(known
            .aside
            .into_iter()
            .filter_map(|item| Some((self.aside(destination, &item)?, item)))
            .map(|(aside, item)| (item, aside))
            .collect())
    }

    /// Where an item is moved to be deleted.
    pub(super) fn gone(&self, item: &Item) -> PathBuf {
        self.root.join(GONE).join(item.to_string())
    }

    /// Deletes what was moved there.
    pub(super) fn clear_gone(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join(GONE))? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }

    fn file(&self, destination: &str, item: &Item, kind: &str) -> PathBuf {
        self.root.join(destination).join(format!("{item}.{kind}"))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write(path: &Path, document: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec(document)?)?;
    fs::rename(&temporary, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_known_and_what_is_broken_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path());
        state.create(["a"].into_iter()).unwrap();
        let item = Item::session("1-ffffffff-ffff-4fff-bfff-ffffffffffff").unwrap();
        let aside = Aside::again(None, "why".into(), 0, String::new());
        state.set_aside("a", &item, &aside).unwrap();
        assert_eq!(state.all_aside("a").unwrap(), [(item.clone(), aside)]);
        let confirmed = Confirmed { time: "t".into(), files: 1, bytes: 2, manifest_sha256: None };
        state.confirm("a", &item, &confirmed).unwrap();
        let known = state.known("a").unwrap();
        assert_eq!((known.confirmed, known.aside), ([item.clone()].into(), [].into()));
        assert_eq!(state.confirmed("a", &item), Some(confirmed));
        fs::write(state.file("a", &item, CONFIRMED), "").unwrap();
        assert_eq!(state.confirmed("a", &item), None);
        state.forget("a", &item).unwrap();
        assert!(state.known("a").unwrap().confirmed.is_empty());
    }

    #[test]
    fn one_process_ships() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path());
        state.create([].into_iter()).unwrap();
        let first = state.try_lock().unwrap();
        assert!(first.is_some() && state.try_lock().unwrap().is_none());
        drop(first);
        assert!(state.try_lock().unwrap().is_some());
    }
}
