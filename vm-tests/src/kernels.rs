//! The kernels that are booted, and where `cargo xtask setup` puts them.
//!
//! They are Debian's own, as people run them. Which version of a line it is follows Debian's archive: security
//! updates of a stable release do not change what programs may do, and if one does, the test is to say so.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A line of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Names it in tests and directories.
    pub name: &'static str,
    /// The Debian package whose dependency it is.
    pub package: &'static str,
    /// What the package's version starts with.
    pub version: &'static str,
    /// What the package's version has in it, if it comes from backports.
    pub backport: Option<&'static str>,
}

/// A kernel that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// As `uname -r` says.
    pub release: String,
    /// What boots.
    pub image: PathBuf,
    /// The directory `modules/RELEASE` with its index.
    pub modules: PathBuf,
}

/// Debian 12's, Debian 13's, and the newest that Debian 13 can run.
pub const KERNELS: [Kernel; 3] = [
    Kernel { name: "6.1", version: "6.1.", backport: None, ..CLOUD },
    Kernel { name: "6.12", version: "6.12.", backport: None, ..CLOUD },
    Kernel { name: "newest", version: "", backport: Some("~bpo13"), ..CLOUD },
];

/// The flavour without drivers of physical devices.
const CLOUD: Kernel = Kernel { name: "", package: "linux-image-cloud-amd64", version: "", backport: None };

impl Kernel {
    /// Whether a version of [`Kernel::package`] is of this line.
    pub fn is_version(&self, version: &str) -> bool {
        let backport = self.backport.map_or(!version.contains("~bpo"), |mark| version.contains(mark));
        version.starts_with(self.version) && backport
    }

    /// The kernel on disk.
    ///
    /// # Errors
    /// When it is not there, with what to do.
    pub fn unpacked(&self) -> Result<Unpacked> {
        let directory = self.directory();
        let told = || format!("no kernel {} in {}: run `cargo xtask setup`", self.name, directory.display());
        let release = fs::read_to_string(directory.join("release")).with_context(told)?;
        let release = release.trim_end().to_owned();
        let modules = directory.join("modules").join(&release);
        Ok(Unpacked { image: directory.join("vmlinuz"), modules, release })
    }

    /// Where it is: `release`, `vmlinuz` and `modules/RELEASE`. It is there when the directory is.
    pub fn directory(&self) -> PathBuf {
        directory().join("kernels").join(self.name)
    }
}

/// What virtual machines have on the host.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/vm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_of_one_line() {
        let lines = |version: &str| -> Vec<_> {
            KERNELS.iter().filter(|kernel| kernel.is_version(version)).map(|kernel| kernel.name).collect()
        };
        assert_eq!(lines("6.1.192-2"), ["6.1"]);
        assert_eq!(lines("6.12.117-1"), ["6.12"]);
        assert_eq!(lines("6.12.95-1~bpo12+1"), [""; 0]);
        assert_eq!(lines("7.3.4-1~bpo13+1"), ["newest"]);
        assert_eq!(lines("7.2.13-1"), [""; 0]);
    }
}
