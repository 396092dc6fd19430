//! The sessions below a directory: a spool, a shipped copy of one, or one session's own directory.
//!
//! Owns how they are found: by the names of docs/log-format.md, "A session", at most [`MAX_DEPTH`] directories deep.
//! Symbolic links are not followed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use portreeve_core::utc::UtcTime;

/// How far below the directory sessions are looked for; shipped copies may be sorted by gateway and day.
const MAX_DEPTH: usize = 5;

/// Ends the name of a session directory that is still written, or was left by a crash.
const PART: &str = ".part";

/// A session's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionDirectory {
    pub(super) path: PathBuf,
    /// By the gateway's clock, in whole milliseconds.
    pub(super) started: UtcTime,
    /// The session's id.
    pub(super) id: String,
    /// Whether it is still written, or was left by a crash.
    pub(super) is_unfinished: bool,
}

/// A directory that cannot be listed, and why.
pub(super) type Unlisted = (PathBuf, io::Error);

/// The sessions below `root`, in the order they started, and the directories that cannot be listed.
///
/// # Errors
/// When `root` itself cannot be listed.
pub(super) fn sessions(root: &Path) -> io::Result<(Vec<SessionDirectory>, Vec<Unlisted>)> {
    // `.` has no name, and neither has a path that ends in `..`.
    let named = if root.file_name().is_none() { fs::canonicalize(root)? } else { root.to_owned() };
    let mut unlisted = Vec::new();
    if let Some(session) = SessionDirectory::of(&named) {
        fs::read_dir(root)?;
        return Ok((vec![session], unlisted));
    }
    let mut sessions = Vec::new();
    let mut left = vec![(root.to_owned(), 0)];
    while let Some((directory, depth)) = left.pop() {
        let below = match directories(&directory) {
            Ok(below) => below,
            Err(error) if depth == 0 => return Err(error),
            Err(error) => {
                unlisted.push((directory, error));
                continue;
            }
        };
        for path in below {
            match SessionDirectory::of(&path) {
                Some(session) => sessions.push(session),
                None if depth + 1 < MAX_DEPTH => left.push((path, depth + 1)),
                None => {}
            }
        }
    }
    sessions.sort_by(|a, b| (a.started, &a.id).cmp(&(b.started, &b.id)));
    Ok((sessions, unlisted))
}

impl SessionDirectory {
    /// What the name of a directory says; `None` where it is no session's.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let finished = name.strip_suffix(PART);
        let (started, id) = finished.unwrap_or(name).split_once('-')?;
        let is_uuid = id.len() == 36
            && id.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        let started = started.parse().ok().filter(|_| is_uuid)?;
        Some(Self {
            path: path.to_owned(),
            started: UtcTime::from_unix_millis(started),
            id: id.to_owned(),
            is_unfinished: finished.is_some(),
        })
    }

    /// Bytes of all its files, those for other recipients included.
    pub(super) fn size(&self) -> io::Result<u64> {
        let mut bytes = file_bytes(&self.path)?;
        for directory in directories(&self.path)? {
            bytes += file_bytes(&directory)?;
        }
        Ok(bytes)
    }
}

fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn file_bytes(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5f0c7a52-31d2-4c3a-9d5e-0a1b2c3d4e5f";

    #[test]
    fn sessions_are_found_by_name_at_any_depth_in_the_order_they_started() {
        let scratch = tempfile::tempdir().unwrap();
        for name in [
            format!("gw1/2026/11/2000-{ID}"),
            format!("1000-{ID}.part"),
            "lost+found".to_owned(),
            "3000-no-uuid".to_owned(),
            format!("too/deep/to/be/looked/at/4000-{ID}"),
        ] {
            fs::create_dir_all(scratch.path().join(name)).unwrap();
        }
        let (found, unlisted) = sessions(scratch.path()).unwrap();
        let found: Vec<_> = found.iter().map(|s| (s.started.unix_millis(), s.is_unfinished)).collect();
        assert_eq!((found, unlisted.len()), (vec![(1000, true), (2000, false)], 0));
        let alone = scratch.path().join(format!("gw1/2026/11/2000-{ID}"));
        fs::write(alone.join("events.log"), "12345").unwrap();
        fs::create_dir(alone.join("0f6d2553ff0c0f44")).unwrap();
        fs::write(alone.join("0f6d2553ff0c0f44/events.log"), "123").unwrap();
        let (found, _) = sessions(&alone).unwrap();
        assert_eq!((found.len(), found[0].id.as_str(), found[0].size().unwrap()), (1, ID, 8));
        assert!(sessions(&scratch.path().join("missing")).is_err());
    }
}
