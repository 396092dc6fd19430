//! The steps from packages to a disk and the files of an update, one after the other.
//!
//! Everything is written into one directory; nothing is read from it that an earlier build left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context;

use super::disk::{self, BootFile};
use super::keys::Keys;
use super::recipe::Recipe;
use super::rootfs::{self, Rootfs};
use super::tree::Tree;
use super::verity::Verified;
use super::{formats, initrd, sbom, uki};
use crate::workspace::{self, printed};

/// The file by which updates are checked.
pub(super) const SUMS: &str = "SHA256SUMS";
/// What the boot loader does: no editing of command lines, and keys only where a person or a test asks for them.
const LOADER: &str = "timeout 3\neditor no\nsecure-boot-enroll if-safe\n";

/// What an image is built from, beside the repository.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    /// Which image.
    pub(super) recipe: &'a Recipe,
    /// The gateway's program.
    pub(super) gateway: &'a Path,
    /// The owner's keys; without them nothing is signed.
    pub(super) keys: Option<&'a Keys>,
    /// Where updates come from beside the local directory.
    pub(super) update_url: Option<&'a str>,
    /// Files of the owner's, laid over the root.
    pub(super) overlay: Option<&'a Path>,
    /// Whether disks are made of it; else only what an update is made of.
    pub(super) disks: bool,
    /// Whether the raw disk is among the sums. Most of it is holes, and this takes longer than all else.
    pub(super) raw_summed: bool,
    /// Whether the versions that the mirror has now will do where it has not those of the lock.
    pub(super) or_newest: bool,
    /// Where roots are kept between builds.
    pub(super) cache: &'a Path,
}

/// Tells how long each step took.
struct Steps(Instant);

impl Steps {
    fn done(&mut self, step: &str) {
        println!("image: {step}: {:.1} s", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

/// Builds everything into `out`; `work` is for what is on the way.
///
/// # Errors
/// When a step fails.
pub(super) fn build(inputs: &Inputs<'_>, work: &Path, out: &Path) -> anyhow::Result<()> {
    let recipe = inputs.recipe;
    let mut steps = Steps(Instant::now());
    let file = |end: &str| out.join(format!("{}.{end}", recipe.prefix()));
    let rootfs = packages(inputs)?;
    steps.done(&format!("{} packages", rootfs.lock.packages().count()));
    let tree = Tree::new(&rootfs, work)?;
    initrd::write(&tree, recipe.flavour, work, &file("initrd"))?;
    steps.done("initrd");
    tree.finish(inputs)?;
    steps.done("root");
    let (created, epoch) = commit()?;
    let verified = Verified::new(&tree.root, epoch, work)?;
    steps.done("erofs and verity");
    kernel_image(inputs, &tree, &verified, work, out)?;
    if inputs.disks {
        let esp = work.join("esp");
        disk::boot_partition(&boot_files(inputs, &tree, work, &file("efi"))?, epoch, &esp)?;
        disk::write(recipe, &verified, &esp, &file("raw"))?;
        steps.done("disk");
        formats::write(recipe, &file("raw"), epoch, work)?;
        steps.done("formats of hypervisors");
    }
    let partition = |uuid: String, end: &str| out.join(format!("{}_{uuid}.root.{end}", recipe.prefix()));
    fs::rename(&verified.root, partition(verified.root_uuid(), "erofs"))?;
    fs::rename(&verified.hashes, partition(verified.hashes_uuid(), "verity"))?;
    finish(inputs, &rootfs, &created, out)?;
    steps.done("list of contents and sums");
    Ok(())
}

/// The root of packages that all else is made from, which is kept.
///
/// # Errors
/// When it is not there and cannot be made.
pub(super) fn packages(inputs: &Inputs<'_>) -> anyhow::Result<Rootfs> {
    match rootfs::locked(inputs.recipe, inputs.cache) {
        Err(error) if inputs.or_newest => {
            println!("image: {error:#}\nimage: so with the versions that the mirror has now");
            rootfs::newest(inputs.recipe, inputs.cache)
        }
        locked => locked,
    }
}

/// The unified kernel image, and its parts for machines that are booted without a firmware that reads disks.
fn kernel_image(
    inputs: &Inputs<'_>,
    tree: &Tree,
    verified: &Verified,
    work: &Path,
    out: &Path,
) -> anyhow::Result<()> {
    let file = |end: &str| out.join(format!("{}.{end}", inputs.recipe.prefix()));
    let command_line = uki::command_line(&verified.root_hash);
    fs::write(file("cmdline"), &command_line)?;
    fs::copy(&tree.kernel, file("vmlinuz"))?;
    let parts = uki::Parts {
        stub: &tree.efi.join("linuxx64.efi.stub"),
        kernel: &tree.kernel,
        release: &tree.release,
        initrd: &file("initrd"),
        os_release: &tree.root.join("usr/lib/os-release"),
        command_line: &command_line,
    };
    uki::write(&parts, work, &file("efi"))?;
    inputs.keys.map_or(Ok(()), |keys| keys.sign(&file("efi")))
}

/// What lies on the boot partition.
fn boot_files(inputs: &Inputs<'_>, tree: &Tree, work: &Path, kernel: &Path) -> anyhow::Result<Vec<BootFile>> {
    let (boot_loader, settings) = (tree.efi.join("systemd-bootx64.efi"), work.join("loader.conf"));
    inputs.keys.map_or(Ok(()), |keys| keys.sign(&boot_loader))?;
    fs::write(&settings, LOADER)?;
    let own = [
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), boot_loader.clone()),
        ("EFI/systemd/systemd-bootx64.efi".to_owned(), boot_loader),
        (format!("EFI/Linux/{}", inputs.recipe.kernel_name()), kernel.to_owned()),
        ("loader/loader.conf".to_owned(), settings),
    ];
    Ok(own.into_iter().chain(inputs.keys.map(Keys::enrolled).unwrap_or_default()).collect())
}

/// The list of contents, and the sums of files, by which updates are checked.
fn finish(inputs: &Inputs<'_>, rootfs: &Rootfs, created: &str, out: &Path) -> anyhow::Result<()> {
    let list = sbom::document(inputs.recipe, &rootfs.lock, created)?;
    fs::write(out.join(format!("{}.spdx.json", inputs.recipe.prefix())), list)?;
    let files = files(out)?;
    for file in &files {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
    }
    let summed =
        files.iter().filter(|file| inputs.raw_summed || file.extension().is_none_or(|end| end != "raw"));
    Ok(fs::write(out.join(SUMS), sums(summed.map(PathBuf::as_path), out)?)?)
}

/// Sums of files in a directory, as sha256sum prints them.
fn sums<'a>(files: impl Iterator<Item = &'a Path>, directory: &Path) -> anyhow::Result<String> {
    printed(Command::new("sha256sum").args(files.filter_map(Path::file_name)).current_dir(directory))
}

/// Files in a directory, sorted.
///
/// # Errors
/// When it cannot be read.
pub(super) fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}

/// The commit's time, which every file has: as text, and in seconds.
fn commit() -> anyhow::Result<(String, u64)> {
    let asked = |format: &str| {
        let mut git = Command::new("git");
        git.args(["log", "-1", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", &format!("--format={format}")]);
        printed(git.current_dir(workspace::root()).env("TZ", "UTC"))
    };
    Ok((asked("%cd")?.trim().to_owned(), asked("%ct")?.trim().parse().context("git told no time")?))
}
