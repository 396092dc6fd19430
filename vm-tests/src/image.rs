//! The image that `cargo xtask image` has built last: its disk, and what a machine without firmware boots.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where images are, below the workspace.
const DIRECTORY: &str = "target/image";

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `DIRECTORY/portreeve_VERSION_FLAVOUR`, to which endings are added.
    stem: String,
    version: String,
}

impl Image {
    /// The one of the cloud flavour that was built last: in `PORTREEVE_IMAGES`, a directory, or in the workspace's.
    ///
    /// # Errors
    /// When there is none, with what to do.
    pub fn built_last() -> Result<Self> {
        Self::of_flavour("cloud")
    }

    /// As [`Image::built_last`], of another flavour.
    ///
    /// # Errors
    /// As [`Image::built_last`].
    pub fn of_flavour(flavour: &str) -> Result<Self> {
        let given = std::env::var_os("PORTREEVE_IMAGES").map(PathBuf::from);
        let directory = given.unwrap_or_else(|| crate::built::workspace().join(DIRECTORY));
        let told = || {
            let there = directory.display();
            format!("no image in {there}: run `cargo xtask image --debug --flavour {flavour}`")
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&directory).with_context(told)? {
            let path = entry?.path();
            if version(&path, flavour).is_some() {
                found.push((fs::metadata(&path)?.modified()?, path));
            }
        }
        found.sort_unstable();
        let Some((_, path)) = found.pop() else { bail!(told()) };
        Ok(Self {
            stem: path.with_extension("").display().to_string(),
            version: version(&path, flavour).unwrap_or_default(),
        })
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The whole disk.
    pub fn disk(&self) -> PathBuf {
        self.file("raw")
    }

    /// The same as qcow2, where the image was not built for tests alone.
    pub fn qcow2(&self) -> PathBuf {
        self.file("qcow2")
    }

    /// The kernel, for a machine that boots it without firmware.
    pub fn kernel(&self) -> PathBuf {
        self.file("vmlinuz")
    }

    /// The initrd that goes with [`Image::kernel`].
    pub fn initrd(&self) -> PathBuf {
        self.file("initrd")
    }

    /// The command line that goes with [`Image::kernel`].
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn command_line(&self) -> Result<String> {
        let path = self.file("cmdline");
        let line = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(line.trim().to_owned())
    }

    /// A file of it, by how its name ends: `qcow2`, `ova`.
    pub fn file(&self, ending: &str) -> PathBuf {
        PathBuf::from(format!("{}.{ending}", self.stem))
    }
}

/// The version in the name of a disk of a flavour.
fn version(path: &Path, flavour: &str) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_prefix("portreeve_")?;
    Some(name.strip_suffix(".raw")?.strip_suffix(flavour)?.strip_suffix('_')?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_told_by_its_name() {
        assert_eq!(version(Path::new("/t/portreeve_0.1.0~2_cloud.raw"), "cloud"), Some("0.1.0~2".into()));
        assert_eq!(version(Path::new("/t/portreeve_0.1.0_hardware.raw"), "cloud"), None);
        let image = Image { stem: "/t/portreeve_0.1.0_cloud".into(), version: "0.1.0".into() };
        assert_eq!(image.kernel(), Path::new("/t/portreeve_0.1.0_cloud.vmlinuz"));
    }
}
