//! Packages of Debian that the machine's own release does not have: QEMU for virtual machines, and kernels.
//!
//! The mirror is the one that the machine's apt has for Debian; lists of further suites are kept in `target/vm/apt`, so
//! that nothing of the machine's configuration changes. Kernels are unpacked below `target/vm/kernels`, not installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use portreeve_vm_tests::kernels::{self, Kernel};

use crate::workspace::require;

/// In Debian's own package, on every Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Suites in which the kernels are.
const SUITES: &[&str] = &["bookworm", "trixie", "trixie-backports"];
/// Suites of the security archive.
const SECURITY: &[&str] = &["bookworm-security", "trixie-security"];
/// What a kernel is split into.
const PARTS: &[&str] = &["linux-base-", "linux-binary-", "linux-image-", "linux-modules-"];
/// Places in packages, of which only one is there, for the same thing.
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// An apt with lists of its own.
struct Apt {
    directory: PathBuf,
}

/// An archive that the machine's apt knows.
#[derive(Debug, PartialEq, Eq)]
struct Archive<'a> {
    uri: &'a str,
    codename: &'a str,
    label: &'a str,
}

/// Installs packages from the machine's release, or else from the backports to it; removes none.
///
/// # Errors
/// When neither has them.
pub(super) fn install_or_backport(packages: &[&str]) -> anyhow::Result<()> {
    let install = |command: &mut Command| {
        command.args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(packages);
        require(command)
    };
    if install(&mut super::apt()).is_ok() {
        return Ok(());
    }
    println!("setup: trying backports");
    let listed = known_archives()?;
    let archive = debian(&listed)?;
    let backports = format!("{}-backports", archive.codename);
    let suites = [archive.codename, &backports].map(|suite| (archive.uri, suite));
    let apt = Apt::with("backports", &suites)?;
    install(apt.get().args(["--target-release", &backports]))
        .with_context(|| format!("these packages are in {} and {backports}", archive.codename))
}

/// Lines for a list of sources: suites of the archives that the machine's apt has for Debian.
///
/// # Errors
/// When it has none.
pub(crate) fn sources(suites: &[&str], security: &[&str]) -> anyhow::Result<String> {
    let listed = known_archives()?;
    let main = debian(&listed)?.uri;
    let secured = archives(&listed).find(|archive| archive.label == "Debian-Security");
    let secured = secured.context("apt has no security archive of Debian: add one to its sources")?.uri;
    let suites = suites.iter().map(|suite| (main, *suite));
    Ok(suites.chain(security.iter().map(|suite| (secured, *suite))).map(|suite| source(&suite)).collect())
}

/// Fetches and unpacks kernels.
///
/// # Errors
/// When the archive has one no more, or cannot be reached.
pub(super) fn fetch_kernels(wanted: &[Kernel]) -> anyhow::Result<()> {
    let listed = known_archives()?;
    let main = debian(&listed)?.uri;
    let security = archives(&listed).find(|archive| archive.label == "Debian-Security");
    let suites = SUITES.iter().map(|suite| (main, *suite));
    let secured = security.iter().flat_map(|archive| SECURITY.iter().map(|suite| (archive.uri, *suite)));
    let apt = Apt::with("kernels", &suites.chain(secured).collect::<Vec<_>>())?;
    wanted.iter().try_for_each(|kernel| fetch(&apt, kernel))
}

fn fetch(apt: &Apt, kernel: &Kernel) -> anyhow::Result<()> {
    let told = || format!("no kernel {} in Debian's archive", kernel.name);
    let known = apt.show(kernel.package)?;
    let known = versions(&known).find(|(version, _)| kernel.is_version(version)).with_context(told)?;
    let (version, depends) = known;
    println!("setup: fetching kernel {} ({version})", kernel.name);
    let mut parts = BTreeSet::new();
    let mut ask: Vec<String> = kernel_parts(depends).map(str::to_owned).collect();
    while let Some(part) = ask.pop() {
        let known = apt.show(&part)?;
        let same = versions(&known).find(|(of, _)| *of == version).map(|(_, depends)| depends);
        if let Some(depends) = same
            && parts.insert(part)
        {
            ask.extend(kernel_parts(depends).map(str::to_owned));
        }
    }
    let directory = kernel.directory();
    let parent = directory.parent().context("no parent")?;
    fs::create_dir_all(parent)?;
    let partial = tempfile::tempdir_in(parent)?;
    let parts = parts.iter().map(|part| format!("{part}={version}"));
    require(apt.get().arg("download").args(parts).current_dir(partial.path()))?;
    let unpacked = partial.path().join("unpacked");
    for entry in fs::read_dir(partial.path())? {
        require(Command::new("dpkg-deb").arg("--extract").arg(entry?.path()).arg(&unpacked))?;
    }
    let whole = partial.path().join("whole");
    arrange(&unpacked, &whole).with_context(told)?;
    Ok(fs::rename(whole, directory)?)
}

/// Takes what boots and its modules out of unpacked packages, as [`Kernel::directory`] has them.
fn arrange(unpacked: &Path, whole: &Path) -> anyhow::Result<()> {
    let modules = MODULES.map(|place| unpacked.join(place)).into_iter().find(|place| place.is_dir());
    let modules = modules.context("no modules")?;
    let release = fs::read_dir(&modules)?.next().context("no release")??.file_name();
    let release = release.to_str().context("a release that is no text")?;
    let images = [unpacked.join(format!("boot/vmlinuz-{release}")), modules.join(release).join("vmlinuz")];
    let image = images.iter().find(|image| image.is_file()).context("no image")?;
    fs::create_dir_all(whole)?;
    fs::rename(image, whole.join("vmlinuz"))?;
    fs::rename(&modules, whole.join("modules"))?;
    Ok(fs::write(whole.join("release"), format!("{release}\n"))?)
}

impl Apt {
    /// Lists of these suites, each with the archive that it is in.
    fn with(name: &str, suites: &[(&str, &str)]) -> anyhow::Result<Self> {
        let directory = kernels::directory().join("apt").join(name);
        for place in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(directory.join(place))?;
        }
        let directory = directory.canonicalize()?;
        fs::write(directory.join("sources.list"), suites.iter().map(source).collect::<String>())?;
        let apt = Self { directory };
        require(apt.get().arg("update"))?;
        Ok(apt)
    }

    fn get(&self) -> Command {
        let mut command = super::apt();
        self.confine(&mut command);
        command
    }

    fn show(&self, package: &str) -> anyhow::Result<String> {
        let mut command = Command::new("apt-cache");
        self.confine(&mut command);
        let output = command.args(["show", package]).output().context("start apt-cache")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn confine(&self, command: &mut Command) {
        let directory = self.directory.display();
        for option in [
            format!("Dir::Etc::sourcelist={directory}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={directory}/lists"),
            format!("Dir::Cache::archives={directory}/archives"),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
    }
}

/// A line of a list of sources.
fn source((uri, suite): &(&str, &str)) -> String {
    format!("deb [signed-by={KEYRING}] {uri} {suite} main\n")
}

/// What the machine's apt says of its lists, an archive a line.
fn known_archives() -> anyhow::Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(LABEL)|$(CODENAME)|$(REPO_URI)", "Created-By: Packages"]);
    let output = command.output().context("start apt-get")?;
    ensure!(
        output.status.success(),
        "apt-get knows no archives: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn archives(listed: &str) -> impl Iterator<Item = Archive<'_>> {
    listed.lines().filter_map(|line| {
        let mut fields = line.split('|');
        Some(Archive { label: fields.next()?, codename: fields.next()?, uri: fields.next()? })
    })
}

/// The archive of the machine's release.
fn debian(listed: &str) -> anyhow::Result<Archive<'_>> {
    let is_release = |archive: &Archive<'_>| archive.label == "Debian" && !archive.codename.contains('-');
    match archives(listed).find(is_release) {
        Some(archive) => Ok(archive),
        None => bail!("apt has no archive of Debian: add one to its sources and run `apt-get update`"),
    }
}

/// Versions of a package and what each depends on, the newest first.
fn versions(shown: &str) -> impl Iterator<Item = (&str, &str)> {
    shown.split("\n\n").filter_map(|paragraph| {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        Some((field("Version")?, field("Depends").unwrap_or("")))
    })
}

fn kernel_parts(depends: &str) -> impl Iterator<Item = &str> {
    let names = depends.split(',').filter_map(|wanted| wanted.split_whitespace().next());
    names.filter(|name| PARTS.iter().any(|part| name.starts_with(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_of_the_release_is_told_from_its_updates_and_others() {
        let listed = "Other|bookworm|http://other/\nDebian|bookworm-updates|http://debian/\n\
                      Debian|bookworm|http://debian/\nDebian-Security|bookworm-security|http://security/\n";
        let found = debian(listed).unwrap();
        assert_eq!((found.uri, found.codename), ("http://debian/", "bookworm"));
        assert!(debian("Ubuntu|noble|http://ubuntu/\n").is_err());
    }

    #[test]
    fn parts_of_a_kernel_are_its_own_packages() {
        let shown = "Package: linux-image-7\nVersion: 7.3-1\nDepends: dracut | initramfs-tools (>= 0.1), \
                     linux-base-7.3 (= 7.3-1), linux-binary-7.3 (= 7.3-1), linux-base\n\n\
                     Package: linux-image-7\nVersion: 7.2-1\n";
        let found: Vec<_> = versions(shown).collect();
        assert_eq!(found.iter().map(|(version, _)| *version).collect::<Vec<_>>(), ["7.3-1", "7.2-1"]);
        let parts: Vec<_> = kernel_parts(found[0].1).collect();
        assert_eq!(parts, ["linux-base-7.3", "linux-binary-7.3"]);
        assert_eq!(kernel_parts(found[1].1).count(), 0);
    }

    #[test]
    fn a_kernel_is_arranged_from_either_layout() {
        for (image, modules) in
            [("boot/vmlinuz-6.1", "lib/modules/6.1"), ("usr/lib/modules/7.3/vmlinuz", "usr/lib/modules/7.3")]
        {
            let directory = tempfile::tempdir().unwrap();
            let unpacked = directory.path().join("unpacked");
            for file in [unpacked.join(image), unpacked.join(modules).join("modules.order")] {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "x").unwrap();
            }
            let whole = directory.path().join("whole");
            arrange(&unpacked, &whole).unwrap();
            let release = fs::read_to_string(whole.join("release")).unwrap();
            assert!(whole.join("modules").join(release.trim_end()).join("modules.order").is_file());
            assert!(whole.join("vmlinuz").is_file());
        }
        assert!(arrange(Path::new("/nowhere"), Path::new("/nowhere")).is_err());
    }
}
