//! The disk: its partition table, the boot partition, and where everything lies. Needs no loop device.
//!
//! The table: boot partition (`esp`), root and hashes of slot A, the same of slot B, empty at first. What is left is
//! for `/var`, which the appliance makes at its first boot. Labels are those by which systemd-sysupdate knows versions.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::digest;
use super::recipe::Recipe;
use super::verity::{Verified, uuid};
use crate::workspace::require;

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
/// Room for the kernel images of both slots, in bytes.
const ESP: u64 = 160 * MIB;
/// The partition of a root, in bytes.
pub(super) const SLOT: u64 = 512 * MIB;
/// The partition of its hashes: one part in 128, and room. In bytes.
pub(super) const HASHES: u64 = 8 * MIB;
const _: () = assert!(SLOT / 128 < HASHES, "hashes of a full slot fit");
/// The whole disk, in bytes. What is left becomes `/var` of a machine whose disk was not made larger.
const DISK: u64 = 2048 * MIB;

/// Types of partitions. Source: the Discoverable Partitions Specification.
const TYPE_ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const TYPE_ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const TYPE_HASHES: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";
/// The label by which systemd-sysupdate knows a partition that it may fill.
const FREE: &str = "_empty";

/// A row of the partition table; places and sizes in bytes.
#[derive(Debug)]
struct Partition {
    kind: &'static str,
    label: String,
    uuid: String,
    start: u64,
    size: u64,
}

/// A file of the boot partition: where it lies there, and here.
pub(super) type BootFile = (String, PathBuf);

/// Makes the boot partition's file system.
///
/// # Errors
/// When a program fails.
pub(super) fn boot_partition(files: &[BootFile], epoch: u64, to: &Path) -> anyhow::Result<()> {
    File::create(to)?.set_len(ESP)?;
    let dated = |command: &mut Command| {
        command.env("SOURCE_DATE_EPOCH", epoch.to_string()).env("TZ", "UTC").stdout(Stdio::null());
        require(command)
    };
    let mut format = Command::new("mkfs.vfat");
    dated(format.args(["-F32", "-S512", "-nESP", "--invariant"]).arg(to))?;
    let mut made = Vec::new();
    for (inside, file) in files {
        let parts: Vec<&str> = inside.split('/').collect();
        for depth in 1..parts.len() {
            let directory = parts.iter().take(depth).copied().collect::<Vec<_>>().join("/");
            if !made.contains(&directory) {
                dated(Command::new("mmd").arg("-i").arg(to).arg(format!("::{directory}")))?;
                made.push(directory);
            }
        }
        dated(Command::new("mcopy").arg("-i").arg(to).arg(file).arg(format!("::{inside}")))?;
    }
    Ok(())
}

/// Writes the disk.
///
/// # Errors
/// When a part is too large, or cannot be read or written.
pub(super) fn write(recipe: &Recipe, verified: &Verified, esp: &Path, to: &Path) -> anyhow::Result<()> {
    verified.check_sizes(SLOT, HASHES)?;
    let partitions = partitions(recipe, verified);
    let disk = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(to)?;
    disk.set_len(DISK)?;
    let mut sfdisk = Command::new("sfdisk");
    sfdisk.args(["--quiet", "--no-reread", "--no-tell-kernel"]).arg(to);
    let mut running = sfdisk.stdin(Stdio::piped()).spawn().context("start sfdisk")?;
    running.stdin.take().context("no pipe")?.write_all(script(recipe, &partitions).as_bytes())?;
    ensure!(running.wait()?.success(), "sfdisk does not take the table");
    for (partition, file) in partitions.iter().zip([esp, &verified.root, &verified.hashes]) {
        fill(&disk, partition.start, file)?;
    }
    Ok(disk.sync_all()?)
}

fn partitions(recipe: &Recipe, verified: &Verified) -> Vec<Partition> {
    let fixed = |name: &str| uuid(&digest(&["partition", &recipe.prefix(), name]));
    let label = recipe.label();
    let rows = [
        (TYPE_ESP, "esp".to_owned(), fixed("esp"), ESP),
        (TYPE_ROOT, label.clone(), verified.root_uuid(), SLOT),
        (TYPE_HASHES, format!("{label}_verity"), verified.hashes_uuid(), HASHES),
        (TYPE_ROOT, FREE.to_owned(), fixed("root-b"), SLOT),
        (TYPE_HASHES, FREE.to_owned(), fixed("hashes-b"), HASHES),
    ];
    let mut start = MIB;
    let placed = rows.into_iter().map(|(kind, label, uuid, size)| {
        let partition = Partition { kind, label, uuid, start, size };
        start += size;
        partition
    });
    placed.collect()
}

/// What sfdisk reads.
fn script(recipe: &Recipe, partitions: &[Partition]) -> String {
    let id = uuid(&digest(&["disk", &recipe.prefix()]));
    let head = format!("label: gpt\nlabel-id: {id}\nunit: sectors\n\n");
    let row = |partition: &Partition| {
        let Partition { kind, label, uuid, start, size } = partition;
        let (start, size) = (start / SECTOR, size / SECTOR);
        format!("start={start}, size={size}, type={kind}, uuid={uuid}, name=\"{label}\"\n")
    };
    head + &partitions.iter().map(row).collect::<String>()
}

/// Copies a file to a place on the disk; blocks of zeros are left as holes.
fn fill(mut disk: &File, at: u64, file: &Path) -> anyhow::Result<()> {
    let mut from = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut block = vec![0; 64 << 10];
    disk.seek(SeekFrom::Start(at))?;
    loop {
        let read = from.read(&mut block)?;
        let Some(bytes) = block.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        if bytes.iter().all(|byte| *byte == 0) {
            disk.seek(SeekFrom::Current(i64::try_from(read)?))?;
        } else {
            disk.write_all(bytes)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::recipe::Flavour;
    use super::*;

    fn table() -> (Recipe, Vec<Partition>) {
        let recipe = Recipe { flavour: Flavour::Cloud, frr: false, version: "1.2".to_owned() };
        let root_hash = "0123456789abcdef".repeat(4);
        let verified = Verified { root: PathBuf::new(), hashes: PathBuf::new(), root_hash };
        let partitions = partitions(&recipe, &verified);
        (recipe, partitions)
    }

    #[test]
    fn partitions_follow_each_other_fit_and_leave_room_for_what_is_kept() {
        let (_, table) = table();
        for pair in table.windows(2) {
            assert_eq!(pair[0].start + pair[0].size, pair[1].start);
        }
        let end = table.last().map(|last| last.start + last.size).unwrap();
        assert!(end + 512 * MIB < DISK, "{end}");
    }

    #[test]
    fn labels_are_those_that_updates_match() {
        let (recipe, table) = table();
        let labels: Vec<_> = table.iter().map(|partition| partition.label.as_str()).collect();
        assert_eq!(labels, ["esp", "portreeve_1.2", "portreeve_1.2_verity", "_empty", "_empty"]);
        let script = script(&recipe, &table);
        assert!(
            script.contains("uuid=01234567-89ab-cdef-0123-456789abcdef, name=\"portreeve_1.2\""),
            "{script}"
        );
    }

    #[test]
    fn holes_stay_holes() {
        let directory = tempfile::tempdir().unwrap();
        let (part, disk) = (directory.path().join("part"), directory.path().join("disk"));
        let mut contents = vec![0; 200 << 10];
        contents[150 << 10] = 7;
        fs::write(&part, &contents).unwrap();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&disk).unwrap();
        file.set_len(MIB).unwrap();
        fill(&file, 4096, &part).unwrap();
        let written = fs::read(&disk).unwrap();
        assert_eq!(&written[4096..4096 + contents.len()], contents);
        assert_eq!(written.len(), 1 << 20);
    }
}
