//! Work on many sessions, one thread for each core, with what is said about them in their order.
//!
//! Owns order and memory. A thread keeps what it has to say until its session's turn comes, at most [`KEPT`] bytes; with
//! more it waits for its turn. No session is begun more than [`AHEAD`] before the one whose turn it is. Deliberately
//! absent: what the work is.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Console;
use super::progress::Progress;

/// Bytes that a session's work may keep before its turn.
const KEPT: usize = 64 * 1024;

/// Sessions that may be done before the one whose turn it is.
const AHEAD: usize = 128;

/// What the work on one session has to say.
pub(super) struct Report<'a> {
    index: usize,
    said: Said,
    turns: &'a Turns,
    sender: &'a SyncSender<Message>,
}

/// Lines for standard output, and problems.
#[derive(Default)]
struct Said {
    lines: Vec<u8>,
    problems: Vec<String>,
}

struct Message {
    index: usize,
    said: Said,
    is_last: bool,
}

/// Nobody listens any more; the work is to end.
#[derive(Debug)]
pub(super) struct Stopped;

/// Whose turn it is; `None` when everybody is to stop.
struct Turns {
    turn: Mutex<Option<usize>>,
    moved: Condvar,
}

/// Does `work` on each of `items`, and prints what it says in their order. Returns whether there were no problems.
///
/// # Errors
/// When it cannot be printed; what is being worked on ends soon then.
pub(super) fn in_order<T: Sync>(
    items: &[T],
    console: &mut Console<'_>,
    what: &'static str,
    work: impl Fn(&T, &mut Report<'_>) -> Result<(), Stopped> + Sync,
) -> io::Result<bool> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(items.len());
    let turns = Turns { turn: Mutex::new(Some(0)), moved: Condvar::new() };
    let next = AtomicUsize::new(0);
    let (sender, receiver) = sync_channel(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, turns, next, work) = (sender.clone(), &turns, &next, &work);
            scope.spawn(move || {
                let _unstick = Unstick(turns);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    let mut report = Report { index, said: Said::default(), turns, sender: &sender };
                    let begun = turns.wait(|turn| index < turn + AHEAD);
                    if begun.and_then(|()| work(item, &mut report)).and_then(|()| report.send(true)).is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let printed = print(&receiver, &turns, items.len(), console, what);
        // Who waits for a turn, or for the channel, ends.
        turns.set(None);
        drop(receiver);
        printed
    })
}

fn print(
    receiver: &Receiver<Message>,
    turns: &Turns,
    all: usize,
    console: &mut Console<'_>,
    what: &'static str,
) -> io::Result<bool> {
    let mut progress = Progress::new(what, console.err_is_terminal);
    let (mut turn, mut is_good) = (0, true);
    let mut early = BTreeMap::new();
    for message in receiver {
        early.insert(message.index, message);
        while let Some(Message { said, is_last, .. }) = early.remove(&turn) {
            if !said.lines.is_empty() || !said.problems.is_empty() {
                progress.clear(console.err)?;
            }
            console.out.write_all(&said.lines)?;
            for problem in &said.problems {
                is_good = false;
                console.problem(problem)?;
            }
            if !is_last {
                break;
            }
            turn += 1;
            turns.set(Some(turn));
        }
        progress.at(turn as u64, all as u64, console.err)?;
    }
    progress.clear(console.err)?;
    console.out.flush()?;
    Ok(is_good)
}

impl Report<'_> {
    /// Says a line on standard output.
    ///
    /// # Errors
    /// [`Stopped`].
    pub(super) fn line(&mut self, line: &str) -> Result<(), Stopped> {
        self.said.lines.extend_from_slice(line.as_bytes());
        self.said.lines.push(b'\n');
        if self.said.lines.len() < KEPT {
            return Ok(());
        }
        self.turns.wait(|turn| turn == self.index)?;
        self.send(false)
    }

    /// Tells a problem.
    pub(super) fn problem(&mut self, problem: String) {
        self.said.problems.push(problem);
    }

    fn send(&mut self, is_last: bool) -> Result<(), Stopped> {
        let said = std::mem::take(&mut self.said);
        self.sender.send(Message { index: self.index, said, is_last }).map_err(|_| Stopped)
    }
}

/// Lets nobody wait for a thread that panics; the panic is passed on when all have ended.
struct Unstick<'a>(&'a Turns);

impl Drop for Unstick<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set(None);
        }
    }
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Option<usize>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, turn: Option<usize>) {
        *self.lock() = turn;
        self.moved.notify_all();
    }

    fn wait(&self, until: impl Fn(usize) -> bool) -> Result<(), Stopped> {
        let waited = self.moved.wait_while(self.lock(), |turn| turn.is_some_and(|turn| !until(turn)));
        waited.unwrap_or_else(PoisonError::into_inner).map(|_| ()).ok_or(Stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn run(items: &[usize], out: &mut dyn Write, lines: usize) -> (io::Result<bool>, Vec<u8>) {
        let mut err = Vec::new();
        let mut console =
            Console { out, err: &mut err, out_is_terminal: false, err_is_terminal: false, json: false };
        let done = in_order(items, &mut console, "items", |item, report| {
            for line in 0..lines {
                report.line(&format!("{item} {line}"))?;
            }
            if *item == 7 {
                report.problem("seven".to_owned());
            }
            Ok(())
        });
        (done, err)
    }

    #[test]
    fn what_is_said_comes_in_order_however_much_it_is() {
        for (count, lines) in [(0, 1), (1, 3), (1000, 1), (20, 20_000)] {
            let items: Vec<usize> = (0..count).collect();
            let mut out = Vec::new();
            let (done, err) = run(&items, &mut out, lines);
            assert_eq!(done.unwrap(), count <= 7);
            assert_eq!(err.is_empty(), count <= 7);
            let expected: String = items
                .iter()
                .flat_map(|item| (0..lines).map(move |line| format!("{item} {line}\n")))
                .collect();
            assert!(out == expected.as_bytes(), "{count} {lines}");
        }
    }

    #[test]
    fn nobody_works_on_when_output_is_closed() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let items: Vec<usize> = (0..2000).collect();
        let (done, _) = run(&items, &mut Closed, 20_000);
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
