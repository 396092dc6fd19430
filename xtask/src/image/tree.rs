//! The root as it is in the image: packages, without what only package managers need, and what is ours.
//!
//! Invariants: owners are root's and modes 0644 or 0755 for all that comes from the repository, whatever the umask
//! here was; services are enabled by presets alone, those of Debian's packages by none.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::recipe::{Recipe, data};
use super::rootfs::{self, Rootfs};
use crate::workspace::require;

/// Directories that are mounted over.
const EMPTY: &[&str] = &["boot", "dev", "efi", "proc", "run", "sys", "tmp", "var"];

/// The root, and what leaves it for the kernel image.
#[derive(Debug)]
pub(super) struct Tree {
    /// The root.
    pub(super) root: PathBuf,
    /// The kernel.
    pub(super) kernel: PathBuf,
    /// Its release.
    pub(super) release: String,
    /// systemd's programs for UEFI.
    pub(super) efi: PathBuf,
    /// busybox, which only the initrd has.
    pub(super) busybox: PathBuf,
}

impl Tree {
    /// Makes the tree in `work`.
    ///
    /// # Errors
    /// When a file cannot be read or written, or a program of the root fails.
    pub(super) fn new(rootfs: &Rootfs, work: &Path) -> anyhow::Result<Self> {
        let root = work.join("root");
        require(
            Command::new("cp").args(["--archive", "--no-target-directory"]).arg(&rootfs.directory).arg(&root),
        )?;
        let release = release(&root)?;
        let tree = Self {
            kernel: work.join("vmlinuz"),
            efi: work.join("efi"),
            busybox: work.join("busybox"),
            release,
            root,
        };
        fs::copy(tree.root.join(format!("boot/vmlinuz-{}", tree.release)), &tree.kernel)?;
        fs::copy(tree.root.join("usr/bin/busybox"), &tree.busybox)?;
        copy(&tree.root.join("usr/lib/systemd/boot/efi"), &tree.efi)?;
        Ok(tree)
    }

    /// Takes away what the running system does not need and adds what is ours.
    ///
    /// # Errors
    /// As [`Tree::new`].
    pub(super) fn finish(&self, recipe: &Recipe, gateway: &Path) -> anyhow::Result<()> {
        self.prune()?;
        copy(&data().join("rootfs"), &self.root)?;
        let units = data().join("systemd");
        if units.is_dir() {
            copy(&units, &self.root.join("usr/lib/systemd/system"))?;
        }
        let inside = self.root.join("usr/bin/portreeve");
        require(Command::new("strip").arg("-o").arg(&inside).arg(gateway))?;
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o755))?;
        let os_release = self.root.join("usr/lib/os-release");
        let debian = fs::read_to_string(&os_release).context("no os-release")?;
        fs::write(&os_release, identified(&debian, recipe))?;
        self.inside(&["systemctl", "preset-all"])?;
        self.inside(&["systemd-sysusers"])?;
        for place in EMPTY {
            fs::create_dir_all(self.root.join(place))?;
        }
        Ok(())
    }

    /// Patterns are the shell's to read; each is relative and checked by [`rootfs::pruned`].
    fn prune(&self) -> anyhow::Result<()> {
        let patterns = rootfs::pruned()?.join(" ");
        let mut command = Command::new("sh");
        require(command.args(["-c", &format!("rm -rf -- {patterns}")]).current_dir(&self.root))
    }

    /// Runs a program of the root in it.
    fn inside(&self, program: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("chroot");
        command
            .arg(&self.root)
            .args(program)
            .env("SYSTEMD_LOG_LEVEL", "warning")
            .env("SOURCE_DATE_EPOCH", "0");
        require(&mut command)
    }
}

/// The one kernel that is installed.
fn release(root: &Path) -> anyhow::Result<String> {
    let mut releases = fs::read_dir(root.join("usr/lib/modules"))?.collect::<Result<Vec<_>, _>>()?;
    let (Some(release), None) = (releases.pop(), releases.pop()) else {
        bail!("not one kernel in {}", root.display());
    };
    release.file_name().into_string().ok().context("a release that is no text")
}

/// Debian's `os-release` with what systemd-sysupdate reads.
fn identified(debian: &str, recipe: &Recipe) -> String {
    let (version, variant) = (&recipe.version, recipe.variant());
    format!("{debian}IMAGE_ID=portreeve\nIMAGE_VERSION={version}\nVARIANT_ID={variant}\n")
}

/// Copies what is in a directory into another one; links stay links.
///
/// # Errors
/// When a file cannot be read or written.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (source, target, kind) = (entry.path(), to.join(entry.file_name()), entry.file_type()?);
        if kind.is_dir() {
            copy(&source, &target)?;
            continue;
        }
        if target.symlink_metadata().is_ok() {
            fs::remove_file(&target)?;
        }
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else {
            let mode = if entry.metadata()?.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::copy(&source, &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o755))?)
}
