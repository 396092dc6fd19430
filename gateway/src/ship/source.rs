//! What is in the spool to be shipped. Blocks the thread.
//!
//! Invariant: only what never changes again is seen: directories of finished sessions, heads, and finished files of
//! sessions that run for long. A session's manifest is the last of its files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use portreeve_core::envelope::{FRAMED_HEADER, Header};
use portreeve_core::shipping::{Item, MANIFEST_FILE, Sha256Digest};
use portreeve_core::utc::UtcTime;

/// How deep files are below a session's directory: further recipients have a directory each.
const DEPTH: usize = 2;

/// Ends the name of a file that is not whole.
const TEMPORARY: &str = ".tmp";

/// Most files of a session; one with more is not shipped.
const MOST_FILES: usize = 100_000;

/// A file to ship.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its path below the spool, parts joined by `/`.
    pub(super) name: String,
    /// In bytes.
    pub(super) size: u64,
}

/// Everything that is finished.
pub(super) fn items(root: &Path) -> io::Result<BTreeSet<Item>> {
    let mut items = BTreeSet::new();
    let now = UtcTime::from(SystemTime::now()).unix_millis();
    for name in names(root)? {
        if let Some(session) = Item::written(&name).filter(|session| session.is_long(now)) {
            items.extend(finished_files(&root.join(name), &session));
        } else {
            items.extend(Item::session(&name));
        }
    }
    match names(&root.join("heads")) {
        Ok(heads) => items.extend(heads.filter_map(|name| Item::head(&name))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(items)
}

/// The files of a session that goes on which are finished. One that cannot be read now is shipped with the session.
fn finished_files(directory: &Path, session: &Item) -> Vec<Item> {
    let mut files = Vec::new();
    if collect(directory, String::new(), DEPTH, &mut files).is_err() {
        return Vec::new();
    }
    let segments =
        files.iter().filter_map(|file| Some((file, session.segment(file.name.trim_start_matches('/'))?)));
    segments
        .filter(|(file, _)| is_finished(&file.path).unwrap_or(false))
        .map(|(_, segment)| segment)
        .collect()
}

/// Whether the header of a file says that it is finished (docs/log-format.md, `blocks`).
fn is_finished(path: &Path) -> io::Result<bool> {
    let header = Header::of_file(&part(path, 0, FRAMED_HEADER)?);
    Ok(header.is_some_and(|header| header.blocks.is_some()))
}

/// The files of one of them, in the order in which they are shipped.
pub(super) fn files(root: &Path, item: &Item) -> io::Result<Vec<SourceFile>> {
    let (mut path, name) = (root.join(item.path()), item.path());
    if let Some(written) = item.written_path().map(|written| root.join(written)) {
        path = written;
    }
    let mut files = Vec::new();
    collect(&path, name, DEPTH, &mut files)?;
    let manifest = |file: &SourceFile| file.name.ends_with(&format!("/{MANIFEST_FILE}"));
    files.sort_by(|one, other| (manifest(one), &one.name).cmp(&(manifest(other), &other.name)));
    Ok(files)
}

/// The SHA-256 of a file of that size, which is on the disk then: no loss of power takes back what a destination has.
pub(super) fn digest(file: &SourceFile) -> io::Result<Sha256Digest> {
    let mut context = Context::new(&SHA256);
    let source = File::open(&file.path)?;
    source.sync_data()?;
    let mut source = source.take(file.size.saturating_add(1));
    let mut buffer = vec![0; 64 * 1024];
    let mut size: u64 = 0;
    loop {
        let count = source.read(&mut buffer)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
        context.update(read);
        size += read.len() as u64;
    }
    if size != file.size {
        return Err(io::Error::other("its size is not what it was"));
    }
    digest_of(context)
}

/// What a SHA-256 has come to.
pub(super) fn digest_of(context: Context) -> io::Result<Sha256Digest> {
    context.finish().as_ref().try_into().map_err(io::Error::other)
}

/// `length` bytes of a file, or all that follow where there are fewer.
pub(super) fn part(path: &Path, offset: u64, length: usize) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let left = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(length)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.into())
}

fn names(dir: &Path) -> io::Result<impl Iterator<Item = String>> {
    // What has a name that is no text is nothing of ours.
    Ok(fs::read_dir(dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()))
}

fn collect(path: &Path, name: String, depth: usize, files: &mut Vec<SourceFile>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_file() {
        if files.len() >= MOST_FILES {
            return Err(io::Error::other("it has too many files"));
        }
        files.push(SourceFile { path: path.to_owned(), name, size: metadata.len() });
        return Ok(());
    }
    if !metadata.is_dir() || depth == 0 {
        return Err(io::Error::other(format!("{name} has no place in a recording")));
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let child = entry.file_name().into_string();
        let child = child.map_err(|_| io::Error::other(format!("a name in {name} is no text")))?;
        if child.ends_with(TEMPORARY) {
            continue;
        }
        collect(&entry.path(), format!("{name}/{child}"), depth - 1, files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "1700000000000-ffffffff-ffff-4fff-bfff-ffffffffffff";

    #[test]
    fn finished_sessions_and_heads_are_seen_and_the_manifest_is_last() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join(SESSION).join("0123456789abcdef")).unwrap();
        fs::create_dir(root.join(format!("{SESSION}.part"))).unwrap();
        fs::create_dir_all(root.join(".shipping/archive")).unwrap();
        fs::create_dir(root.join("heads")).unwrap();
        for name in
            ["events.log", "manifest.json", "manifest.json.1-0.tmp", "zzz.log", "0123456789abcdef/events.log"]
        {
            fs::write(root.join(SESSION).join(name), "12345").unwrap();
        }
        fs::write(root.join("heads/7.json"), "{}").unwrap();
        fs::write(root.join("heads/8.json.tmp"), "{}").unwrap();
        let items = items(root).unwrap();
        assert_eq!(items, [Item::session(SESSION).unwrap(), Item::head("7.json").unwrap()].into());
        let names: Vec<String> =
            files(root, items.first().unwrap()).unwrap().into_iter().map(|f| f.name).collect();
        let expected = ["0123456789abcdef/events.log", "events.log", "zzz.log", "manifest.json"];
        assert_eq!(names, expected.map(|name| format!("{SESSION}/{name}")));
        let head = files(root, items.last().unwrap()).unwrap();
        assert_eq!((head.len(), &*head[0].name, head[0].size), (1, "heads/7.json", 2));
    }

    #[test]
    fn what_is_no_file_makes_a_session_unreadable() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(SESSION)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(SESSION).join("events.log")).unwrap();
        let error = files(dir.path(), &Item::session(SESSION).unwrap()).unwrap_err();
        assert!(error.to_string().contains("events.log has no place"), "{error}");
    }

    #[test]
    fn digests_and_parts_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "abc").unwrap();
        let file = SourceFile { path: path.clone(), name: "x".into(), size: 3 };
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(digest(&file).unwrap()), expected);
        assert!(digest(&SourceFile { size: 2, ..file.clone() }).is_err());
        assert!(digest(&SourceFile { size: 4, ..file }).is_err());
        assert_eq!(part(&path, 1, 10).unwrap(), "bc");
        assert_eq!(part(&path, 0, 2).unwrap(), "ab");
    }
}
