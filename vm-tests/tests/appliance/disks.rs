//! The disk in each format that people get, and machines with more than one disk or with those of a PC.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::run;
use portreeve_vm_tests::appliance::{BOOT, Firmware};
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::devices::Devices;
use portreeve_vm_tests::image::Image;

use crate::Case;
use crate::scene::LIMIT;

pub(crate) const CASES: &[Case] = &[
    ("is_the_same_disk_in_every_format", is_the_same_in_every_format),
    ("boots_from_its_own_disk_beside_another", boots_beside_another),
    ("does_not_choose_between_disks_of_one_version", does_not_choose),
];
/// Run when they are asked for: `cargo test ... -- --ignored`.
pub(crate) const ON_DEMAND: &[Case] = &[("serves_on_a_pc_from_a_usb_stick", serves_on_a_pc)];

/// Firmware without Secure Boot, and variables that nobody has set.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// How long a PC may take: its firmware reads the kernel image from a stick.
const PC_BOOT: Duration = Duration::from_secs(400);

/// Every format holds the raw disk, and the OVA is what it says of itself.
fn is_the_same_in_every_format() -> Result<()> {
    let image = Image::built_last()?;
    let (raw, ova) = (image.disk(), image.file("ova"));
    let dir = tempfile::tempdir_in(raw.parent().context("no directory")?)?;
    let unpacked = finish(Command::new("tar").args(["-xvf"]).arg(&ova).arg("-C").arg(dir.path()))?;
    let stem = raw.file_stem().context("no name")?.to_string_lossy().into_owned();
    let inside = ["ovf", "mf", "vmdk"].map(|ending| format!("{stem}.{ending}"));
    ensure!(unpacked.lines().eq(inside.iter()), "the OVA holds {unpacked}");
    let [ovf, manifest, vmdk] = inside.map(|name| dir.path().join(name));
    let sums = fs::read_to_string(manifest)?.replace("SHA256(", "SHA256 (").replace(")= ", ") = ");
    let mut check = Command::new("sha256sum");
    run(check.args(["--check", "--strict"]).current_dir(dir.path()), sums.as_bytes(), LIMIT)?.success()?;
    let ovf = fs::read_to_string(ovf)?;
    let said = |name: &str| ovf.split_once(&format!("{name}=\""))?.1.split('"').next()?.parse::<u64>().ok();
    ensure!(said("ovf:size") == Some(fs::metadata(&vmdk)?.len()), "{ovf}");
    ensure!(said("ovf:capacity") == Some(fs::metadata(&raw)?.len()), "{ovf}");
    finish(Command::new("cmp").arg(&vmdk).arg(image.file("vmdk")))?;
    for (format, file) in [("vmdk", vmdk), ("qcow2", image.file("qcow2"))] {
        let mut compare = Command::new("qemu-img");
        finish(compare.args(["compare", "-q", "-F", "raw", "-f", format]).arg(file).arg(&raw))?;
    }
    Ok(())
}

/// The other disk's `var` has the same names, and cannot be written: the machine would not come up with it. Without a seed
/// it asks for one.
fn boots_beside_another() -> Result<()> {
    let (mut bed, _) = direct("boots")?;
    let other = var_alone(bed.dir())?;
    let hardware = bed.hardware_mut();
    hardware.volumes.push(other);
    hardware.seed = None;
    bed.switch_on()?;
    wait_for(&mut bed, BOOT, |line| line.contains("portreeve-provision: there is no seed"))?;
    let asked = bed.appliance()?.console().wait_for_text(BOOT, "Name of this machine");
    asked.with_context(|| "no question on the console")?;
    bed.stop()
}

fn does_not_choose() -> Result<()> {
    let (mut bed, image) = direct("two-disks")?;
    bed.hardware_mut().volumes.push(image.disk());
    bed.switch_on()?;
    wait_for(&mut bed, BOOT, |line| {
        line.contains("portreeve-initrd: this version is on more than one disk")
    })?;
    bed.stop()
}

/// A user's session through the image for real machines.
fn serves_on_a_pc() -> Result<()> {
    let image = Image::of_flavour("hardware")?;
    let firmware = Firmware::Uefi { code: CODE.into(), variables: VARIABLES.into() };
    let mut bed = Bed::new("pc", firmware, &image.disk(), "")?;
    bed.hardware_mut().devices = Devices::Pc;
    bed.switch_on()?;
    let appliance = bed.appliance()?;
    let ready = appliance.console().wait_for_ready(PC_BOOT);
    let ready = ready.with_context(|| appliance.tail())?;
    ensure!(ready.slot == "A" && ready.version == image.version(), "{ready:?}");
    let session = run(bed.client_ssh("ssh").args(["-q", "alice@10.1.2.3", "echo served"]), b"", LIMIT)?;
    ensure!(session.success()? == "served\n", "no session");
    bed.stop()
}

/// A machine whose kernel QEMU loads.
pub(crate) fn direct(name: &str) -> Result<(Bed, Image)> {
    let image = Image::built_last()?;
    let firmware = Firmware::Direct { image: image.clone(), more: String::new() };
    Ok((Bed::new(name, firmware, &image.disk(), "")?, image))
}

pub(crate) fn wait_for(bed: &mut Bed, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let appliance = bed.appliance()?;
    let found = appliance.console().wait_for(limit, |line| wanted(line).then_some(()));
    found.with_context(|| appliance.tail())
}

/// A disk with nothing but a `var`.
fn var_alone(dir: &Path) -> Result<PathBuf> {
    let disk = dir.join("other.raw");
    fs::File::create(&disk)?.set_len(64 << 20)?;
    let table = b"label: gpt\nstart=2048, type=4d21b016-b534-45c2-a9fb-5c16e091fd2d, name=portreeve-var\n";
    run(Command::new("sfdisk").args(["--quiet"]).arg(&disk), table, LIMIT)?.success()?;
    let mut format = Command::new("mkfs.ext4");
    format.args(["-q", "-F", "-L", "portreeve-var", "-E", "offset=1048576"]).arg(&disk);
    finish(format.arg("32M"))?;
    Ok(disk)
}

fn finish(command: &mut Command) -> Result<String> {
    run(command, b"", LIMIT)?.success()
}
