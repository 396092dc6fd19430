//! Which image of the appliance runs, and from which slot of the disk.
//!
//! The image's version is in `/etc/os-release`; the slot is that of the partitions below the root's dm-verity device.
//! On any other machine the version is the program's, and there is no slot.

use std::fs;
use std::path::Path;

use nix::sys::stat::{major, minor, stat};
use serde::Serialize;

/// Numbers of the partitions of slot A and of slot B: root, and its verity data.
const SLOT_A: [u32; 2] = [2, 3];
const SLOT_B: [u32; 2] = [4, 5];

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Image {
    pub(super) version: String,
    /// `A`, `B` or `-`.
    pub(super) slot: &'static str,
}

impl Image {
    /// What this machine was started from.
    pub(super) fn of_this_machine() -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let version = image_version(&release).unwrap_or(env!("CARGO_PKG_VERSION")).to_owned();
        Self { version, slot: slot(&root_partitions()) }
    }
}

/// `IMAGE_VERSION` of os-release(5).
fn image_version(release: &str) -> Option<&str> {
    let value = release.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION="))?;
    Some(value.trim().trim_matches(['"', '\'']))
}

/// Numbers of the partitions that the device of the root file system is made of; none where it is not made of any.
fn root_partitions() -> Vec<u32> {
    let Ok(root) = stat("/") else { return Vec::new() };
    let device = format!("/sys/dev/block/{}:{}/slaves", major(root.st_dev), minor(root.st_dev));
    let slaves = fs::read_dir(Path::new(&device)).into_iter().flatten().flatten();
    let number =
        |entry: fs::DirEntry| fs::read_to_string(entry.path().join("partition")).ok()?.trim().parse().ok();
    slaves.filter_map(number).collect()
}

fn slot(partitions: &[u32]) -> &'static str {
    let all_in =
        |slot: [u32; 2]| !partitions.is_empty() && partitions.iter().all(|number| slot.contains(number));
    if all_in(SLOT_A) {
        "A"
    } else if all_in(SLOT_B) {
        "B"
    } else {
        "-"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_that_of_both_partitions() {
        for (partitions, expected) in
            [(&[2, 3][..], "A"), (&[5, 4], "B"), (&[2, 5], "-"), (&[], "-"), (&[1], "-")]
        {
            assert_eq!(slot(partitions), expected, "{partitions:?}");
        }
    }

    #[test]
    fn the_version_of_an_image_is_read_with_and_without_quotes() {
        assert_eq!(image_version("ID=debian\nIMAGE_VERSION=\"1.4\"\n"), Some("1.4"));
        assert_eq!(image_version("IMAGE_VERSION=1.4\nX=1"), Some("1.4"));
        assert_eq!(image_version("VERSION_ID=13"), None);
    }
}
