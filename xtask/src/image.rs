//! `cargo xtask image`: the appliance's disk, and what updates one.
//!
//! Everything is a function of the commit, the lock of package versions and the keys that are given: no time, machine
//! path or random number gets in. Root is needed, since packages are installed into a directory. What is built lies
//! in `target/image`; [appliance-image/README.md](../../appliance-image/README.md) says what is in it.

mod disk;
mod initrd;
mod lock;
mod recipe;
mod rootfs;
mod tree;
mod uki;
mod verity;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::Context;
use sha2::{Digest as _, Sha256};

use self::recipe::{Flavour, Recipe};
use self::tree::Tree;
use self::verity::Verified;
use crate::workspace::{self, printed};
use crate::{build, setup};

/// Arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For virtual or for real machines.
    #[arg(long, value_enum, default_value_t = Flavour::Cloud)]
    flavour: Flavour,
    /// With a gateway that is built quickly, as tests want it.
    #[arg(long, conflicts_with = "release")]
    debug: bool,
    /// With an optimised gateway, which is the default.
    #[arg(long)]
    release: bool,
    /// With routing daemons.
    #[arg(long)]
    frr: bool,
    /// The image's version; without it, the workspace's.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// Write the versions that the mirror has now into the lock, and build nothing.
    #[arg(long)]
    update_lock: bool,
}

/// Builds an image.
///
/// # Errors
/// When a step fails.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    recipe::check_version(&args.version)?;
    let recipe = Recipe { flavour: args.flavour, frr: args.frr, version: args.version };
    let out = workspace::target_dir().join("image");
    let cache = out.join("cache");
    if args.update_lock {
        let differences = rootfs::update_lock(&recipe, &cache)?;
        println!("image: {} changes in {}", differences.len(), recipe.lock().display());
        differences.iter().for_each(|line| println!("  {line}"));
        return Ok(ExitCode::SUCCESS);
    }
    setup::ensure(setup::plan::Needs::IMAGE)?;
    let gateway = build::gateway(&build::Args { release: !args.debug, fips: false })?;
    let work = tempfile::tempdir_in(&out)?;
    write(&recipe, &gateway, work.path(), &out)?;
    Ok(ExitCode::SUCCESS)
}

/// Tells how long each step took.
struct Steps(Instant);

impl Steps {
    fn done(&mut self, step: &str) {
        println!("image: {step}: {:.1} s", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

fn write(recipe: &Recipe, gateway: &Path, work: &Path, out: &Path) -> anyhow::Result<()> {
    let mut steps = Steps(Instant::now());
    let epoch = epoch()?;
    let file = |end: &str| out.join(format!("{}.{end}", recipe.prefix()));
    let rootfs = rootfs::locked(recipe, &out.join("cache"))?;
    steps.done(&format!("{} packages", rootfs.lock.packages().count()));
    let tree = Tree::new(&rootfs, work)?;
    initrd::write(&tree, recipe.flavour, work, &file("initrd"))?;
    steps.done("initrd");
    tree.finish(recipe, gateway)?;
    steps.done("root");
    let verified = Verified::new(&tree.root, epoch, work)?;
    steps.done("erofs and verity");
    let command_line = uki::command_line(&verified.root_hash);
    let parts = uki::Parts {
        stub: &tree.efi.join("linuxx64.efi.stub"),
        kernel: &tree.kernel,
        release: &tree.release,
        initrd: &file("initrd"),
        os_release: &tree.root.join("usr/lib/os-release"),
        command_line: &command_line,
    };
    uki::write(&parts, work, &file("efi"))?;
    fs::copy(&tree.kernel, file("vmlinuz"))?;
    fs::write(file("cmdline"), &command_line)?;
    let loader = work.join("loader.conf");
    fs::write(&loader, "timeout 3\neditor no\n")?;
    let boot = [
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), tree.efi.join("systemd-bootx64.efi")),
        ("EFI/systemd/systemd-bootx64.efi".to_owned(), tree.efi.join("systemd-bootx64.efi")),
        (format!("EFI/Linux/{}", recipe.kernel_name()), file("efi")),
        ("loader/loader.conf".to_owned(), loader),
    ];
    let files: Vec<_> = boot.iter().map(|(inside, path)| (inside.clone(), path.as_path())).collect();
    let esp = work.join("esp");
    disk::boot_partition(&files, epoch, &esp)?;
    disk::write(recipe, &verified, &esp, &file("raw"))?;
    steps.done("disk");
    Ok(())
}

/// The commit's time in seconds, which every file has.
fn epoch() -> anyhow::Result<u64> {
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(workspace::root());
    printed(&mut git)?.trim().parse().context("git told no time")
}

/// SHA-256 of some texts, each with its end, in hexadecimal.
fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text);
        hash.update([0]);
    }
    hex::encode(hash.finalize())
}
