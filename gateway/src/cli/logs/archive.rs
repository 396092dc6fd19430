//! The sessions below a directory: a spool, a shipped copy of one, or one session's own directory.
//!
//! Owns how they are found: by the names of docs/log-format.md, "A session", at most [`MAX_DEPTH`] directories deep.
//! Symbolic links are not followed.

use std::io;

use portreeve_core::utc::UtcTime;

use super::location::{Kind, Location};

/// How far below the directory sessions are looked for; shipped copies may be sorted by gateway and day.
const MAX_DEPTH: usize = 5;

/// Ends the name of a session directory that is still written, or was left by a crash.
const PART: &str = ".part";

/// A session's directory.
#[derive(Clone)]
pub(super) struct SessionDirectory {
    pub(super) path: Location,
    /// By the gateway's clock, in whole milliseconds.
    pub(super) started: UtcTime,
    /// The session's id.
    pub(super) id: String,
    /// Whether it is still written, or was left by a crash.
    pub(super) is_unfinished: bool,
}

/// A directory that cannot be listed, and why.
pub(super) type Unlisted = (Location, io::Error);

/// The sessions below `root`, in the order they started, and the directories that cannot be listed.
///
/// # Errors
/// When `root` itself cannot be listed.
pub(super) fn sessions(root: &Location) -> io::Result<(Vec<SessionDirectory>, Vec<Unlisted>)> {
    // `.` has no name, and neither has a path that ends in `..`.
    let named = if root.file_name().is_none() { root.canonical()? } else { root.clone() };
    let mut unlisted = Vec::new();
    if let Some(session) = SessionDirectory::of(&named) {
        root.entries()?;
        return Ok((vec![session], unlisted));
    }
    let mut sessions = Vec::new();
    let mut left = vec![(root.clone(), 0)];
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
    fn of(path: &Location) -> Option<Self> {
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
            path: path.clone(),
            started: UtcTime::from_unix_millis(started),
            id: id.to_owned(),
            is_unfinished: finished.is_some(),
        })
    }

    /// Bytes of all its files, those for other recipients included.
    pub(super) fn size(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in self.path.entries()? {
            match entry.kind {
                Kind::File(size) => bytes += size,
                Kind::Directory => {
                    let inner = self.path.join(&entry.name).entries()?;
                    bytes += inner
                        .iter()
                        .map(|entry| if let Kind::File(size) = entry.kind { size } else { 0 })
                        .sum::<u64>();
                }
                Kind::Other => {}
            }
        }
        Ok(bytes)
    }
}

fn directories(path: &Location) -> io::Result<Vec<Location>> {
    let directories = path.entries()?.into_iter().filter(|entry| entry.kind == Kind::Directory);
    Ok(directories.map(|entry| path.join(&entry.name)).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn sessions(path: &Path) -> io::Result<(Vec<SessionDirectory>, Vec<Unlisted>)> {
        super::sessions(&Location::local(path))
    }

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
