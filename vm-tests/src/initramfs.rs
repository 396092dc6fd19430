//! A directory as an archive that a kernel unpacks into its first root: cpio, format `newc`.
//!
//! Source: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`. Owners are root, times are
//! zero, and entries are sorted, so that one directory gives one archive. Devices are not read from the
//! directory: `/dev/console` is added, since process 1 has its streams from there.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTERS: u32 = 0o020_000;
/// Major and minor number of `/dev/console`.
const CONSOLE: [u32; 2] = [5, 1];
/// What ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// Writes entries one after the other.
struct Archive<W> {
    to: W,
    number: u32,
}

/// Writes everything below `root`.
///
/// # Errors
/// When a file cannot be read, or is larger than the format allows, or `to` fails.
pub fn write(root: &Path, to: impl Write) -> io::Result<()> {
    let mut archive = Archive { to, number: 0 };
    archive.directory(root, Path::new(""))?;
    archive.entry(b"dev/console", CHARACTERS | 0o600, CONSOLE, &[])?;
    archive.entry(TRAILER, 0, [0; 2], &[])
}

impl<W: Write> Archive<W> {
    fn directory(&mut self, root: &Path, inside: &Path) -> io::Result<()> {
        let mut names = fs::read_dir(root.join(inside))?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        for name in names {
            let inside = inside.join(name);
            let path = root.join(&inside);
            let meta = fs::symlink_metadata(&path)?;
            let (name, mode) = (inside.as_os_str().as_bytes(), meta.permissions().mode() & 0o7777);
            if meta.is_dir() {
                self.entry(name, DIRECTORY | mode, [0; 2], &[])?;
                self.directory(root, &inside)?;
            } else if meta.is_symlink() {
                let target = fs::read_link(&path)?;
                self.entry(name, LINK | 0o777, [0; 2], target.as_os_str().as_bytes())?;
            } else if meta.is_file() {
                self.entry(name, FILE | mode, [0; 2], &fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &[u8], mode: u32, device: [u32; 2], content: &[u8]) -> io::Result<()> {
        self.number += 1;
        let length = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
        let (size, name_size) = (length(content.len())?, length(name.len())? + 1);
        let [major, minor] = device;
        // Owner, group, links, time, and the device that it is on, which nobody reads.
        let fields = [self.number, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08X}")?;
        }
        header.extend(name);
        header.push(0);
        self.padded(&header)?;
        self.padded(content)
    }

    /// Headers and contents fill words of four bytes.
    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.to.write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_archive_has_every_entry_once_aligned_and_ends_as_it_must() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("b")).unwrap();
        fs::write(root.path().join("b/file"), "12345").unwrap();
        symlink("b/file", root.path().join("a")).unwrap();
        let mut bytes = Vec::new();
        write(root.path(), &mut bytes).unwrap();
        let mut at = 0;
        let mut found = Vec::new();
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |index: usize| {
                let from = at + 6 + index * 8;
                usize::from_str_radix(std::str::from_utf8(&bytes[from..from + 8]).unwrap(), 16).unwrap()
            };
            let (mode, size, name) = (field(1), field(6), field(11));
            let content = (at + 110 + name).next_multiple_of(4);
            found.push((
                String::from_utf8(bytes[at + 110..at + 109 + name].to_vec()).unwrap(),
                mode >> 12,
                String::from_utf8(bytes[content..content + size].to_vec()).unwrap(),
            ));
            at = (content + size).next_multiple_of(4);
        }
        let entry = |name: &str, kind, content: &str| (name.to_owned(), kind, content.to_owned());
        let expected = [
            entry("a", 0o12, "b/file"),
            entry("b", 0o4, ""),
            entry("b/file", 0o10, "12345"),
            entry("dev/console", 0o2, ""),
            entry("TRAILER!!!", 0, ""),
        ];
        assert_eq!(found, expected);
    }
}
