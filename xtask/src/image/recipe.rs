//! What an image is made of and what its files are called. Pure but for reading `appliance-image/packages`.
//!
//! Invariants: the version goes into partition labels, file names and boot counters, so it is short and holds
//! nothing that any of them would take apart.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::workspace;

/// The longest version: a partition label has 36 characters, and `portreeve_V_verity` must fit.
const LONGEST_VERSION: usize = 19;

/// For which machines an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Flavour {
    /// Virtual machines: the small kernel.
    Cloud,
    /// Real machines: the kernel with drivers for their network cards.
    Hardware,
}

/// Which image is built.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// For which machines.
    pub(super) flavour: Flavour,
    /// With routing daemons.
    pub(super) frr: bool,
    /// The version, as it was given.
    pub(super) version: String,
}

impl Flavour {
    /// Its name in files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Hardware => "hardware",
        }
    }
}

impl Recipe {
    /// The variant that an image belongs to, which its updates must be of: `cloud`, `hardware-frr`.
    pub(super) fn variant(&self) -> String {
        format!("{}{}", self.flavour.name(), if self.frr { "-frr" } else { "" })
    }

    /// What the names of all of its files begin with.
    pub(super) fn prefix(&self) -> String {
        format!("portreeve_{}_{}", self.version, self.variant())
    }

    /// Whether a file of this name is one of its files.
    pub(super) fn is_of(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix()).is_some_and(|more| more.starts_with(['.', '_']))
    }

    /// What asks for it on the command line, with a space before each option.
    pub(super) fn options(&self) -> String {
        let flavour = if self.flavour == Flavour::Cloud { "" } else { " --flavour hardware" };
        format!("{flavour}{}", if self.frr { " --frr" } else { "" })
    }

    /// The label of the root's partition; that of its hashes ends with `_verity` too.
    pub(super) fn label(&self) -> String {
        format!("portreeve_{}", self.version)
    }

    /// The name of the kernel image on the disk, with the tries that a new one has.
    pub(super) fn kernel_name(&self) -> String {
        format!("{}+3.efi", self.label())
    }

    /// Names of the packages that are asked for, sorted.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub(super) fn packages(&self) -> anyhow::Result<Vec<String>> {
        let lists = ["common", self.flavour.name()].into_iter().chain(self.frr.then_some("frr"));
        let mut names = BTreeSet::new();
        for list in lists {
            names.extend(lines(&data().join("packages").join(list))?);
        }
        Ok(names.into_iter().collect())
    }

    /// The file that holds the versions of all packages.
    pub(super) fn lock(&self) -> PathBuf {
        data().join("packages").join(format!("{}.lock", self.variant()))
    }
}

/// Checks that a version can stand wherever it is written.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_version(version: &str) -> anyhow::Result<()> {
    let starts = version.starts_with(|c: char| c.is_ascii_alphanumeric());
    let fits = version.chars().all(|c| c.is_ascii_alphanumeric() || ".~".contains(c));
    ensure!(
        starts && fits && version.len() <= LONGEST_VERSION,
        "version {version:?}: at most {LONGEST_VERSION} letters, digits, `.` and `~`, a letter or digit first"
    );
    Ok(())
}

/// The directory `appliance-image`.
pub(super) fn data() -> PathBuf {
    workspace::root().join("appliance-image")
}

/// Lines of a list that are not comments.
///
/// # Errors
/// When it cannot be read.
pub(super) fn lines(list: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    let wanted = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(wanted.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(flavour: Flavour, frr: bool) -> Recipe {
        Recipe { flavour, frr, version: "1.2".to_owned() }
    }

    #[test]
    fn names_tell_version_and_variant_apart() {
        let recipe = recipe(Flavour::Hardware, true);
        assert_eq!(recipe.prefix(), "portreeve_1.2_hardware-frr");
        assert_eq!(recipe.kernel_name(), "portreeve_1.2+3.efi");
        assert_eq!(recipe.options(), " --flavour hardware --frr");
        assert!(
            recipe.is_of("portreeve_1.2_hardware-frr.raw") && !recipe.is_of("portreeve_1.2_hardware.raw")
        );
        assert!(recipe.lock().ends_with("packages/hardware-frr.lock"));
    }

    #[test]
    fn a_version_holds_nothing_that_names_are_split_at() {
        for good in ["0.1.0", "2026.11.22", "1.0~rc1"] {
            check_version(good).unwrap();
        }
        for bad in ["", "1_2", "1+3", "1-1", ".1", "1/2", "12345678901234567890"] {
            assert!(check_version(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flavours_differ_in_their_kernel_and_share_the_rest() {
        let kernels = |flavour| {
            let all = recipe(flavour, false).packages().unwrap();
            all.into_iter().filter(|name| name.starts_with("linux-image")).collect::<Vec<_>>()
        };
        assert_eq!(kernels(Flavour::Cloud), ["linux-image-cloud-amd64"]);
        assert_eq!(kernels(Flavour::Hardware), ["linux-image-amd64"]);
        let with = recipe(Flavour::Cloud, true).packages().unwrap();
        assert!(with.contains(&"frr".to_owned()) && with.contains(&"systemd".to_owned()));
        assert!(!with.iter().any(|name| name.contains("openssh") || name.contains("sudo")));
    }
}
