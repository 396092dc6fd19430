//! `cargo xtask deb`: the Debian package of the gateway, for routers that people have.
//!
//! Lays the files out below `target/deb` as they are to be installed and has dpkg-deb pack them. Maintainer scripts and
//! the control file are in `appliance-image/deb`, units in `appliance-image/systemd`, which the image takes too.
//! Invariant: the same commit and compiler make the same bytes: times are the commit's, owners are root.

mod layout;
mod libc;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};

use self::layout::Content;
use crate::workspace::{self, require};
use crate::{build, setup};

/// Arguments of `cargo xtask deb`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pack the gateway without optimisation, as tests run it.
    #[arg(long)]
    debug: bool,
    /// The version of the package, if it is not that of the gateway.
    #[arg(long)]
    version: Option<String>,
}

/// Builds and packs.
///
/// # Errors
/// When the build fails, or a program is missing.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    setup::ensure(setup::plan::Needs::BUILD)?;
    let gateway = build::gateway_for_others(args.debug)?;
    let version = args.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
    // Xz takes a minute for what tests install once.
    let packing = if args.debug { "-Zgzip" } else { "-Zxz" };
    let package = pack(&gateway, version, packing, &workspace::target_dir().join("deb"))?;
    println!("deb: {} ({} KiB)", package.display(), fs::metadata(&package)?.len() >> 10);
    Ok(ExitCode::SUCCESS)
}

/// Packs a gateway that is built; returns the package.
fn pack(gateway: &Path, version: &str, packing: &str, out: &Path) -> anyhow::Result<PathBuf> {
    let tree = out.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let binary = out.join("portreeve");
    fs::create_dir_all(out)?;
    build::strip(gateway, &binary)?;
    let bytes = fs::read(&binary)?;
    let libc = libc::oldest(&bytes).context("the gateway does not say which libc it needs")?;
    for entry in layout::entries(workspace::root())? {
        let path = tree.join(entry.path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        match entry.content {
            Content::Directory => fs::create_dir_all(&path)?,
            Content::Gateway => fs::write(&path, &bytes)?,
            Content::File(from) => drop(fs::copy(&from, &path).with_context(|| from.display().to_string())?),
            Content::Compressed(from) => compress(&from, &path)?,
        }
        set_mode(&path, entry.mode)?;
    }
    let control = fs::read_to_string(workspace::root().join("appliance-image/deb/control"))?;
    let size = (installed_size(&tree)? >> 10).to_string();
    let control = control.replace("@VERSION@", version).replace("@LIBC@", &libc).replace("@SIZE@", &size);
    ensure!(
        !control.contains('@') || control.matches('@').count() == 1,
        "a placeholder is left in {control}"
    );
    let written = tree.join("DEBIAN/control");
    fs::write(&written, control)?;
    set_mode(&written, 0o644)?;
    let time = commit_time()?;
    settle(&tree, SystemTime::UNIX_EPOCH + Duration::from_secs(time))?;
    let package = out.join(format!("portreeve_{version}_amd64.deb"));
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", packing, "--build"]).arg(&tree).arg(&package);
    require(dpkg.env("SOURCE_DATE_EPOCH", time.to_string()))?;
    Ok(package)
}

/// As gzip does it without name and time.
fn compress(from: &Path, to: &Path) -> anyhow::Result<()> {
    require(Command::new("gzip").args(["-9", "-n", "-c"]).arg(from).stdout(File::create(to)?))
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

fn installed_size(path: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let (path, metadata) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        sum += if metadata.is_dir() { installed_size(&path)? } else { metadata.len() };
    }
    Ok(sum)
}

/// Gives everything one time, and directories that were made on the way the mode of others.
fn settle(path: &Path, time: SystemTime) -> anyhow::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            settle(&entry?.path(), time)?;
        }
        if !layout::has_own_mode(path) {
            set_mode(path, 0o755)?;
        }
    }
    Ok(File::open(path)?.set_modified(time)?)
}

/// Seconds since 1970 of the commit that is packed.
fn commit_time() -> anyhow::Result<u64> {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "log", "-1", "--format=%ct"]).current_dir(workspace::root());
    let output = git.output().context("cannot start git")?;
    ensure!(output.status.success(), "git log: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another program in place of the gateway: what is packed does not depend on it.
    #[test]
    fn two_packages_of_one_commit_are_the_same_and_hold_what_they_should() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = workspace::find_program("true").unwrap();
        let [first, second] =
            ["a", "b"].map(|name| pack(&gateway, "1.2.3", "-Zxz", &dir.path().join(name)).unwrap());
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        let ask = |what: &str| {
            let output = Command::new("dpkg-deb").arg(what).arg(&first).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let listed = ask("--contents");
        for (mode, path) in [
            ("-rwxr-xr-x root/root", "./usr/bin/portreeve"),
            ("-rw-r--r-- root/root", "./usr/lib/systemd/system/portreeve@.service"),
            ("-rw-r--r-- root/root", "./usr/share/doc/portreeve/operate.md"),
            ("-rw-r--r-- root/root", "./usr/share/doc/portreeve/changelog.gz"),
            ("-rw-r--r-- root/root", "./usr/share/doc/portreeve/copyright"),
            ("drwxr-xr-x root/root", "./etc/portreeve/"),
            ("drwx------ root/root", "./var/lib/portreeve/"),
        ] {
            let found =
                listed.lines().any(|line| line.starts_with(mode) && line.ends_with(&format!(" {path}")));
            assert!(found, "{mode} {path}\n{listed}");
        }
        let control = ask("--info");
        assert!(
            control.contains("Version: 1.2.3\n") && control.contains("Depends: libc6 (>= 2."),
            "{control}"
        );
    }
}
