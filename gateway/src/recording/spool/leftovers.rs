//! Closing what a crash left in the spool.
//!
//! Owns what becomes of a `.part` directory that nobody writes: what is not whole at the end of each file is cut
//! off, a file without a whole header holds nothing and is removed, and the directory gets a manifest and its final name. A
//! directory that holds anything unknown stays as it is.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use portreeve_core::envelope::{FRAMED_HEADER, Header, RESERVED_HEADER, SegmentName, Whole, whole_blocks};
use portreeve_core::manifest::{Ended, FileEntry};
use portreeve_core::utc::UtcTime;
use tracing::warn;

use super::super::ledger::{self, Known};
use super::{EVENTS_FILE, PART};
use crate::audit::{AuditChain, Closing, discard_uncounted};
use crate::telemetry::with_causes;

/// Closes all of them; how many there were. One that cannot be closed is logged and stays.
///
/// # Errors
/// Those of listing and locking the spool.
pub(super) fn close_leftovers(root: &Path, chain: &AuditChain) -> io::Result<usize> {
    thread::scope(|scope| {
        // Signing waits for the disk; meanwhile the next ones are cut.
        let (cut, gathered) = sync_channel(1);
        let signer = scope.spawn(move || -> usize {
            gathered.into_iter().map(|gathered| sign_gathered(chain, gathered)).sum()
        });
        let closed = cut_leftovers(root, chain, &cut);
        drop(cut);
        let signed = signer.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok(closed? + signed)
    })
}

/// Cuts all of them, and hands over those that are to be signed, [`AT_ONCE`] at a time; how many others it closed.
fn cut_leftovers(root: &Path, chain: &AuditChain, to_sign: &SyncSender<Vec<Cut>>) -> io::Result<usize> {
    let lock = File::open(root)?;
    let mut closed = 0;
    let mut gathered = Vec::new();
    // The signer takes them as long as this runs.
    let hand_over = |gathered| to_sign.send(gathered).ok();
    for entry in fs::read_dir(root)? {
        let part = entry?.path();
        if part.extension().is_none_or(|extension| extension != PART) {
            continue;
        }
        // For each alone: who makes a directory waits no longer than that.
        lock.lock()?;
        let leftover = close_files_of(&part);
        // Without an events file nothing else keeps other processes away from it.
        let leftover = match leftover {
            Ok(Leftover::Cut(cut)) if cut.lock.is_none() => sign(chain, vec![cut]).map(|()| Leftover::Empty),
            leftover => leftover,
        };
        lock.unlock()?;
        match leftover {
            Ok(Leftover::Empty) => closed += 1,
            Ok(Leftover::Cut(cut)) => gathered.push(cut),
            Ok(Leftover::InUse) => {}
            Err(error) => tell(&part, &error),
        }
        if gathered.len() == AT_ONCE {
            hand_over(std::mem::take(&mut gathered));
        }
    }
    hand_over(gathered);
    Ok(closed)
}

/// Sessions whose manifests are signed with one write to the disk. Each holds a descriptor, and three times as many are
/// there: those that are signed, those that wait for it, and those that are cut.
const AT_ONCE: usize = 128;

/// Characters of a key's id.
const KEY_ID: usize = 16;

enum Leftover {
    /// It held nothing, or is closed already.
    Empty,
    Cut(Cut),
    InUse,
}

/// A leftover whose files end after whole blocks.
struct Cut {
    part: PathBuf,
    /// Its locked events file.
    lock: Option<File>,
    files: Vec<FileEntry>,
}

fn tell(part: &Path, error: &(dyn std::error::Error + 'static)) {
    warn!(path = %part.display(), error = with_causes(error), "cannot close a recording left by a crash");
}

fn sign_gathered(chain: &AuditChain, gathered: Vec<Cut>) -> usize {
    let (part, count) = (gathered.first().map(|cut| cut.part.clone()), gathered.len());
    match sign(chain, gathered) {
        Ok(()) => count,
        Err(error) => {
            tell(&part.unwrap_or_default(), &error);
            0
        }
    }
}

/// Signs their manifests and gives them their final names.
fn sign(chain: &AuditChain, gathered: Vec<Cut>) -> io::Result<()> {
    let (mut closings, mut locks) = (Vec::new(), Vec::new());
    for Cut { part, lock, files } in gathered {
        let (started, closed) = (started(&part), SystemTime::now().into());
        closings.push(Closing { part, started, closed, ended: Ended::Crash, files });
        locks.push(lock);
    }
    if closings.is_empty() { Ok(()) } else { chain.close_all(closings).map_err(io::Error::other) }
}

/// The start of the session, which is in the name of its directory; 1970 in a name that is not ours.
fn started(part: &Path) -> UtcTime {
    let name = part.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let millis = name.split('-').next().and_then(|millis| millis.parse().ok()).unwrap_or(0);
    UtcTime::from_unix_seconds(0).after(Duration::from_millis(millis))
}

fn close_files_of(part: &Path) -> io::Result<Leftover> {
    let lock = match File::open(part.join(EVENTS_FILE)) {
        Ok(events) => match events.try_lock() {
            Ok(()) => Some(events),
            Err(TryLockError::WouldBlock) => return Ok(Leftover::InUse),
            Err(TryLockError::Error(error)) => return Err(error),
        },
        // Who had it renamed it just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !part.exists() => {
            return Ok(Leftover::InUse);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if !part.exists() {
        return Ok(Leftover::InUse);
    }
    discard_uncounted(part)?;
    let sets = further_sets(part)?;
    let mut files = 0;
    for set in sets.iter().map(PathBuf::as_path).chain([part]) {
        files += close_files(set)?;
    }
    if files == 0 {
        for set in &sets {
            fs::remove_dir(set)?;
        }
        fs::remove_dir(part)?;
        return Ok(Leftover::Empty);
    }
    let files = ledger::entries(Known::default(), part)?;
    Ok(Leftover::Cut(Cut { part: part.into(), lock, files }))
}

/// The directories of further recipients, named by the ids of their keys.
fn further_sets(part: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sets = Vec::new();
    for entry in fs::read_dir(part)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && is_key_id(&entry.file_name()) {
            sets.push(entry.path());
        }
    }
    Ok(sets)
}

fn is_key_id(name: &OsStr) -> bool {
    name.len() == KEY_ID && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit)
}

/// Closes the files of one recipient; how many hold anything.
fn close_files(set: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(set)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if name.to_str().is_some_and(|name| name.parse::<SegmentName>().is_ok()) {
            files += usize::from(cut_to_whole_blocks(&path)?);
        } else if !is_key_id(name) {
            let error = format!("{} is not of a recording", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
    Ok(files)
}

/// Cuts off what is not whole; a file without a whole header holds nothing and is removed.
fn cut_to_whole_blocks(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let size = file.metadata()?.len();
    let Some(whole) = whole_blocks(size, |into, offset| file.read_exact_at(into, offset))? else {
        return fs::remove_file(path).map(|()| false);
    };
    if whole.end < size {
        file.set_len(whole.end)?;
    }
    take_back_the_end(&file, whole)?;
    Ok(true)
}

/// A loss of power may keep the header of a file that was finished, and not the last of its blocks: then it is not finished.
fn take_back_the_end(file: &File, whole: Whole) -> io::Result<()> {
    let mut start = [0; FRAMED_HEADER];
    if whole.end < FRAMED_HEADER as u64 {
        return Ok(());
    }
    file.read_exact_at(&mut start, 0)?;
    // What cannot be read is for who opens the file to tell.
    match Header::of_file(&start) {
        Some(header) if header.blocks.is_some_and(|blocks| blocks != whole.blocks) => {
            let unfinished = header.unfinished().encode(RESERVED_HEADER).map_err(io::Error::other)?;
            file.write_all_at(&unfinished, 0)
        }
        _ => Ok(()),
    }
}
