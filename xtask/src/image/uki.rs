//! The unified kernel image: kernel, initrd and command line in one program for UEFI, which one signature covers.
//!
//! Assembled as the UAPI group's specification of unified kernel images says: sections behind those of systemd's
//! stub, the kernel's last, since it may grow behind its end when it unpacks itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::workspace::require;

/// Words of the command line beside the root hash: consoles, a reboot ten seconds after a panic, no messages of
/// the audit subsystem, which nobody here reads, and of the kernel's security modules those that need no rules, which
/// nobody here writes.
const COMMAND_LINE: &str = "console=tty0 console=ttyS0,115200 panic=10 oops=panic loglevel=4 audit=0 \
                            lsm=lockdown,capability,landlock,yama systemd.show_status=error";

/// What a kernel image is made of, as files.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// systemd's stub.
    pub(super) stub: &'a Path,
    /// The kernel.
    pub(super) kernel: &'a Path,
    /// Its release.
    pub(super) release: &'a str,
    /// The initrd.
    pub(super) initrd: &'a Path,
    /// The root's `os-release`, from which menus have the name.
    pub(super) os_release: &'a Path,
    /// The command line.
    pub(super) command_line: &'a str,
}

/// The command line for a root.
pub(super) fn command_line(root_hash: &str) -> String {
    format!("roothash={root_hash} {COMMAND_LINE}")
}

/// Writes the image to `to`; `work` is for its parts.
///
/// # Errors
/// When a part cannot be read, or objcopy fails.
pub(super) fn write(parts: &Parts<'_>, work: &Path, to: &Path) -> anyhow::Result<()> {
    let (command_line, release) = (work.join("cmdline"), work.join("uname"));
    fs::write(&command_line, parts.command_line)?;
    fs::write(&release, parts.release)?;
    let stub = fs::read(parts.stub).with_context(|| format!("cannot read {}", parts.stub.display()))?;
    let layout = Layout::of(&stub).context("systemd's stub is no program for UEFI")?;
    let mut at = layout.end;
    let mut objcopy = Command::new("objcopy");
    // The program's own date is the stub's, else it would be now.
    objcopy.arg("--preserve-dates");
    for (name, file) in [
        (".osrel", parts.os_release),
        (".cmdline", &command_line),
        (".uname", &release),
        (".initrd", parts.initrd),
        (".linux", parts.kernel),
    ] {
        let size = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
        objcopy.arg("--add-section").arg(format!("{name}={}", file.display()));
        objcopy.arg(format!("--set-section-flags={name}=contents,alloc,load,readonly,data"));
        objcopy.arg(format!("--change-section-vma={name}={:#x}", layout.base + at));
        at = (at + size).next_multiple_of(layout.alignment);
    }
    require(objcopy.arg(parts.stub).arg(to))?;
    let written = Layout::of(&fs::read(to)?).context("objcopy wrote no program for UEFI")?;
    ensure!(written.end == at, "objcopy laid sections out otherwise: {:#x} for {at:#x}", written.end);
    Ok(())
}

/// Where sections lie in memory. Source: Microsoft's PE format, "Optional Header" and "Section Table".
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    base: u64,
    alignment: u64,
    /// Where a further section may begin, from the base.
    end: u64,
}

impl Layout {
    /// Reads a 64-bit program for UEFI; `None` when it is none.
    fn of(program: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(program.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_le_bytes(program.get(at..at + 2)?.try_into().ok()?));
        let header = usize::try_from(word(0x3c)?).ok()?;
        let optional = header + 24;
        if program.get(header..header + 4)? != b"PE\0\0" || half(optional)? != 0x20b {
            return None;
        }
        let base = u64::from_le_bytes(program.get(optional + 24..optional + 32)?.try_into().ok()?);
        let alignment = u64::from(word(optional + 32)?);
        let table = optional + usize::from(half(header + 20)?);
        let mut end = 0;
        for section in 0..usize::from(half(header + 6)?) {
            let row = table + section * 40;
            end = end.max(u64::from(word(row + 12)?) + u64::from(word(row + 8)?));
        }
        (alignment > 0).then(|| Self { base, alignment, end: end.next_multiple_of(alignment) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with one section of 0x1234 bytes at 0x2000.
    fn program() -> Vec<u8> {
        let mut bytes = vec![0; 0x200];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0x3c, &0x40_u32.to_le_bytes());
        put(0x40, b"PE\0\0");
        put(0x46, &1_u16.to_le_bytes());
        put(0x54, &0xf0_u16.to_le_bytes());
        put(0x58, &0x20b_u16.to_le_bytes());
        put(0x58 + 24, &0x1_4000_0000_u64.to_le_bytes());
        put(0x58 + 32, &0x1000_u32.to_le_bytes());
        let row = 0x58 + 0xf0;
        put(row + 8, &0x1234_u32.to_le_bytes());
        put(row + 12, &0x2000_u32.to_le_bytes());
        bytes
    }

    #[test]
    fn a_section_is_added_behind_the_last_one_aligned() {
        let layout = Layout::of(&program()).unwrap();
        assert_eq!(layout, Layout { base: 0x1_4000_0000, alignment: 0x1000, end: 0x4000 });
        assert_eq!(Layout::of(&program()[..0x60]), None);
        assert_eq!(Layout::of(b"MZ"), None);
    }

    #[test]
    fn the_command_line_begins_with_the_root_and_reboots_after_a_panic() {
        let line = command_line("ab");
        assert!(line.starts_with("roothash=ab ") && line.contains(" panic=10 "));
    }
}
