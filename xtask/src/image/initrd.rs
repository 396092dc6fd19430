//! The initrd: what finds and verifies the root, and nothing else.
//!
//! Holds busybox, veritysetup and blkid with their libraries, a few modules, and `appliance-image/initrd/init`. All
//! comes from the packages of the root, whose versions are locked. Modules lie uncompressed, since the whole is
//! compressed once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use portreeve_vm_tests::{initramfs, root};

use super::recipe::{Flavour, data, lines};
use super::tree::Tree;
use crate::workspace::{printed, require};

/// Programs that the script takes from busybox.
const APPLETS: &[&str] =
    &["cat", "grep", "modprobe", "mount", "sh", "sleep", "sort", "switch_root", "umount", "xargs"];
/// Programs that busybox lacks or has only in part.
const PROGRAMS: &[&str] = &["/usr/sbin/blkid", "/usr/sbin/veritysetup"];
/// Directories that are mounted over, or unpacked into.
const EMPTY: &[&str] = &["bin", "dev", "proc", "run", "sys", "sysroot", "usr"];
/// Links of a merged `/usr`, where programs look for their libraries.
const MERGED: &[&str] = &["lib", "lib64", "sbin"];

/// Writes the initrd of a tree that is not yet pruned.
///
/// # Errors
/// When something is not in the tree, or cannot be written.
pub(super) fn write(tree: &Tree, flavour: Flavour, work: &Path, to: &Path) -> anyhow::Result<()> {
    let inside = work.join("initrd");
    EMPTY.iter().try_for_each(|place| fs::create_dir_all(inside.join(place)))?;
    for name in MERGED {
        fs::create_dir_all(inside.join("usr").join(name))?;
        symlink(format!("usr/{name}"), inside.join(name))?;
    }
    place(&data().join("initrd/init"), &inside.join("init"))?;
    place(&tree.busybox, &inside.join("bin/busybox"))?;
    APPLETS.iter().try_for_each(|name| symlink("busybox", inside.join("bin").join(name)))?;
    // Where the kernel looks for it when a module asks for another one, as erofs does for its sums.
    symlink("/bin/modprobe", inside.join("usr/sbin/modprobe"))?;
    programs(tree, &inside)?;
    modules(tree, &lines(&data().join(format!("initrd/modules.{}", flavour.name())))?, &inside)?;
    let archive = work.join("initrd.cpio");
    let mut file = BufWriter::new(File::create(&archive)?);
    initramfs::write(&inside, &mut file)?;
    file.flush()?;
    require(
        Command::new("zstd").args(["--quiet", "--force", "-12", "--no-check", "-o"]).arg(to).arg(&archive),
    )
}

fn programs(tree: &Tree, inside: &Path) -> anyhow::Result<()> {
    let listed = printed(Command::new("chroot").arg(&tree.root).arg("ldd").args(PROGRAMS))?;
    for program in PROGRAMS {
        let name = Path::new(program).file_name().context("a program without a name")?;
        place(&tree.root.join(program.trim_start_matches('/')), &inside.join("bin").join(name))?;
    }
    for library in root::libraries(&listed)? {
        let library = library.trim_start_matches('/');
        place(&tree.root.join(library), &inside.join(library))?;
    }
    Ok(())
}

fn modules(tree: &Tree, names: &[String], inside: &Path) -> anyhow::Result<()> {
    let directory = Path::new("usr/lib/modules").join(&tree.release);
    let from = tree.root.join(&directory);
    let read = |name: &str| fs::read_to_string(from.join(name)).with_context(|| format!("no {name}"));
    let wanted =
        wanted(names, &read("modules.dep")?, &read("modules.builtin")?).map_err(|told| anyhow!(told))?;
    for module in wanted {
        let to = inside.join(&directory).join(&module);
        place(&from.join(&module), &to)?;
        require(Command::new("xz").args(["--decompress", "--quiet"]).arg(&to))?;
    }
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        place(&from.join(name), &inside.join(&directory).join(name))?;
    }
    require(Command::new("depmod").arg("--basedir").arg(inside).arg(&tree.release))
}

/// Files of the modules with these names and of those they depend on.
fn wanted(names: &[String], depends: &str, builtin: &str) -> Result<BTreeSet<String>, String> {
    let name_of = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split('.').next().unwrap_or(file).replace('-', "_")
    };
    let mut files = BTreeSet::new();
    for name in names {
        let plain = name.replace('-', "_");
        let line =
            depends.lines().filter_map(|line| line.split_once(':')).find(|(file, _)| name_of(file) == plain);
        match line {
            Some((file, needed)) => {
                files.extend(std::iter::once(file).chain(needed.split_whitespace()).map(str::to_owned));
            }
            None if builtin.lines().any(|file| name_of(file) == plain) => {}
            None => return Err(format!("this kernel has no module {name}")),
        }
    }
    Ok(files)
}

/// Copies a file, which anybody may run.
fn place(from: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(to.parent().context("no directory")?)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(to.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_with_what_they_depend_on_and_a_name_that_is_none_is_told() {
        let depends =
            "kernel/a/dm-verity.ko.xz: kernel/a/dm-mod.ko.xz kernel/l/rs.ko.xz\nkernel/a/dm-mod.ko.xz:\n";
        let builtin = "kernel/drivers/nvme/nvme.ko\n";
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = wanted(&names(&["dm_verity", "nvme"]), depends, builtin).unwrap();
        let files = ["kernel/a/dm-mod.ko.xz", "kernel/a/dm-verity.ko.xz", "kernel/l/rs.ko.xz"];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), files);
        assert!(wanted(&names(&["ahci"]), depends, builtin).unwrap_err().contains("ahci"));
    }
}
