//! `cargo xtask image`: the appliance's disk, and what updates one.
//!
//! Everything is a function of the commit, the lock of package versions and the keys that are given: no time, machine
//! path or random number gets in; `--check-reproducible` proves it. Root is needed, since packages are installed into
//! a directory. What is built lies in `target/image`; `appliance-image/README.md` says what is in it.

mod assemble;
mod disk;
mod formats;
mod initrd;
mod keys;
mod lock;
mod recipe;
mod rootfs;
mod sbom;
mod tree;
mod uki;
mod verity;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{bail, ensure};
use sha2::{Digest as _, Sha256};

use self::assemble::Inputs;
use self::keys::Keys;
use self::recipe::{Flavour, Recipe};
use crate::workspace;
use crate::{build, setup};

/// Arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For virtual or for real machines.
    #[arg(long, value_enum, default_value_t = Flavour::Cloud)]
    flavour: Flavour,
    /// With a gateway that is built quickly, and no disk but the raw one, as tests want it.
    #[arg(long, conflicts_with = "release")]
    debug: bool,
    /// With an optimised gateway, which is the default.
    #[arg(long)]
    release: bool,
    /// With routing daemons.
    #[arg(long)]
    frr: bool,
    /// The image's version.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// Sign with the keys of this directory; without it, nothing is signed.
    #[arg(long)]
    keys: Option<PathBuf>,
    /// Where the appliance finds updates beside its own directory.
    #[arg(long)]
    update_url: Option<String>,
    /// Build twice, from packages on, and compare.
    #[arg(long)]
    check_reproducible: bool,
    /// Write the versions that the mirror has now into the lock, and build nothing.
    #[arg(long, conflicts_with = "check_reproducible")]
    update_lock: bool,
}

/// Builds an image.
///
/// # Errors
/// When a step fails, or two builds differ.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    recipe::check_version(&args.version)?;
    let recipe = Recipe { flavour: args.flavour, frr: args.frr, version: args.version };
    let keys = args.keys.as_deref().map(Keys::new).transpose()?;
    let out = workspace::target_dir().join("image");
    let cache = out.join("cache");
    setup::ensure(setup::plan::Needs::IMAGE)?;
    if args.update_lock {
        let differences = rootfs::update_lock(&recipe, &cache)?;
        println!("image: {} changes in {}", differences.len(), recipe.lock().display());
        differences.iter().for_each(|line| println!("  {line}"));
        return Ok(ExitCode::SUCCESS);
    }
    let gateway = build::gateway(&build::Args { release: !args.debug, fips: false })?;
    let inputs = Inputs {
        recipe: &recipe,
        gateway: &gateway,
        keys: keys.as_ref(),
        update_url: args.update_url.as_deref(),
        converted: !args.debug,
        cache: &cache,
    };
    fs::create_dir_all(&out)?;
    if args.check_reproducible {
        check_reproducible(&inputs, &out)?;
    } else {
        built(&inputs, &out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds beside what is there, and puts it in its place when it is whole.
fn built(inputs: &Inputs<'_>, out: &Path) -> anyhow::Result<()> {
    let work = tempfile::tempdir_in(out)?;
    let whole = work.path().join("whole");
    fs::create_dir(&whole)?;
    assemble::build(inputs, work.path(), &whole)?;
    for old in assemble::files(out)? {
        let name = old.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&format!("{}.", inputs.recipe.prefix()))
            || name.starts_with(&format!("{}_", inputs.recipe.prefix()))
        {
            fs::remove_file(old)?;
        }
    }
    for new in assemble::files(&whole)? {
        let place = out.join(new.file_name().unwrap_or_default());
        fs::rename(&new, &place)?;
        println!("image: {} ({} bytes)", place.display(), fs::metadata(&place)?.len());
    }
    Ok(())
}

/// Builds in two directories, each with packages of its own, and compares every file.
fn check_reproducible(inputs: &Inputs<'_>, out: &Path) -> anyhow::Result<()> {
    ensure!(inputs.keys.is_none(), "a signature holds its time: compare builds without --keys");
    let mut builds = Vec::new();
    for _ in 0..2 {
        let work = tempfile::tempdir_in(out)?;
        let (cache, whole) = (work.path().join("cache"), work.path().join("whole"));
        fs::create_dir(&whole)?;
        assemble::build(&Inputs { cache: &cache, ..*inputs }, work.path(), &whole)?;
        builds.push(assemble::sums(assemble::files(&whole)?.iter().map(PathBuf::as_path), &whole)?);
    }
    let [first, second] = builds.as_slice() else { bail!("not two builds") };
    let differing = differing(first, second);
    ensure!(differing.is_empty(), "two builds differ in {}", differing.join(", "));
    println!("image: two builds are the same:\n{first}");
    Ok(())
}

/// Names whose sums are not the same in both lists.
fn differing<'a>(first: &'a str, second: &'a str) -> Vec<&'a str> {
    let only = |one: &'a str, other: &'a str| {
        one.lines().filter(move |line| !other.lines().any(|same| same == *line))
    };
    let mut names: Vec<_> = only(first, second)
        .chain(only(second, first))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_that_differ_are_told_by_file() {
        let first = "aa  disk.raw\nbb  x.efi\ncc  same\n";
        assert_eq!(differing(first, "a1  disk.raw\ncc  same\ndd  new\n"), ["disk.raw", "new", "x.efi"]);
        assert!(differing(first, first).is_empty());
    }

    #[test]
    fn texts_that_run_into_each_other_have_another_digest() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }
}
