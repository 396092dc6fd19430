//! The read-only root and the tree of hashes by which the kernel verifies it.
//!
//! Both are functions of the tree alone: times, UUIDs and the salt are fixed. The root hash names the two
//! partitions, as the Discoverable Partitions Specification says: their UUIDs are its two halves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::digest;
use crate::workspace::{printed, require};

/// Bytes that are compressed together: more are smaller, and slower to read at random.
const CLUSTER: &str = "65536";

/// A root with its hashes.
#[derive(Debug)]
pub(super) struct Verified {
    /// The file system.
    pub(super) root: PathBuf,
    /// Its hashes.
    pub(super) hashes: PathBuf,
    /// The hash of the hashes, 64 digits.
    pub(super) root_hash: String,
}

impl Verified {
    /// Makes both files in `work`. `epoch` is every file's time, in seconds.
    ///
    /// # Errors
    /// When a program fails.
    pub(super) fn new(tree: &Path, epoch: u64, work: &Path) -> anyhow::Result<Self> {
        let (root, hashes) = (work.join("root.erofs"), work.join("root.verity"));
        let mut erofs = Command::new("mkfs.erofs");
        erofs.arg("--quiet").arg(format!("-T{epoch}")).arg(format!("-U{}", uuid(&digest(&["root"]))));
        erofs.args(["-zlz4hc,9", "-x-1"]).arg(format!("-C{CLUSTER}")).arg(&root).arg(tree);
        require(&mut erofs)?;
        let contents = printed(Command::new("sha256sum").arg("--zero").arg(&root))?;
        let salt = contents.get(..64).context("sha256sum printed no sum")?;
        let mut format = Command::new("veritysetup");
        format
            .arg("format")
            .arg(format!("--salt={salt}"))
            .arg(format!("--uuid={}", uuid(&digest(&["hashes"]))));
        let listed = printed(format.arg(&root).arg(&hashes))?;
        let root_hash = root_hash(&listed).context("veritysetup printed no root hash")?.to_owned();
        Ok(Self { root, hashes, root_hash })
    }

    /// The UUID of the root's partition.
    pub(super) fn root_uuid(&self) -> String {
        uuid(&self.root_hash)
    }

    /// The UUID of the partition with the hashes.
    pub(super) fn hashes_uuid(&self) -> String {
        uuid(self.root_hash.get(32..).unwrap_or_default())
    }

    /// Checks that both fit into partitions of these sizes, in bytes.
    ///
    /// # Errors
    /// When one does not.
    pub(super) fn check_sizes(&self, slot: u64, hashes: u64) -> anyhow::Result<()> {
        for (file, most) in [(&self.root, slot), (&self.hashes, hashes)] {
            let size = fs::metadata(file)?.len();
            ensure!(size <= most, "{} has {size} bytes, its partition {most}", file.display());
        }
        Ok(())
    }
}

/// The first 32 hexadecimal digits as a UUID.
pub(super) fn uuid(digits: &str) -> String {
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

fn root_hash(listed: &str) -> Option<&str> {
    let hash = listed.lines().find_map(|line| line.strip_prefix("Root hash:"))?.trim();
    (hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_by_the_halves_of_the_root_hash() {
        let root_hash = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef".to_owned();
        let listed = format!("Hash type:       \t1\nRoot hash:      \t{root_hash}\n");
        assert_eq!(super::root_hash(&listed), Some(root_hash.as_str()));
        assert_eq!(super::root_hash("Root hash: 12\n"), None);
        let verified = Verified { root: PathBuf::new(), hashes: PathBuf::new(), root_hash };
        assert_eq!(verified.root_uuid(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(verified.hashes_uuid(), "01234567-89ab-cdef-0123-456789abcdef");
    }
}
