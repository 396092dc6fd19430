//! The root as Debian's packages make it, before anything of ours is in it; kept in `target/image/cache`.
//!
//! Owns calling mmdebstrap. Packages come from the mirror that the machine's apt is configured with and are checked by
//! Debian's keys. The cache's key is all that the root is made from, so a root in the cache is the one that the lock
//! names. Nothing of the machine but the mirror bears on the result.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow, ensure};

use super::digest;
use super::lock::{Lock, STAND_IN};
use super::recipe::{Recipe, lines};
use crate::setup::debian;
use crate::workspace::require;

/// The suites of the archive that have the appliance's release.
const SUITES: &[&str] = &["trixie", "trixie-updates"];
/// Those of the security archive.
const SECURITY: &[&str] = &["trixie-security"];
/// The time that maintainer scripts see, in seconds: no time of a commit, so that the root stays in the cache.
const INSTALLED_AT: &str = "1735689600";
/// What dpkg does not unpack. Licences are kept: those who pass the image on need them.
const DPKG: &[&str] = &[
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

/// A root with its packages.
#[derive(Debug)]
pub(super) struct Rootfs {
    /// Where it lies; not to be changed.
    pub(super) directory: PathBuf,
    /// What is installed in it.
    pub(super) lock: Lock,
}

/// The root that the lock names, from `cache` where it is there.
///
/// # Errors
/// When there is no lock, or the mirror has not what it names any more, with what to do.
pub(super) fn locked(recipe: &Recipe, cache: &Path) -> anyhow::Result<Rootfs> {
    let path = recipe.lock();
    let renew =
        format!("`cargo xtask image{} --update-lock` writes what the mirror has now", recipe.options());
    let text = fs::read_to_string(&path).with_context(|| format!("no {}: {renew}", path.display()))?;
    let lock = Lock::parse(&text).map_err(|told| anyhow!("{}: {told}", path.display()))?;
    let key = digest(&[&recipe.packages()?.join(","), &text, &DPKG.join(",")]);
    let directory = cache.join(key.get(..16).unwrap_or(&key));
    if !directory.is_dir() {
        let partial = install(recipe, Some(&lock), cache).with_context(|| {
            format!(
                "the packages of {} cannot be installed; where the mirror has them no more, {renew}",
                path.display()
            )
        })?;
        fs::rename(partial, &directory)?;
    }
    let installed = installed(&directory)?;
    let differences = lock.differences(&installed);
    ensure!(
        differences.is_empty(),
        "{} does not hold what is installed:\n{}",
        path.display(),
        differences.join("\n")
    );
    Ok(Rootfs { directory, lock })
}

/// A root of the versions that the mirror has now, from `cache` where one was made before.
///
/// # Errors
/// When packages cannot be installed.
pub(super) fn newest(recipe: &Recipe, cache: &Path) -> anyhow::Result<Rootfs> {
    let key = digest(&[&recipe.packages()?.join(","), &DPKG.join(",")]);
    let directory = cache.join(format!("newest-{}", key.get(..16).unwrap_or(&key)));
    if !directory.is_dir() {
        fs::rename(install(recipe, None, cache)?, &directory)?;
    }
    Ok(Rootfs { lock: installed(&directory)?, directory })
}

/// Writes a lock of what the mirror has now; returns how it differs from the one before.
///
/// # Errors
/// When packages cannot be installed or the lock cannot be written.
pub(super) fn update_lock(recipe: &Recipe, cache: &Path) -> anyhow::Result<Vec<String>> {
    let directory = install(recipe, None, cache)?;
    let new = installed(&directory)?;
    fs::remove_dir_all(directory)?;
    let old = fs::read_to_string(recipe.lock()).unwrap_or_default();
    let old = Lock::parse(&old).map_err(|told| anyhow!(told))?;
    fs::write(recipe.lock(), new.text())?;
    Ok(old.differences(&new))
}

fn installed(root: &Path) -> anyhow::Result<Lock> {
    let status = root.join("var/lib/dpkg/status");
    let status = fs::read_to_string(&status).with_context(|| format!("cannot read {}", status.display()))?;
    Ok(Lock::of_installed(&status))
}

/// Installs into a new directory in `cache`.
fn install(recipe: &Recipe, lock: Option<&Lock>, cache: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(cache)?;
    let given = tempfile::tempdir_in(cache)?;
    fs::write(given.path().join("sources.list"), debian::sources(SUITES, SECURITY)?)?;
    fs::write(given.path().join("preferences"), lock.map(Lock::preferences).unwrap_or_default())?;
    fs::write(given.path().join("status"), stand_in())?;
    let partial = cache.join("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let given = given.path().display();
    let hook = format!(
        "cp '{given}/preferences' \"$1/etc/apt/preferences\" && cat '{given}/status' >> \"$1/var/lib/dpkg/status\" \
         && mkdir -p \"$1/var/lib/dpkg/info\" && : > \"$1/var/lib/dpkg/info/{STAND_IN}.list\""
    );
    let mut command = Command::new("mmdebstrap");
    command.args([
        "--quiet",
        "--mode=root",
        "--variant=essential",
        "--architectures=amd64",
        "--format=directory",
    ]);
    command.arg(format!("--include={}", recipe.packages()?.join(",")));
    command.arg("--aptopt=APT::Install-Recommends \"false\"").arg("--setup-hook").arg(hook);
    command.args(DPKG.iter().map(|option| format!("--dpkgopt={option}")));
    command.arg("").arg(&partial).arg(format!("{given}/sources.list"));
    command.env("SOURCE_DATE_EPOCH", INSTALLED_AT).env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
    require(&mut command)?;
    Ok(partial)
}

/// A paragraph for dpkg's `status`, by which nothing needs to be built or downloaded for the stand-in.
fn stand_in() -> String {
    format!(
        "Package: {STAND_IN}\nStatus: install ok installed\nMaintainer: portreeve\nArchitecture: all\nVersion: 1\n\
         Provides: linux-initramfs-tool\nDescription: stands for what makes the initrd of this image\n\n"
    )
}

/// Paths in the root that are deleted: patterns of the shell, relative to it.
///
/// # Errors
/// When the list cannot be read, or a pattern could lead out of the root.
pub(super) fn pruned() -> anyhow::Result<Vec<String>> {
    let patterns = lines(&super::recipe::data().join("packages/prune"))?;
    let leads_out = |pattern: &&String| {
        pattern.starts_with('/') || pattern.contains("..") || pattern.contains(char::is_whitespace)
    };
    ensure!(
        !patterns.iter().any(|pattern| leads_out(&pattern)),
        "a pattern of packages/prune leads out of the root"
    );
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stand_in_gives_what_kernels_ask_for_and_is_in_no_lock() {
        assert!(stand_in().contains("\nProvides: linux-initramfs-tool\n"));
        assert_eq!(Lock::of_installed(&stand_in()), Lock::default());
    }

    #[test]
    fn no_pattern_leads_out_of_the_root() {
        assert!(pruned().unwrap().contains(&"boot/*".to_owned()));
    }
}
