//! The pin directory: what outlives the daemon, and where.
//!
//! ```text
//! PIN_DIR/v2/maps/TARGETS ..   maps, by their names in the object file
//! PIN_DIR/v2/links/sk_lookup   link to the network namespace
//! PIN_DIR/v2/links/tc-3-eth0   TCX link to an interface, with the index it had
//! PIN_DIR/v2/links/clsact-eth0 program of a clsact filter, which the kernel keeps without a link
//! PIN_DIR/v2/fast_path/..      links of the fast path, as `fast_path::link` names them
//! ```
//!
//! Invariants: `v2` is the layout of [`ABI_VERSION`], and maps of another layout are never opened;
//! one process at a time holds the lock on it. bpffs reserves the dot in names, so interface names
//! are escaped.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use portreeve_ebpf::ABI_VERSION;

use super::DatapathError;

const TCX: &str = "tc-";
const CLSACT: &str = "clsact-";
const SK_LOOKUP: &str = "sk_lookup";

/// The pin directory in the layout of this build.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

/// What a pin in `links` belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attachment {
    /// TCX link of an interface; a link follows the index, not the name.
    Tcx {
        /// Index of the interface.
        index: u32,
        /// Name of the interface.
        interface: String,
    },
    /// clsact filter of an interface.
    Clsact(String),
    /// Socket lookup of the network namespace.
    SkLookup,
}

/// Held by the process that uses the pins; released when dropped.
#[derive(Debug)]
pub(super) struct PinLock {
    _lock: Flock<File>,
}

impl Pins {
    /// Names the directories; touches nothing.
    pub(super) fn new(pin_dir: &Path) -> Self {
        Self { root: pin_dir.to_owned() }
    }

    /// Makes the directories and takes the lock.
    pub(super) fn open(&self) -> Result<PinLock, DatapathError> {
        if let Some(found) = self.layouts()?.into_iter().find(|name| *name != layout()) {
            return Err(DatapathError::OtherLayout { path: self.root.clone(), found, expected: layout() });
        }
        for dir in [self.maps_dir(), self.links_dir(), self.fast_path_dir()] {
            fs::create_dir_all(&dir).map_err(|source| DatapathError::PinDir { path: dir, source })?;
        }
        let path = self.root.join(layout());
        let file =
            File::open(&path).map_err(|source| DatapathError::PinDir { path: path.clone(), source })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(PinLock { _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => Err(DatapathError::InUse { path: self.root.clone() }),
            Err((_, errno)) => Err(DatapathError::PinDir { path, source: errno.into() }),
        }
    }

    /// Path of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps_dir().join(name)
    }

    /// Path of an attachment.
    pub(super) fn attachment(&self, attachment: &Attachment) -> PathBuf {
        self.links_dir().join(attachment.file_name())
    }

    /// What is attached, in a stable order; nothing when there are no pins.
    pub(super) fn attachments(&self) -> Result<Vec<Attachment>, DatapathError> {
        let names = list(&self.links_dir())?;
        let mut found: Vec<_> = names.iter().filter_map(|name| Attachment::parse(name)).collect();
        found.sort();
        Ok(found)
    }

    /// Whether any layout has pins.
    pub(super) fn exist(&self) -> Result<bool, DatapathError> {
        Ok(!self.layouts()?.is_empty())
    }

    /// Removes the pins of every layout: maps and TCX links go with their last reference.
    pub(super) fn remove_all(&self) -> Result<(), DatapathError> {
        for name in self.layouts()? {
            let path = self.root.join(name);
            fs::remove_dir_all(&path).map_err(|source| DatapathError::PinDir { path, source })?;
        }
        match fs::remove_dir(&self.root) {
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty)
                    && error.raw_os_error() != Some(nix::libc::EBUSY) =>
            {
                Err(DatapathError::PinDir { path: self.root.clone(), source: error })
            }
            // Busy: it is the mount point itself.
            _ => Ok(()),
        }
    }

    /// Directory of the links of the fast path.
    pub(super) fn fast_path_dir(&self) -> PathBuf {
        self.root.join(layout()).join("fast_path")
    }

    fn layouts(&self) -> Result<Vec<String>, DatapathError> {
        let names = list(&self.root)?;
        Ok(names.into_iter().filter(|name| is_layout(name)).collect())
    }

    fn maps_dir(&self) -> PathBuf {
        self.root.join(layout()).join("maps")
    }

    fn links_dir(&self) -> PathBuf {
        self.root.join(layout()).join("links")
    }
}

impl Attachment {
    /// Name of the interface, where it is to one.
    pub(super) fn interface(&self) -> Option<&str> {
        match self {
            Self::Tcx { interface, .. } | Self::Clsact(interface) => Some(interface),
            Self::SkLookup => None,
        }
    }

    fn file_name(&self) -> String {
        match self {
            Self::Tcx { index, interface } => format!("{TCX}{index}-{}", escape(interface)),
            Self::Clsact(interface) => format!("{CLSACT}{}", escape(interface)),
            Self::SkLookup => SK_LOOKUP.to_owned(),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        if let Some((index, interface)) = name.strip_prefix(TCX).and_then(|rest| rest.split_once('-')) {
            Some(Self::Tcx { index: index.parse().ok()?, interface: unescape(interface) })
        } else if let Some(interface) = name.strip_prefix(CLSACT) {
            Some(Self::Clsact(unescape(interface)))
        } else {
            (name == SK_LOOKUP).then_some(Self::SkLookup)
        }
    }
}

/// Pins a link: it outlives the process.
pub(super) fn pin(link: FdLink, path: &Path) -> Result<(), DatapathError> {
    link.pin(path)
        .map(drop)
        .map_err(|source| DatapathError::Pin { path: path.to_owned(), source: Box::new(source) })
}

/// Removes a pin.
pub(super) fn remove(path: &Path) -> Result<(), DatapathError> {
    fs::remove_file(path).map_err(|source| DatapathError::PinDir { path: path.to_owned(), source })
}

fn layout() -> String {
    format!("v{ABI_VERSION}")
}

fn is_layout(name: &str) -> bool {
    name.strip_prefix('v').is_some_and(|version| version.parse::<u32>().is_ok())
}

fn escape(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

/// Names in a directory; none when it is missing.
pub(super) fn list(dir: &Path) -> Result<Vec<String>, DatapathError> {
    let error = |source| DatapathError::PinDir { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(error(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(error)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn interface_names_survive(interface in "[a-z0-9.%2e-]{1,15}") {
            let tcx = Attachment::Tcx { index: 7, interface: interface.clone() };
            for attachment in [tcx, Attachment::Clsact(interface)] {
                let name = attachment.file_name();
                prop_assert!(!name.contains('.'), "{name}");
                prop_assert_eq!(Attachment::parse(&name), Some(attachment));
            }
        }
    }

    #[test]
    fn other_layout_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("v0/maps")).unwrap();
        let error = Pins::new(dir.path()).open().unwrap_err();
        assert!(matches!(error, DatapathError::OtherLayout { found, .. } if found == "v0"));
    }

    #[test]
    fn second_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::new(dir.path());
        let held = pins.open().unwrap();
        assert!(matches!(pins.open().unwrap_err(), DatapathError::InUse { .. }));
        drop(held);
        pins.open().unwrap();
    }

    #[test]
    fn missing_directory_has_no_attachments() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::new(&dir.path().join("absent"));
        assert_eq!(pins.attachments().unwrap(), []);
        assert!(!pins.exist().unwrap());
        pins.remove_all().unwrap();
    }
}
