//! Seeds on volumes: those that a cloud or a person attaches to the machine.
//!
//! A volume is found by its label, mounted read-only in a mount namespace of this process alone, read and let go.
//! Invariant: what is on a volume is read, never run, and no link on it is followed out of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use portreeve_core::config::seed::MARK;

use super::{MAX_SEED, ProvisionError};

/// Labels, and what holds the seed there: NoCloud, a configuration drive, and a volume of a person's own.
const PLACES: [(&str, &str); 4] = [
    ("cidata", "user-data"),
    ("CIDATA", "user-data"),
    ("config-2", "openstack/latest/user_data"),
    ("PORTREEVE", "portreeve-seed.toml"),
];

/// Of the file that says itself what it is, the mark is not asked for.
const OWN: &str = "portreeve-seed.toml";

/// File systems of such volumes.
const KINDS: [&str; 3] = ["iso9660", "vfat", "ext4"];

/// Where a volume is mounted; nobody else sees it.
const MOUNT_POINT: &str = "/run/portreeve/volume";

/// The name and text of the seed on a volume with one of the labels in `by_label`; `None` where there is none.
///
/// # Errors
/// [`ProvisionError`] when two volumes hold one, or a volume with such a label none that can be read.
pub(super) fn find(by_label: &Path) -> Result<Option<(String, String)>, ProvisionError> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (label, file) in PLACES {
        let device = by_label.join(label);
        if !device.exists() {
            continue;
        }
        let name = format!("{label}:{file}");
        match read_volume(&device, file)? {
            Some(text) if file == OWN || is_marked(&text) => found.push((name, text)),
            // User data for somebody else, as cloud-init's, or none at all.
            Some(_) | None => {}
        }
    }
    match found.as_slice() {
        [] | [_] => Ok(found.pop()),
        [(first, _), (second, _), ..] => {
            Err(ProvisionError::Volume(format!("both {first} and {second} hold a seed: take one away")))
        }
    }
}

fn is_marked(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.trim_end() == MARK)
}

/// A file of a volume, read on a thread that alone sees the mount.
fn read_volume(device: &Path, file: &str) -> Result<Option<String>, ProvisionError> {
    let failed = |source| ProvisionError::Io { action: "read the volume", path: device.to_owned(), source };
    let reader = || -> io::Result<Option<String>> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        fs::create_dir_all(MOUNT_POINT)?;
        mount_any(device)?;
        let text = read_file(&Path::new(MOUNT_POINT).join(file));
        umount2(MOUNT_POINT, MntFlags::MNT_DETACH)?;
        text
    };
    thread::scope(|scope| match scope.spawn(reader).join() {
        Ok(read) => read.map_err(failed),
        Err(_) => Err(failed(io::Error::other("the reader has failed"))),
    })
}

fn mount_any(device: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let device: PathBuf = device.canonicalize()?;
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for kind in KINDS {
        match mount(Some(&device), MOUNT_POINT, Some(kind), flags, None::<&str>) {
            Ok(()) => return Ok(()),
            Err(errno) => last = errno.into(),
        }
    }
    Err(last)
}

fn read_file(path: &Path) -> io::Result<Option<String>> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if file.metadata()?.len() > MAX_SEED {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut text = String::new();
    file.take(MAX_SEED).read_to_string(&mut text)?;
    Ok(Some(text))
}
