//! The root as it is in the image: packages, without what only package managers need, and what is ours.
//!
//! Invariants: owners are root's and modes 0644 or 0755 for all that comes from the repository, whatever the umask
//! here was; services are enabled by presets alone, those of Debian's packages by none.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::assemble::Inputs;
use super::recipe::{Recipe, data};
use super::rootfs::{self, Rootfs};
use crate::build;
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
    pub(super) fn finish(&self, inputs: &Inputs<'_>) -> anyhow::Result<()> {
        self.prune()?;
        // What was deleted is not looked for.
        self.inside(&["depmod", &self.release])?;
        copy(&data().join("rootfs"), &self.root)?;
        let units = data().join("systemd");
        if units.is_dir() {
            copy(&units, &self.root.join("usr/lib/systemd/system"))?;
        }
        let inside = self.root.join("usr/bin/portreeve");
        build::strip(inputs.gateway, &inside)?;
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o755))?;
        let os_release = self.root.join("usr/lib/os-release");
        let debian = fs::read_to_string(&os_release).context("no os-release")?;
        fs::write(&os_release, identified(&debian, inputs.recipe))?;
        inputs.keys.map_or(Ok(()), |keys| keys.trust(&self.root))?;
        if let Some(url) = inputs.update_url {
            self.updates_from(url)?;
        }
        inputs.overlay.map_or(Ok(()), |files| copy(files, &self.root))?;
        self.inside(&["systemctl", "--quiet", "preset-all"])?;
        self.inside(&["systemd-sysusers"])?;
        for place in EMPTY {
            fs::create_dir_all(self.root.join(place))?;
        }
        Ok(())
    }

    /// Definitions like those for the local directory, as systemd-sysupdate's component `url`.
    fn updates_from(&self, url: &str) -> anyhow::Result<()> {
        let (local, remote) =
            (self.root.join("usr/lib/sysupdate.d"), self.root.join("usr/lib/sysupdate.url.d"));
        copy(&local, &remote)?;
        for file in fs::read_dir(&remote)? {
            let file = file?.path();
            let text = from_url(&fs::read_to_string(&file)?, url);
            fs::write(&file, text.with_context(|| format!("{} has no local source", file.display()))?)?;
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

/// The definition of a transfer with another source; `None` when it has not the local one.
fn from_url(transfer: &str, url: &str) -> Option<String> {
    const LOCAL: &str = "Type=regular-file\nPath=/var/lib/portreeve-updates\n";
    transfer.contains(LOCAL).then(|| transfer.replacen(LOCAL, &format!("Type=url-file\nPath={url}\n"), 1))
}

/// Debian's `os-release` with what systemd-sysupdate reads, and the name that the boot loader shows.
fn identified(debian: &str, recipe: &Recipe) -> String {
    let (version, variant) = (&recipe.version, recipe.variant());
    let kept = debian.lines().filter(|line| !line.starts_with("PRETTY_NAME="));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    format!(
        "PRETTY_NAME=\"portreeve {version}\"\n{kept}IMAGE_ID=portreeve\nIMAGE_VERSION={version}\nVARIANT_ID={variant}\n"
    )
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

#[cfg(test)]
mod tests {
    use super::super::recipe::Flavour;
    use super::*;

    #[test]
    fn every_transfer_can_come_from_an_url() {
        let mut found = 0;
        for file in fs::read_dir(data().join("rootfs/usr/lib/sysupdate.d")).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let remote = from_url(&text, "https://updates.example").unwrap();
            assert!(remote.contains(
                "[Source]\nType=url-file\nPath=https://updates.example\nMatchPattern=portreeve_@v_%W"
            ));
            assert!(remote.contains("[Target]\n"));
            found += 1;
        }
        assert_eq!(found, 3);
    }

    #[test]
    fn updates_know_version_and_variant_by_os_release() {
        let recipe = Recipe { flavour: Flavour::Hardware, frr: true, version: "1.2".to_owned() };
        let text = identified("PRETTY_NAME=\"Debian\"\nID=debian\n", &recipe);
        assert_eq!(
            text,
            "PRETTY_NAME=\"portreeve 1.2\"\nID=debian\nIMAGE_ID=portreeve\nIMAGE_VERSION=1.2\nVARIANT_ID=hardware-frr\n"
        );
    }
}
