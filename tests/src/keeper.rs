//! Tearing a testbed down, however its owner ends.
//!
//! Crash-only: there is one way down. The owner holds the only writing end of a pipe to a keeper
//! process; when the owner tears down, panics, or is killed, the pipe closes, and the keeper ends
//! the processes of the testbed's namespaces, unmounts what is mounted below its directory, and
//! removes namespaces and directory. Should the keeper be killed too, the next start finds the
//! record unlocked and does the same.
//!
//! Invariants: what is torn down is named by the record alone; a process is ended by its pid, after
//! the kernel said that it is in one of the testbed's own namespaces; a directory is removed only
//! if it carries the testbed's mark.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::deadline::until;
use crate::netns::NAMES;
use crate::role::Role;

/// Where the records of living testbeds are.
const RECORDS: &str = "/run/portreeve-testbed";
/// A file in a testbed's directory that holds the testbed's id.
const MARK: &str = ".portreeve-testbed";
/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_millis(400);
const LIMIT: Duration = Duration::from_secs(60);

/// Read while a testbed starts; written, with `true`, when no more may start.
static CLOSED: RwLock<bool> = RwLock::new(false);
static KEEPERS: Mutex<Vec<Weak<Keeper>>> = Mutex::new(Vec::new());

/// What a testbed has made and must not leave behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Names the testbed.
    pub id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Whether the directory stays.
    pub keep_dir: bool,
    /// Names of its network namespaces.
    pub namespaces: Vec<String>,
}

/// The owner's side of a keeper process.
#[derive(Debug)]
pub struct Keeper {
    child: Mutex<Option<Child>>,
    /// Locked as long as the owner lives.
    _record: File,
}

/// Allows testbeds to start while it is held.
///
/// # Errors
/// When [`tear_down_all`] has been called.
pub fn starting() -> Result<RwLockReadGuard<'static, bool>> {
    let closed = CLOSED.read().unwrap_or_else(PoisonError::into_inner);
    if *closed {
        bail!("interrupted");
    }
    Ok(closed)
}

/// Tears down every testbed of this process and lets no other start.
///
/// # Errors
/// The first failure; the others are torn down all the same.
pub fn tear_down_all() -> Result<()> {
    *CLOSED.write().unwrap_or_else(PoisonError::into_inner) = true;
    let keepers = std::mem::take(&mut *KEEPERS.lock().unwrap_or_else(PoisonError::into_inner));
    let downs: Vec<_> = keepers.iter().filter_map(Weak::upgrade).map(|keeper| keeper.tear_down()).collect();
    downs.into_iter().collect()
}

impl Keeper {
    /// Records a testbed, marks its directory (which exists), and starts its keeper.
    ///
    /// # Errors
    /// When the record cannot be written or the keeper not started.
    pub fn start(record: &Record) -> Result<Arc<Self>> {
        fs::create_dir_all(RECORDS).with_context(|| format!("create {RECORDS}"))?;
        fs::write(record.dir.join(MARK), &record.id)?;
        let path = Path::new(RECORDS).join(format!("{}.json", record.id));
        // Locked before it has its name, so that no other start takes it for a leftover.
        let unnamed = path.with_extension("new");
        let file = OpenOptions::new().write(true).create_new(true).open(&unnamed)?;
        file.lock_shared()?;
        serde_json::to_writer(&file, record)?;
        fs::rename(&unnamed, &path)?;
        let mut command = Role::Keeper.command()?;
        command.arg(&path).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null());
        // A group of its own: Ctrl-C in the terminal is for the owner.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().context("start the keeper of the testbed")?;
        let keeper = Arc::new(Self { child: Mutex::new(Some(child)), _record: file });
        KEEPERS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&keeper));
        Ok(keeper)
    }

    /// Lets the keeper tear the testbed down and waits for it; the second call does nothing.
    ///
    /// # Errors
    /// When something is left behind.
    pub fn tear_down(&self) -> Result<()> {
        let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = slot.take() else { return Ok(()) };
        drop(child.stdin.take());
        let status = until("the keeper's end", LIMIT, || Ok(child.try_wait()?))?;
        if !status.success() {
            bail!("the testbed was not torn down completely");
        }
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.tear_down().ok();
    }
}

/// The keeper's whole life: waits until the owner's end of the pipe closes, then tears down.
///
/// # Errors
/// When something is left behind.
pub(crate) fn keep(path: &Path) -> Result<()> {
    let mut ignored = SigSet::empty();
    ignored.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]);
    ignored.thread_block()?;
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.lock_shared()?;
    let record: Record = serde_json::from_reader(&file)?;
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    tear_down(&record, path)
}

/// Tears down testbeds whose owner and keeper are both gone; returns their ids.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_leftovers() -> Result<Vec<String>> {
    let entries = match fs::read_dir(RECORDS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(RECORDS),
    };
    let mut removed = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(error).context("lock a testbed's record"),
            Ok(()) => {}
        }
        let record: Record =
            serde_json::from_reader(&file).with_context(|| format!("{}: remove it", path.display()))?;
        tear_down(&record, &path)?;
        removed.push(record.id);
    }
    Ok(removed)
}

fn tear_down(record: &Record, path: &Path) -> Result<()> {
    end_processes(&record.namespaces)?;
    unmount_below(&record.dir)?;
    for name in &record.namespaces {
        remove_namespace(name)?;
    }
    if !record.keep_dir {
        remove_marked(&record.dir, &record.id)?;
    } else {
        fs::remove_file(record.dir.join(MARK)).ok();
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("remove the record"),
        _ => Ok(()),
    }
}

fn end_processes(namespaces: &[String]) -> Result<()> {
    let mut inodes = Vec::new();
    for name in namespaces {
        if let Ok(meta) = fs::metadata(Path::new(NAMES).join(name)) {
            inodes.push((meta.dev(), meta.ino()));
        }
    }
    let begun = Instant::now();
    let mut told: Vec<Pid> = Vec::new();
    until("the end of the testbed's processes", LIMIT, || {
        let pids = processes_in(&inodes)?;
        let force = begun.elapsed() > GRACE;
        for pid in &pids {
            // A process that has ended meanwhile is what is wanted.
            if force {
                kill(*pid, Signal::SIGKILL).ok();
            } else if !told.contains(pid) {
                kill(*pid, Signal::SIGTERM).ok();
                told.push(*pid);
            }
        }
        Ok(pids.is_empty().then_some(()))
    })
}

fn processes_in(namespaces: &[(u64, u64)]) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(meta) = fs::metadata(entry.path().join("ns/net")) else { continue };
        if namespaces.contains(&(meta.dev(), meta.ino())) && pid != 1 && Pid::from_raw(pid) != Pid::this() {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

fn unmount_below(dir: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    for mount in mount_points(&mounts).into_iter().rev().filter(|mount| mount.starts_with(dir)) {
        umount2(&mount, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", mount.display()))?;
    }
    Ok(())
}

/// Mount points in the order they were mounted; mountinfo writes space, tab, newline and backslash in octal.
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    let unescape = |text: &str| {
        [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
            .iter()
            .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
    };
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .collect()
}

fn remove_namespace(name: &str) -> Result<()> {
    let path = Path::new(NAMES).join(name);
    if !path.exists() {
        return Ok(());
    }
    umount2(&path, MntFlags::MNT_DETACH).ok();
    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
}

fn remove_marked(dir: &Path, id: &str) -> Result<()> {
    match fs::read_to_string(dir.join(MARK)) {
        Err(error) if error.kind() == ErrorKind::NotFound && !dir.exists() => Ok(()),
        Ok(mark) if mark == id => {
            fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))
        }
        _ => bail!("{} does not carry the mark of testbed {id}; it stays", dir.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let text =
            "36 35 98:0 /r /mnt rw shared:1 - ext4 /dev/x rw\n37 36 0:5 / /mnt/a\\040b rw - bpf none rw\n";
        assert_eq!(mount_points(text), [PathBuf::from("/mnt"), PathBuf::from("/mnt/a b")]);
    }

    #[test]
    fn a_directory_without_the_mark_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(remove_marked(dir.path(), "abc").is_err());
        fs::write(dir.path().join(MARK), "other").unwrap();
        assert!(remove_marked(dir.path(), "abc").is_err());
        assert!(dir.path().exists());
        fs::write(dir.path().join(MARK), "abc").unwrap();
        remove_marked(dir.path(), "abc").unwrap();
        assert!(!dir.path().exists());
        remove_marked(dir.path(), "abc").unwrap();
    }

    #[test]
    fn a_record_survives_its_file() {
        let record = Record {
            id: "pt000000".into(),
            dir: "/nowhere".into(),
            keep_dir: true,
            namespaces: vec!["pt000000-c".into()],
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
