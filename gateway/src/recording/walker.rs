//! The thread that walks over finished files.
//!
//! Nobody waits for that as long as a session runs, and it costs as much as sealing does: so however many sessions move
//! bulk it takes one processor at most, and lags behind a transfer that takes all there is. Invariants: one file at a time; at most
//! [`QUEUE`] wait, further ones are left out; what nobody wants any more is given up at the next read.
//! What it has not walked over is walked over by who needs it. Deliberately absent: a priority of its own. Setting one
//! takes a system call that the unit of the gateway does not allow.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

use portreeve_core::manifest::FileFacts;
use tracing::warn;

use crate::audit::scan_file;

/// Files that may wait.
const QUEUE: usize = 4096;

/// Where files are left for the thread, which ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Walker(Option<SyncSender<Job>>);

/// What the thread finds. Dropping it gives that up.
pub(super) type Walk = Arc<OnceLock<FileFacts>>;

#[derive(Debug)]
struct Job {
    path: PathBuf,
    walk: Weak<OnceLock<FileFacts>>,
}

impl Walker {
    /// Starts the thread; without one nothing is walked over here.
    pub(super) fn start() -> Self {
        let (jobs, waiting) = sync_channel(QUEUE);
        let started = thread::Builder::new().name("walker".into()).spawn(move || work(&waiting));
        if let Err(error) = &started {
            warn!(%error, "cannot start a thread: recordings are hashed when their session ends");
        }
        Self(started.ok().map(|_| jobs))
    }

    /// Has a finished file walked over, some time.
    pub(super) fn walk(&self, path: &Path) -> Walk {
        let walk = Walk::default();
        if let Some(jobs) = &self.0 {
            // One too many is walked over by who needs it.
            jobs.try_send(Job { path: path.into(), walk: Arc::downgrade(&walk) }).ok();
        }
        walk
    }
}

fn work(jobs: &Receiver<Job>) {
    for job in jobs {
        let file = File::open(&job.path);
        let facts = file.and_then(|file| scan_file(&mut Wanted { file, walk: &job.walk }));
        // What cannot be read now is tried again by who needs it, who then has the error.
        if let (Ok(facts), Some(walk)) = (facts, job.walk.upgrade()) {
            walk.set(facts).ok();
        }
    }
}

/// A file that can be read as long as somebody wants what is found.
struct Wanted<'a> {
    file: File,
    walk: &'a Weak<OnceLock<FileFacts>>,
}

impl Read for Wanted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.walk.strong_count() == 0 {
            return Err(io::Error::other("given up"));
        }
        self.file.read(into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_nobody_wants_any_more_is_not_read() {
        let walk = Walk::default();
        let weak = Arc::downgrade(&walk);
        let mut wanted = Wanted { file: File::open("/proc/self/status").unwrap(), walk: &weak };
        assert!(wanted.read(&mut [0; 16]).is_ok());
        drop(walk);
        assert!(wanted.read(&mut [0; 16]).is_err());
    }

    #[test]
    fn a_finished_file_is_walked_over() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let walk = Walker::start().walk(path.path());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while walk.get().is_none() {
            assert!(std::time::Instant::now() < deadline, "the file is not walked over");
            thread::yield_now();
        }
        assert_eq!(walk.get().unwrap().size, 0);
    }
}
