//! `cargo xtask image`: the appliance's disk, and what updates one.
//!
//! Everything is a function of the commit, the lock of package versions and the keys that are given: no time, machine
//! path or random number gets in; `--check-reproducible` compares two builds. Root is needed, since packages are installed into
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

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{anyhow, ensure};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use self::assemble::{Inputs, SUMS};
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
    /// With a gateway that is built quickly, as tests want it, and no sum of the raw disk.
    #[arg(long)]
    debug: bool,
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
    /// Lay the files of this directory over the root: what a site has of its own.
    #[arg(long)]
    overlay: Option<PathBuf>,
    /// Only what an update is made of, for machines that run already: no disk. Files of the same version in the same
    /// place are replaced, so its version has to be given.
    #[arg(long, requires = "version")]
    update: bool,
    /// Where the image goes, in place of `target/image`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where the mirror has the lock's versions no more, take those that it has: tests do not wait for a new lock.
    #[arg(long, conflicts_with = "update_lock")]
    or_newest: bool,
    /// Build twice and compare: from packages on, or only what is made from them.
    #[arg(
        long,
        value_enum,
        value_name = "FROM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "packages",
        conflicts_with = "keys"
    )]
    check_reproducible: Option<Begin>,
    /// Write the versions that the mirror has now into the lock, and build nothing.
    #[arg(long, conflicts_with = "check_reproducible")]
    update_lock: bool,
}

/// Where two builds that are compared begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Begin {
    /// Each installs its packages.
    Packages,
    /// Both are made from the same root of packages.
    Root,
}

/// Builds an image.
///
/// # Errors
/// When a step fails, or two builds differ.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    recipe::check_version(&args.version)?;
    let recipe = Recipe { flavour: args.flavour, frr: args.frr, version: args.version };
    let keys = args.keys.as_deref().map(Keys::new).transpose()?;
    let own = workspace::target_dir().join("image");
    let (cache, out) = (own.join("cache"), args.out.unwrap_or(own));
    setup::ensure(setup::plan::Needs::IMAGE)?;
    if args.update_lock {
        let differences = rootfs::update_lock(&recipe, &cache)?;
        println!("image: {} changes in {}", differences.len(), recipe.lock().display());
        differences.iter().for_each(|line| println!("  {line}"));
        return Ok(ExitCode::SUCCESS);
    }
    let gateway = build::gateway_for_others(args.debug)?;
    let inputs = Inputs {
        recipe: &recipe,
        gateway: &gateway,
        keys: keys.as_ref(),
        update_url: args.update_url.as_deref(),
        overlay: args.overlay.as_deref(),
        disks: !args.update,
        raw_summed: !args.debug,
        or_newest: args.or_newest,
        cache: &cache,
    };
    fs::create_dir_all(&out)?;
    match args.check_reproducible {
        None => built(&inputs, &out)?.put_into(&out, &recipe)?,
        Some(begin) => built_twice(&inputs, begin, &out)?.put_into(&out, &recipe)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A whole build in a directory that goes away with it.
struct Built {
    work: TempDir,
}

/// Builds beside what is there.
fn built(inputs: &Inputs<'_>, out: &Path) -> anyhow::Result<Built> {
    let built = Built { work: tempfile::tempdir_in(out)? };
    fs::create_dir(built.whole())?;
    assemble::build(inputs, built.work.path(), &built.whole())?;
    Ok(built)
}

/// Builds in two directories and compares every file; returns the first build.
fn built_twice(inputs: &Inputs<'_>, begin: Begin, out: &Path) -> anyhow::Result<Built> {
    let (first, second) = match begin {
        Begin::Root => {
            // What both begin with; a build alone keeps one core busy.
            assemble::packages(inputs)?;
            thread::scope(|scope| {
                let second = scope.spawn(|| built(inputs, out));
                let first = built(inputs, out);
                anyhow::Ok((first?, second.join().map_err(|_| anyhow!("a build ended early"))??))
            })?
        }
        Begin::Packages => {
            let build = || {
                let cache = tempfile::tempdir_in(out)?;
                built(&Inputs { cache: cache.path(), ..*inputs }, out)
            };
            (build()?, build()?)
        }
    };
    let differing = differing(&first.whole(), &second.whole())?;
    ensure!(differing.is_empty(), "two builds differ in {}", differing.join(", "));
    println!("image: two builds are the same");
    Ok(first)
}

impl Built {
    fn whole(&self) -> PathBuf {
        self.work.path().join("whole")
    }

    /// Puts its files into `out`, in place of those of an earlier build of the same image.
    fn put_into(self, out: &Path, recipe: &Recipe) -> anyhow::Result<()> {
        for old in assemble::files(out)? {
            if recipe.is_of(&old.file_name().unwrap_or_default().to_string_lossy()) {
                fs::remove_file(&old)?;
            }
        }
        let sums = fs::read_to_string(out.join(SUMS)).unwrap_or_default();
        let others = sums_of_others(&sums, recipe, |name| out.join(name).is_file());
        let own = self.whole().join(SUMS);
        fs::write(&own, others + &fs::read_to_string(&own)?)?;
        for new in assemble::files(&self.whole())? {
            let place = out.join(new.file_name().unwrap_or_default());
            fs::rename(&new, &place)?;
            println!("image: {} ({} bytes)", place.display(), fs::metadata(&place)?.len());
        }
        Ok(())
    }
}

/// Lines of sums of further images, such as another flavour's, whose files are still there.
fn sums_of_others(sums: &str, recipe: &Recipe, is_there: impl Fn(&str) -> bool) -> String {
    let is_others =
        |line: &&str| line.split_once("  ").is_some_and(|(_, name)| !recipe.is_of(name) && is_there(name));
    sums.lines().filter(is_others).map(|line| format!("{line}\n")).collect()
}

/// Names of files that are not the same in both directories, or only in one.
fn differing(first: &Path, second: &Path) -> anyhow::Result<Vec<String>> {
    let names = |files: Vec<PathBuf>| -> BTreeSet<_> {
        files.into_iter().filter_map(|file| file.file_name().map(ToOwned::to_owned)).collect()
    };
    let mut differing = Vec::new();
    for name in names(assemble::files(first)?).union(&names(assemble::files(second)?)) {
        if !is_same(&first.join(name), &second.join(name))? {
            differing.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(differing)
}

/// Whether both files are there, with the same bytes.
fn is_same(one: &Path, other: &Path) -> anyhow::Result<bool> {
    let length = |path: &Path| fs::metadata(path).map(|found| found.len()).ok();
    if length(one).is_none() || length(one) != length(other) {
        return Ok(false);
    }
    // A raw disk is holes for the most part, which only this program leaves out.
    let mut compare = if one.extension().is_some_and(|end| end == "raw") {
        let mut compare = Command::new("qemu-img");
        compare.args(["compare", "-q", "-f", "raw", "-F", "raw"]);
        compare
    } else {
        let mut compare = Command::new("cmp");
        compare.arg("--quiet");
        compare
    };
    Ok(compare.args([one, other]).stderr(Stdio::null()).status()?.success())
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
    fn disks_are_compared_behind_their_holes_too() {
        let directory = tempfile::tempdir().unwrap();
        let disks = ["one.raw", "other.raw"].map(|name| directory.path().join(name));
        for disk in &disks {
            fs::File::create(disk).unwrap().set_len(8 << 20).unwrap();
        }
        assert!(is_same(&disks[0], &disks[1]).unwrap());
        let mut longer = fs::OpenOptions::new().append(true).open(&disks[1]).unwrap();
        std::io::Write::write_all(&mut longer, b"end").unwrap();
        assert!(!is_same(&disks[0], &disks[1]).unwrap());
        fs::File::options().write(true).open(&disks[0]).unwrap().set_len((8 << 20) + 3).unwrap();
        assert!(!is_same(&disks[0], &disks[1]).unwrap());
        assert!(!is_same(&disks[0], &directory.path().join("absent.raw")).unwrap());
    }

    #[test]
    fn builds_that_differ_are_told_by_file() {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [first, second] = directories.each_ref().map(TempDir::path);
        for (place, name, text) in [
            (first, "disk.raw", "one"),
            (second, "disk.raw", "two"),
            (first, "only", ""),
            (second, "other", ""),
            (first, "same", "three"),
            (second, "same", "three"),
        ] {
            fs::write(place.join(name), text).unwrap();
        }
        assert_eq!(differing(first, second).unwrap(), ["disk.raw", "only", "other"]);
        assert!(differing(first, first).unwrap().is_empty());
    }

    #[test]
    fn sums_of_further_images_stay_as_long_as_their_files() {
        let recipe = Recipe { flavour: Flavour::Cloud, frr: false, version: "1.2".to_owned() };
        let [cloud, frr, gone] = ["cloud.raw", "cloud-frr.raw", "hardware.raw"];
        let sums: String =
            [cloud, frr, gone].iter().map(|name| format!("0a  portreeve_1.2_{name}\n")).collect();
        let kept = sums_of_others(&sums, &recipe, |name| !name.ends_with(gone));
        assert_eq!(kept, "0a  portreeve_1.2_cloud-frr.raw\n");
    }

    #[test]
    fn texts_that_run_into_each_other_have_another_digest() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }
}
