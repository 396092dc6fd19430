//! What a session's directory holds, which somebody else may have filled.

use std::io;

use crate::cli::logs::location::{Kind, Location};

/// Paths of all that readers would take for a file of the recording: names that end in `.log`, here and one
/// directory below, whatever they are.
pub(super) fn recordings(directory: &Location) -> io::Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in directory.entries()? {
        let name = entry.name.to_string_lossy();
        if entry.kind == Kind::Directory {
            let inner = directory.join(&entry.name).entries()?;
            paths.extend(inner.iter().map(|inner| format!("{name}/{}", inner.name.display())));
        } else {
            paths.push(name.into_owned());
        }
    }
    paths.retain(|path| path.ends_with(".log"));
    paths.sort_unstable();
    Ok(paths)
}
