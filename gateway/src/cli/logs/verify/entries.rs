//! Files of a directory that somebody else may have filled: links are not followed, and nothing but regular
//! files is opened, so that a pipe or a device does not stop a verifier.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

/// Opens a regular file for reading.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// Paths of all that readers would take for a file of the recording: names that end in `.log`, here and one
/// directory below, whatever they are.
pub(super) fn recordings(directory: &Path) -> io::Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            for inner in fs::read_dir(entry.path())? {
                let inner = inner?.file_name();
                paths.push(format!("{name}/{}", inner.to_string_lossy()));
            }
        } else {
            paths.push(name);
        }
    }
    paths.retain(|path| path.ends_with(".log"));
    paths.sort_unstable();
    Ok(paths)
}
