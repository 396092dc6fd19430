//! Host keys of targets in the state directory: the first one pinned on first sight, others beside it as
//! the target proves to own them.
//!
//! Owns `STATE/known_hosts/`: one file for each target, named after its address and port as a socket
//! address is written (`10.1.2.3:22`, `[2001:db8::1]:22`), so that moving a target's pin is moving a
//! file. A file holds OpenSSH public-key lines (`ssh-ed25519 AAAA... comment`), any number of them,
//! all of which the target may show; the first one is what users know it by, so it stays first. Empty
//! lines and lines that start with `#` are ignored.
//!
//! Invariants: a pin appears whole or not at all and never replaces another (temporary file, fsync,
//! rename that refuses to overwrite, fsync of the directory), also between processes; keys are added
//! and forgotten by one process at a time; what cannot be read or parsed is an error and never a first
//! sight; nobody but the owner can write here.
//! Deliberately absent: the decision what a changed key means (the session's), trust by host
//! certificates, and async (a file is a few hundred bytes).

mod error;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use portreeve_core::net::OriginalDst;
use ssh_key::{Algorithm, HashAlg, PublicKey};

pub use self::error::KnownHostsError;

/// Most keys of a target that are pinned by themselves.
const MAX_KEYS: usize = 16;

/// The pinned host keys of all targets.
#[derive(Debug)]
pub struct KnownHosts {
    dir: PathBuf,
}

/// What is known about a host key that a target has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKeyVerdict {
    /// No key of this target is pinned yet.
    FirstSight,
    /// The key is one of those that are pinned.
    Known {
        /// All of them, in the order of the file.
        pinned: Vec<PublicKey>,
    },
    /// Other keys are pinned for this target.
    Changed {
        /// Their fingerprints, as `SHA256:...`.
        pinned: Vec<String>,
    },
}

impl HostKeyVerdict {
    /// The key that users know the target by: the one that was pinned first, as long as the target shows
    /// any of those that are pinned, else the one that it shows.
    pub fn identity<'a>(&'a self, shown: &'a PublicKey) -> &'a PublicKey {
        match self {
            Self::Known { pinned } => pinned.first().unwrap_or(shown),
            Self::FirstSight | Self::Changed { .. } => shown,
        }
    }
}

/// The pins of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedTarget {
    /// Where the target is.
    pub dst: OriginalDst,
    /// The keys it may show, in the order of the file.
    pub keys: Vec<PublicKey>,
}

impl KnownHosts {
    /// Opens the pins below `state_dir`, making their directory (0700) where it is missing.
    ///
    /// # Errors
    /// [`KnownHostsError::Io`], or [`KnownHostsError::WritableByOthers`].
    pub fn open(state_dir: &Path) -> Result<Self, KnownHostsError> {
        let dir = state_dir.join("known_hosts");
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                return Err(failed("create", &dir)(source));
            }
            Ok(()) | Err(_) => {}
        }
        let mode = dir.metadata().map_err(failed("read", &dir))?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(KnownHostsError::WritableByOthers { path: dir });
        }
        Ok(Self { dir })
    }

    /// Compares a key that the target at `dst` has proven to own with what is pinned.
    ///
    /// # Errors
    /// [`KnownHostsError`] when the pins cannot be read; the target must not be trusted then.
    pub fn check(&self, dst: OriginalDst, key: &PublicKey) -> Result<HostKeyVerdict, KnownHostsError> {
        let Some(pinned) = self.read(dst)? else {
            return Ok(HostKeyVerdict::FirstSight);
        };
        if contains(&pinned, key) {
            return Ok(HostKeyVerdict::Known { pinned });
        }
        Ok(HostKeyVerdict::Changed { pinned: fingerprints(&pinned) })
    }

    /// The algorithms of the pinned keys in the order of the file, to be asked for first: a target that
    /// has keys of several kinds then shows one that is known.
    ///
    /// # Errors
    /// [`KnownHostsError`] when the pins cannot be read.
    pub fn preferred_algorithms(&self, dst: OriginalDst) -> Result<Vec<Algorithm>, KnownHostsError> {
        Ok(self.read(dst)?.unwrap_or_default().iter().map(PublicKey::algorithm).collect())
    }

    /// Pins the key of a target at first sight; pinning the same key again is fine.
    ///
    /// # Errors
    /// [`KnownHostsError::PinnedOtherwise`] when something else is pinned by now, which stays;
    /// any other [`KnownHostsError`] when it cannot be read or written.
    pub fn pin(&self, dst: OriginalDst, key: &PublicKey) -> Result<(), KnownHostsError> {
        let line = key.to_openssh().map_err(|source| KnownHostsError::Unwritable { dst, source })?;
        let path = self.path(dst);
        let fresh = self.write_temporary(&line)?;
        let renamed = renameat2(AT_FDCWD, &fresh, AT_FDCWD, &path, RenameFlags::RENAME_NOREPLACE);
        if let Err(errno) = renamed {
            std::fs::remove_file(&fresh).map_err(failed("remove", &fresh))?;
            if errno != nix::errno::Errno::EEXIST {
                return Err(failed("create", &path)(errno.into()));
            }
            return match self.check(dst, key)? {
                HostKeyVerdict::Known { .. } => Ok(()),
                HostKeyVerdict::FirstSight => {
                    Err(KnownHostsError::PinnedOtherwise { dst, pinned: Vec::new() })
                }
                HostKeyVerdict::Changed { pinned } => Err(KnownHostsError::PinnedOtherwise { dst, pinned }),
            };
        }
        self.sync_directory()
    }

    /// Pins `further` keys, which a target has proven to own, beside `shown`, the one it has shown; at most
    /// [`MAX_KEYS`] in all. Says which are new. None are while another process changes pins, or when `shown`
    /// is not pinned any more: the next session is as good.
    ///
    /// # Errors
    /// [`KnownHostsError`] when the pins cannot be read or written; they are as before then.
    pub fn add(
        &self,
        dst: OriginalDst,
        shown: &PublicKey,
        further: Vec<PublicKey>,
    ) -> Result<Vec<PublicKey>, KnownHostsError> {
        let directory = self.directory()?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Vec::new()),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &self.dir)(source)),
        }
        let path = self.path(dst);
        let Some(mut text) = self.read_text(&path)? else { return Ok(Vec::new()) };
        let pinned = parse(&path, &text)?;
        if !contains(&pinned, shown) {
            return Ok(Vec::new());
        }
        let room = MAX_KEYS.saturating_sub(pinned.len());
        let new: Vec<_> = further.into_iter().filter(|key| !contains(&pinned, key)).take(room).collect();
        for key in &new {
            let line = key.to_openssh().map_err(|source| KnownHostsError::Unwritable { dst, source })?;
            text.truncate(text.trim_end().len());
            text.push('\n');
            text.push_str(&line);
        }
        if !new.is_empty() {
            let fresh = self.write_temporary(&text)?;
            std::fs::rename(&fresh, &path).map_err(failed("replace", &path))?;
            self.sync_directory()?;
        }
        Ok(new)
    }

    /// Forgets a target, so that its next key is seen first again; says whether it was known.
    ///
    /// # Errors
    /// [`KnownHostsError::Io`].
    pub fn forget(&self, dst: OriginalDst) -> Result<bool, KnownHostsError> {
        let directory = self.directory()?;
        directory.lock().map_err(failed("lock", &self.dir))?;
        let path = self.path(dst);
        match std::fs::remove_file(&path) {
            Ok(()) => self.sync_directory().map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("remove", &path)(error)),
        }
    }

    /// All pins, ordered by address and port.
    ///
    /// # Errors
    /// [`KnownHostsError`] for the first file that cannot be read.
    pub fn list(&self) -> Result<Vec<PinnedTarget>, KnownHostsError> {
        let mut targets = Vec::new();
        for entry in self.dir.read_dir().map_err(failed("list", &self.dir))? {
            let path = entry.map_err(failed("list", &self.dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with('.') {
                continue;
            }
            let Ok(addr) = name.parse::<SocketAddr>() else {
                return Err(KnownHostsError::BadName { path });
            };
            let dst = OriginalDst::new(addr);
            if let Some(keys) = self.read(dst)? {
                targets.push(PinnedTarget { dst, keys });
            }
        }
        targets.sort_by_key(|target| target.dst);
        Ok(targets)
    }

    fn path(&self, dst: OriginalDst) -> PathBuf {
        self.dir.join(dst.to_string())
    }

    /// The pinned keys of a target, or `None` where there is no file.
    fn read(&self, dst: OriginalDst) -> Result<Option<Vec<PublicKey>>, KnownHostsError> {
        let path = self.path(dst);
        self.read_text(&path)?.map(|text| parse(&path, &text)).transpose()
    }

    fn read_text(&self, path: &Path) -> Result<Option<String>, KnownHostsError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", path)(error)),
        }
    }

    /// Writes a new file that has a name of its own, synced to the disk.
    fn write_temporary(&self, text: &str) -> Result<PathBuf, KnownHostsError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!(".new-{}-{serial}", std::process::id()));
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            writeln!(file, "{text}")?;
            file.sync_all()
        };
        write().map_err(failed("write", &path))?;
        Ok(path)
    }

    fn sync_directory(&self) -> Result<(), KnownHostsError> {
        self.directory()?.sync_all().map_err(failed("sync", &self.dir))
    }

    /// The directory, to lock and sync it; locks end with the handle.
    fn directory(&self) -> Result<File, KnownHostsError> {
        File::open(&self.dir).map_err(failed("open", &self.dir))
    }
}

fn parse(path: &Path, text: &str) -> Result<Vec<PublicKey>, KnownHostsError> {
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = PublicKey::from_openssh(line).map_err(|source| KnownHostsError::BadLine {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(KnownHostsError::Empty { path: path.to_owned() });
    }
    Ok(keys)
}

/// Comments do not matter.
fn contains(keys: &[PublicKey], key: &PublicKey) -> bool {
    keys.iter().any(|known| known.key_data() == key.key_data())
}

/// As `SHA256:...`.
pub fn fingerprints(keys: &[PublicKey]) -> Vec<String> {
    keys.iter().map(|key| key.fingerprint(HashAlg::Sha256).to_string()).collect()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KnownHostsError {
    move |source| KnownHostsError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use ssh_key::private::Ed25519Keypair;

    use super::*;

    fn key(seed: u8) -> PublicKey {
        ssh_key::PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32])).public_key().clone()
    }

    fn known(seeds: &[u8]) -> HostKeyVerdict {
        HostKeyVerdict::Known { pinned: seeds.iter().copied().map(key).collect() }
    }

    fn dst(text: &str) -> OriginalDst {
        OriginalDst::new(text.parse().unwrap())
    }

    fn opened() -> (tempfile::TempDir, KnownHosts) {
        let state = tempfile::tempdir().unwrap();
        let hosts = KnownHosts::open(state.path()).unwrap();
        (state, hosts)
    }

    #[test]
    fn first_sight_then_known_then_changed() {
        let (_state, hosts) = opened();
        let target = dst("[2001:db8::1]:22");
        assert_eq!(hosts.check(target, &key(1)).unwrap(), HostKeyVerdict::FirstSight);
        hosts.pin(target, &key(1)).unwrap();
        assert_eq!(hosts.check(target, &key(1)).unwrap(), known(&[1]));
        let pinned = vec![key(1).fingerprint(HashAlg::Sha256).to_string()];
        assert_eq!(hosts.check(target, &key(2)).unwrap(), HostKeyVerdict::Changed { pinned });
    }

    #[test]
    fn a_pin_survives_reopening_and_is_private() {
        let (state, hosts) = opened();
        hosts.pin(dst("10.1.2.3:22"), &key(1)).unwrap();
        let dir = state.path().join("known_hosts");
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(dir.join("10.1.2.3:22").metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let again = KnownHosts::open(state.path()).unwrap();
        assert_eq!(again.check(dst("10.1.2.3:22"), &key(1)).unwrap(), known(&[1]));
        assert_eq!(again.check(dst("10.1.2.3:2222"), &key(1)).unwrap(), HostKeyVerdict::FirstSight);
    }

    #[test]
    fn pinning_never_replaces_another_key() {
        let (state, hosts) = opened();
        let target = dst("10.1.2.3:22");
        hosts.pin(target, &key(1)).unwrap();
        hosts.pin(target, &key(1)).unwrap();
        assert!(matches!(hosts.pin(target, &key(2)), Err(KnownHostsError::PinnedOtherwise { .. })));
        assert_eq!(hosts.check(target, &key(1)).unwrap(), known(&[1]));
        let files = state.path().join("known_hosts").read_dir().unwrap().count();
        assert_eq!(files, 1, "no temporary file is left");
    }

    #[test]
    fn of_concurrent_first_sights_exactly_one_key_wins() {
        let (_state, hosts) = opened();
        let target = dst("10.1.2.3:22");
        let start = Barrier::new(8);
        let (hosts, start) = (&hosts, &start);
        let winners: Vec<u8> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8u8)
                .map(|seed| {
                    scope.spawn(move || {
                        start.wait();
                        hosts.pin(target, &key(seed)).is_ok().then_some(seed)
                    })
                })
                .collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(winners.len(), 1);
        assert_eq!(hosts.check(target, &key(winners[0])).unwrap(), known(&winners));
    }

    #[test]
    fn several_keys_fit_and_are_preferred_in_their_order() {
        let (state, hosts) = opened();
        let lines = format!(
            "# given by hand\n\n{}\n{}\n",
            key(3).to_openssh().unwrap(),
            key(4).to_openssh().unwrap()
        );
        std::fs::write(state.path().join("known_hosts/10.1.2.3:22"), lines).unwrap();
        let target = dst("10.1.2.3:22");
        assert_eq!(hosts.check(target, &key(4)).unwrap(), known(&[3, 4]));
        assert_eq!(hosts.preferred_algorithms(target).unwrap(), [Algorithm::Ed25519, Algorithm::Ed25519]);
        assert_eq!(hosts.preferred_algorithms(dst("10.1.2.4:22")).unwrap(), []);
    }

    #[test]
    fn further_keys_come_after_the_first_which_stays_the_identity() {
        let (state, hosts) = opened();
        let target = dst("10.1.2.3:22");
        hosts.pin(target, &key(1)).unwrap();
        let added = hosts.add(target, &key(1), vec![key(2), key(1), key(3)]).unwrap();
        assert_eq!(added, [key(2), key(3)]);
        let verdict = hosts.check(target, &key(3)).unwrap();
        assert_eq!(verdict, known(&[1, 2, 3]));
        assert_eq!(verdict.identity(&key(3)), &key(1));
        assert_eq!(hosts.check(target, &key(4)).unwrap().identity(&key(4)), &key(4), "a changed key shows");
        assert_eq!(hosts.add(target, &key(2), vec![key(3)]).unwrap(), [], "nothing is new");
        let names = state.path().join("known_hosts").read_dir().unwrap();
        assert_eq!(names.count(), 1, "no temporary file is left");
    }

    #[test]
    fn keys_are_added_only_beside_the_one_that_is_shown_and_only_so_many() {
        let (state, hosts) = opened();
        let target = dst("10.1.2.3:22");
        assert_eq!(hosts.add(target, &key(1), vec![key(2)]).unwrap(), [], "a target that was forgotten");
        assert_eq!(hosts.check(target, &key(2)).unwrap(), HostKeyVerdict::FirstSight);
        let path = state.path().join("known_hosts/10.1.2.3:22");
        std::fs::write(&path, format!("# by hand\n{} root@a b\n\n\n", key(1).to_openssh().unwrap())).unwrap();
        assert_eq!(hosts.add(target, &key(9), vec![key(2)]).unwrap(), [], "pinned otherwise by now");
        assert_eq!(hosts.add(target, &key(1), (2..40).map(key).collect()).unwrap().len(), MAX_KEYS - 1);
        assert_eq!(hosts.list().unwrap()[0].keys.len(), MAX_KEYS);
        assert_eq!(hosts.add(target, &key(1), vec![key(90)]).unwrap(), []);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("# by hand\nssh-ed25519 ") && text.contains(" root@a b\nssh-ed25519"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_added_while_another_process_changes_pins() {
        let (state, hosts) = opened();
        let target = dst("10.1.2.3:22");
        hosts.pin(target, &key(1)).unwrap();
        let other = File::open(state.path().join("known_hosts")).unwrap();
        other.lock().unwrap();
        assert_eq!(hosts.add(target, &key(1), vec![key(2)]).unwrap(), []);
        other.unlock().unwrap();
        assert_eq!(hosts.add(target, &key(1), vec![key(2)]).unwrap(), [key(2)]);
    }

    #[test]
    fn a_corrupt_file_is_never_a_first_sight() {
        let (state, hosts) = opened();
        let target = dst("10.1.2.3:22");
        let path = state.path().join("known_hosts/10.1.2.3:22");
        let good = key(1).to_openssh().unwrap();
        std::fs::write(&path, format!("{good}\n{}\n", &good[..30])).unwrap();
        assert!(matches!(hosts.check(target, &key(1)), Err(KnownHostsError::BadLine { line: 2, .. })));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(hosts.check(target, &key(1)), Err(KnownHostsError::Empty { .. })));
        assert!(matches!(hosts.pin(target, &key(1)), Err(KnownHostsError::Empty { .. })));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(hosts.check(target, &key(1)), Err(KnownHostsError::Io { .. })));
    }

    #[test]
    fn list_and_forget() {
        let (state, hosts) = opened();
        hosts.pin(dst("10.1.2.4:22"), &key(2)).unwrap();
        hosts.pin(dst("10.1.2.3:22"), &key(1)).unwrap();
        let listed: Vec<_> = hosts.list().unwrap().into_iter().map(|pin| pin.dst).collect();
        assert_eq!(listed, [dst("10.1.2.3:22"), dst("10.1.2.4:22")]);
        assert!(hosts.forget(dst("10.1.2.3:22")).unwrap());
        assert!(!hosts.forget(dst("10.1.2.3:22")).unwrap());
        assert_eq!(hosts.check(dst("10.1.2.3:22"), &key(9)).unwrap(), HostKeyVerdict::FirstSight);
        std::fs::write(state.path().join("known_hosts/notes.txt"), "x").unwrap();
        assert!(matches!(hosts.list(), Err(KnownHostsError::BadName { .. })));
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let (state, _hosts) = opened();
        let dir = state.path().join("known_hosts");
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(matches!(KnownHosts::open(state.path()), Err(KnownHostsError::WritableByOthers { .. })));
    }
}
