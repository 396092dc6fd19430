//! What is started, and what is not: the image's own root, whole; and no image that the owner of the machine has not signed.

use std::time::Duration;

use anyhow::Result;
use portreeve_vm_tests::appliance::BOOT;
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::disk;
use portreeve_vm_tests::image::Image;
use portreeve_vm_tests::secure_boot;

use crate::Case;
use crate::disks::{direct, wait_for};

pub(crate) const CASES: &[Case] = &[
    ("panics_at_a_changed_block_of_its_root", panics_at_a_changed_block),
    ("is_refused_by_secure_boot_without_a_signature", is_refused_without_a_signature),
];

/// How long the firmware may take.
const FIRMWARE: Duration = Duration::from_secs(180);

fn panics_at_a_changed_block() -> Result<()> {
    let (mut bed, image) = direct("changed-block")?;
    let root = disk::partition(&image.disk(), &format!("portreeve_{}", image.version()))?;
    disk::overwrite_block(&bed.hardware_mut().disk, root)?;
    bed.switch_on()?;
    wait_for(&mut bed, BOOT, |line| line.contains("Kernel panic") && line.contains("verity"))?;
    bed.stop()
}

fn is_refused_without_a_signature() -> Result<()> {
    let image = Image::built_last()?;
    let mut bed = Bed::new("unsigned", secure_boot::firmware(), &image.disk(), "")?;
    bed.switch_on()?;
    wait_for(&mut bed, FIRMWARE, |line| line.contains("failed to load") && line.contains("Access Denied"))?;
    bed.stop()
}
