//! The versions of an image's packages: the lock file, and what makes apt follow it. Pure.
//!
//! A lock names every package of the root, one a line: `NAME VERSION ARCHITECTURE`, sorted. A package that it does
//! not name is not installed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Versions by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lock {
    packages: BTreeMap<String, Package>,
}

/// What is locked of one package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// Its version in Debian.
    pub(super) version: String,
    /// Its architecture, or `all`.
    pub(super) architecture: String,
}

impl Lock {
    /// Reads a lock file.
    ///
    /// # Errors
    /// The first line that does not name a package, a version and an architecture.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let packages = lines.map(|line| match *line.split(' ').collect::<Vec<_>>() {
            [name, version, architecture] => {
                Ok((name.to_owned(), Package { version: version.into(), architecture: architecture.into() }))
            }
            _ => Err(format!("not a locked package: {line:?}")),
        });
        Ok(Self { packages: packages.collect::<Result<_, _>>()? })
    }

    /// The packages that are installed by a `status` file of dpkg.
    pub(super) fn of_installed(status: &str) -> Self {
        let packages = status.split("\n\n").filter_map(|paragraph| {
            let field = |name: &str| {
                paragraph
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                    .map(str::to_owned)
            };
            let package = Package { version: field("Version")?, architecture: field("Architecture")? };
            let name = field("Package").filter(|name| name != STAND_IN)?;
            (field("Status")? == "install ok installed").then_some((name, package))
        });
        Self { packages: packages.collect() }
    }

    /// The lock file.
    pub(super) fn text(&self) -> String {
        let mut text =
            "# Versions of all packages of the root. `cargo xtask image --update-lock` writes it.\n"
                .to_owned();
        for (name, package) in &self.packages {
            // Writing to a string does not fail.
            writeln!(text, "{name} {} {}", package.version, package.architecture).ok();
        }
        text
    }

    /// Preferences of apt by which it installs these versions and nothing else.
    pub(super) fn preferences(&self) -> String {
        let mut text = String::new();
        for (name, package) in &self.packages {
            writeln!(text, "Package: {name}\nPin: version {}\nPin-Priority: 1001\n", package.version).ok();
        }
        text.push_str("Package: *\nPin: release *\nPin-Priority: -1\n");
        text
    }

    /// Names and what is locked, sorted.
    pub(super) fn packages(&self) -> impl Iterator<Item = (&str, &Package)> {
        self.packages.iter().map(|(name, package)| (name.as_str(), package))
    }

    /// How another set of packages differs, one a line; nothing where it does not.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let names = self
            .packages
            .keys()
            .chain(other.packages.keys().filter(|name| !self.packages.contains_key(*name)));
        let version = |lock: &Self, name: &str| {
            lock.packages.get(name).map_or_else(|| "none".to_owned(), |package| package.version.clone())
        };
        let pairs = names.map(|name| (name, version(self, name), version(other, name)));
        pairs.filter(|(_, a, b)| a != b).map(|(name, a, b)| format!("{name}: {a} -> {b}")).collect()
    }
}

/// The package that stands for a generator of initial root file systems: the kernel's package asks for one, and the
/// image's own is made here.
pub(super) const STAND_IN: &str = "portreeve-initrd";

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: portreeve-initrd\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n\
        Package: systemd\nStatus: install ok installed\nArchitecture: amd64\nVersion: 257.1-1\nDescription: x\n Version: 9\n\n\
        Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\
        Package: base-files\nStatus: install ok installed\nArchitecture: amd64\nVersion: 13.8\n";

    #[test]
    fn a_lock_is_what_is_installed_and_reads_back() {
        let lock = Lock::of_installed(STATUS);
        let lines: Vec<_> = lock.text().lines().skip(1).map(str::to_owned).collect();
        assert_eq!(lines, ["base-files 13.8 amd64", "systemd 257.1-1 amd64"]);
        assert_eq!(Lock::parse(&lock.text()), Ok(lock));
        assert!(Lock::parse("systemd 257\n").unwrap_err().contains("systemd 257"));
    }

    #[test]
    fn apt_is_told_each_version_and_to_take_no_other_package() {
        let preferences = Lock::of_installed(STATUS).preferences();
        assert!(preferences.contains("Package: systemd\nPin: version 257.1-1\nPin-Priority: 1001\n\n"));
        assert!(preferences.ends_with("Package: *\nPin: release *\nPin-Priority: -1\n"));
    }

    #[test]
    fn differences_name_versions_new_and_lost_packages() {
        let old = Lock::of_installed(STATUS);
        let new = Lock::parse("systemd 257.2-1 amd64\nudev 257.2-1 amd64\n").unwrap();
        let told = ["base-files: 13.8 -> none", "systemd: 257.1-1 -> 257.2-1", "udev: none -> 257.2-1"];
        assert_eq!(old.differences(&new), told);
        assert!(old.differences(&old).is_empty());
    }
}
