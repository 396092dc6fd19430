//! Disks of machines: copies that share what they do not change, and small volumes with files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portreeve_tests::run;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(180);
/// Bytes of a volume beside its files.
const VOLUME: u64 = 4 << 20;

/// Makes `path` a disk that begins as the image `base` and keeps what is written; `base` stays as it is.
///
/// # Errors
/// When qemu-img refuses.
pub fn overlay(base: &Path, path: &Path) -> Result<()> {
    let base = base.canonicalize().with_context(|| base.display().to_string())?;
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(base).arg(path);
    finish(&mut command)
}

/// Makes `path` a volume with a label and files, each by its name there.
///
/// # Errors
/// When a tool refuses.
pub fn volume(path: &Path, label: &str, files: &[(&str, &Path)]) -> Result<()> {
    let sizes = files.iter().map(|(_, file)| Ok(fs::metadata(file)?.len()));
    // Allocation tables are a small part of what they describe.
    let size = sizes.sum::<std::io::Result<u64>>()? / 31 * 32 + VOLUME;
    File::create(path)?.set_len(size.next_multiple_of(VOLUME))?;
    finish(Command::new("mkfs.vfat").args(["-n", label]).arg(path))?;
    for (name, file) in files {
        finish(Command::new("mcopy").arg("-i").arg(path).arg(file).arg(format!("::{name}")))?;
    }
    Ok(())
}

/// The raw contents of a disk that no machine has, written to `to`.
///
/// # Errors
/// When qemu-img refuses.
pub fn raw(disk: &Path, to: PathBuf) -> Result<PathBuf> {
    finish(Command::new("qemu-img").args(["convert", "-q", "-O", "raw"]).arg(disk).arg(&to))?;
    Ok(to)
}

/// Where the partition of this name begins on a raw disk, in bytes.
///
/// # Errors
/// When there is none.
pub fn partition(disk: &Path, name: &str) -> Result<u64> {
    let listed = run(Command::new("sfdisk").arg("--json").arg(disk), b"", LIMIT)?.success()?;
    let listed: Value = serde_json::from_str(&listed)?;
    let all = listed["partitiontable"]["partitions"].as_array().context("no partitions")?;
    let found = all.iter().find(|part| part["name"] == name);
    let start = found.and_then(|part| part["start"].as_u64());
    // Sectors have 512 bytes.
    Ok(start.with_context(|| format!("no partition {name}: {listed}"))? * 512)
}

/// Files in a directory of a FAT volume, as mtools name both: `FILE@@OFFSET`, `::/DIRECTORY/FILE`.
///
/// # Errors
/// When there is no such directory.
pub fn listed(volume: &str, directory: &str) -> Result<Vec<String>> {
    let mut mdir = Command::new("mdir");
    let listed = run(mdir.args(["-b", "-i", volume, &format!("::/{directory}/")]), b"", LIMIT)?.success()?;
    Ok(listed.lines().filter(|line| !line.ends_with('/')).map(str::to_owned).collect())
}

/// Replaces a text in a file on the boot partition of a raw disk that no machine has.
///
/// # Errors
/// When the file, or the text in it, is not there.
pub fn change_on_boot_partition(disk: &Path, file: &str, [from, to]: [&str; 2]) -> Result<()> {
    let (volume, place) = (format!("{}@@{}", disk.display(), partition(disk, "esp")?), format!("::/{file}"));
    let text = run(Command::new("mtype").args(["-i", &volume, &place]), b"", LIMIT)?.success()?;
    ensure!(text.contains(from), "no {from:?} in {file}: {text:?}");
    let changed = text.replace(from, to);
    run(Command::new("mcopy").args(["-o", "-i", &volume, "-", &place]), changed.as_bytes(), LIMIT)?
        .success()?;
    Ok(())
}

/// Overwrites the 4096 bytes at `offset` of a disk that no machine has.
///
/// # Errors
/// When qemu-io refuses.
pub fn overwrite_block(disk: &Path, offset: u64) -> Result<()> {
    let write = format!("write -q -P 0x5a {offset} 4096");
    finish(Command::new("qemu-io").args(["-f", "qcow2", "-c", &write]).arg(disk))
}

/// Runs a program to its end.
///
/// # Errors
/// When it is missing, with what to do, or refuses.
pub(crate) fn finish(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let finished = run(command, b"", LIMIT);
    finished
        .and_then(|finished| finished.success())
        .with_context(|| format!("{program}: see `cargo xtask setup`"))?;
    Ok(())
}
