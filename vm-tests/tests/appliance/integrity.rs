//! What is started, and what is not: the image's own root, whole; and no image that the owner of the machine has not signed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use portreeve_vm_tests::appliance::{BOOT, Firmware};
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::console::Missed;
use portreeve_vm_tests::disk;
use portreeve_vm_tests::image::Image;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("boots_from_its_disk", boots_from_its_disk),
    ("panics_at_a_changed_block_of_its_root", panics_at_a_changed_block),
    ("is_refused_by_secure_boot_without_a_signature", is_refused_without_a_signature),
];

/// Firmware with Secure Boot, and variables in which it is on, with keys that Debian made for tests.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
/// How long the firmware may take.
const FIRMWARE: Duration = Duration::from_secs(90);

/// A machine whose kernel QEMU loads.
fn direct(name: &str) -> Result<(Bed, Image)> {
    let image = Image::built_last()?;
    let firmware = Firmware::Direct { image: image.clone(), more: String::new() };
    Ok((Bed::new(name, firmware, &image.disk(), "")?, image))
}

fn wait_for(bed: &mut Bed, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let appliance = bed.appliance()?;
    let found: Result<(), Missed> = appliance.console().wait_for(limit, |line| wanted(line).then_some(()));
    found.with_context(|| appliance.tail())
}

fn boots_from_its_disk() -> Result<()> {
    let (mut bed, _) = direct("boots")?;
    bed.switch_on()?;
    // What stands before the prompt for a name.
    wait_for(&mut bed, BOOT, |line| line.contains("Linux") && line.ends_with("ttyS0"))?;
    bed.stop()
}

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
    let firmware = Firmware::Uefi { code: CODE.into(), variables: VARIABLES.into() };
    let mut bed = Bed::new("unsigned", firmware, &image.disk(), "")?;
    let variables = bed.dir().join("variables.fd");
    fs::copy(Path::new(VARIABLES), &variables).context("Debian package ovmf: run `cargo xtask setup`")?;
    bed.hardware_mut().firmware = Firmware::Uefi { code: CODE.into(), variables };
    bed.switch_on()?;
    wait_for(&mut bed, FIRMWARE, |line| line.contains("failed to load") && line.contains("Access Denied"))?;
    bed.stop()
}
