//! How far long work has come, on one line of standard error, where that is a terminal.
//!
//! The line is shown when work takes longer than [`FIRST`], at most every [`EVERY`], and taken away before anything
//! else is written and at the end.

use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Work that is done sooner shows nothing.
const FIRST: Duration = Duration::from_millis(300);

/// The shortest time between two looks.
const EVERY: Duration = Duration::from_millis(100);

/// Characters of the bar.
const WIDTH: u64 = 30;

/// Back to the start of the line, and clear it.
const CLEAR: &[u8] = b"\r\x1b[K";

/// A line of progress.
pub(super) struct Progress {
    what: &'static str,
    is_on: bool,
    due: Instant,
    is_shown: bool,
}

impl Progress {
    /// Counts `what`, which is done one by one; shows nothing unless `is_on`.
    pub(super) fn new(what: &'static str, is_on: bool) -> Self {
        Self { what, is_on, due: Instant::now() + FIRST, is_shown: false }
    }

    /// Shows that `done` of `all` are done, when it is time.
    pub(super) fn at(&mut self, done: u64, all: u64, err: &mut dyn Write) -> io::Result<()> {
        let now = Instant::now();
        if !self.is_on || now < self.due {
            return Ok(());
        }
        self.due = now + EVERY;
        self.is_shown = true;
        err.write_all(CLEAR)?;
        err.write_all(bar(self.what, done, all).as_bytes())?;
        err.flush()
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self, err: &mut dyn Write) -> io::Result<()> {
        if std::mem::take(&mut self.is_shown) {
            err.write_all(CLEAR)?;
        }
        Ok(())
    }
}

fn bar(what: &str, done: u64, all: u64) -> String {
    let filled = done.min(all).saturating_mul(WIDTH) / all.max(1);
    let (full, empty) = ("#".repeat(usize(filled)), ".".repeat(usize(WIDTH - filled)));
    format!("[{full}{empty}] {done} of {all} {what}")
}

fn usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shown_when_due_and_taken_away() {
        let mut progress = Progress::new("sessions", true);
        let mut err = Vec::new();
        progress.at(1, 4, &mut err).unwrap();
        progress.clear(&mut err).unwrap();
        assert_eq!(err, b"", "too soon");
        progress.due = Instant::now();
        progress.at(2, 4, &mut err).unwrap();
        progress.at(3, 4, &mut err).unwrap();
        progress.clear(&mut err).unwrap();
        progress.clear(&mut err).unwrap();
        let expected = "\r\x1b[K[###############...............] 2 of 4 sessions\r\x1b[K";
        assert_eq!(String::from_utf8(err).unwrap(), expected);
        let mut off = Progress { due: Instant::now(), ..Progress::new("sessions", false) };
        off.at(2, 4, &mut io::sink()).unwrap();
        assert!(!off.is_shown);
        assert_eq!(bar("x", 5, 0), format!("[{}] 5 of 0 x", ".".repeat(30)));
    }
}
