//! The serial console of an appliance, by lines: kept in a file, and waited for. What a prompt asks is a line without an end.
//!
//! A line that says that nothing more is to be expected ends every wait at once: a kernel panic, a gateway that is not
//! ready unless none is expected, the emulator's end. A wait for one of those lines itself sees it first.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How many lines are shown of a console that disappointed.
const SHOWN: usize = 30;

/// The lines so far.
#[derive(Debug)]
pub struct Console {
    shared: Arc<Shared>,
    log: PathBuf,
    /// How many lines have been looked at.
    seen: usize,
    /// A gateway that is not ready ends a wait.
    expects_gateway: bool,
}

/// What a gateway says when it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The image's version.
    pub version: String,
    /// `A`, `B`, or `-` where the machine was not started from either.
    pub slot: String,
    /// Each program that the kernel runs, by interface.
    pub programs: Vec<Attached>,
}

/// A program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The interface.
    pub interface: String,
    /// How: `tcx`, `clsact`, `xdp-native`, `xdp-generic`.
    pub mode: String,
    /// The kernel's number of the program.
    pub id: u32,
}

/// Why what was waited for did not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The line of a kernel's panic.
    Panic(String),
    /// The gateway's reason.
    NotReady(String),
    /// The machine has ended.
    Ended,
    /// Nothing of all this in time.
    TimedOut(Duration),
}

/// What a line means to who waits for something else.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Panic,
    NotReady(String),
    Nothing,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    /// What has come of the next line.
    open: Vec<u8>,
    ended: bool,
}

impl Console {
    /// Reads from a machine until its end; its text is kept in `log`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn follow(mut from: impl Read + Send + 'static, log: &Path) -> Result<Self> {
        let mut kept = File::create(log).with_context(|| log.display().to_string())?;
        let shared = Arc::new(Shared::default());
        let fed = Arc::clone(&shared);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Some(new) = from.read(&mut chunk).ok().filter(|count| *count > 0) {
                let new = chunk.get(..new).unwrap_or_default();
                // A full disk must not stop the machine: what is kept in memory decides.
                kept.write_all(new).ok();
                fed.lock().add(new);
                fed.grown.notify_all();
            }
            fed.lock().ended = true;
            fed.grown.notify_all();
        });
        Ok(Self { shared, log: log.to_owned(), seen: 0, expects_gateway: true })
    }

    /// That the gateway is not ready is no news from now on.
    pub fn expect_no_gateway(&mut self) {
        self.expects_gateway = false;
    }

    /// Waits for a line that `wanted` makes something of.
    ///
    /// # Errors
    /// Why it did not come.
    pub fn wait_for<T>(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Missed> {
        let expects_gateway = self.expects_gateway;
        self.wait(limit, |state, seen| {
            while let Some(line) = state.lines.get(*seen) {
                *seen += 1;
                if let Some(found) = wanted(line) {
                    return Ok(Some(found));
                }
                match judge(line) {
                    Told::Panic => return Err(Missed::Panic(line.clone())),
                    Told::NotReady(reason) if expects_gateway => return Err(Missed::NotReady(reason)),
                    Told::NotReady(_) | Told::Nothing => {}
                }
            }
            Ok(None)
        })
    }

    /// Waits until the console asks: `wanted` makes something of its last line, which has no end yet.
    ///
    /// # Errors
    /// When it does not in time, or the machine ends.
    pub fn wait_for_prompt<T>(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Missed> {
        self.wait(limit, |state, _| Ok(wanted(&plain(&String::from_utf8_lossy(&state.open)))))
    }

    /// Waits for a text, in a line or in what has no end yet; what the kernel says meanwhile does not matter.
    ///
    /// # Errors
    /// When it does not come in time, or the machine ends.
    pub fn wait_for_text(&mut self, limit: Duration, text: &str) -> Result<(), Missed> {
        self.wait(limit, |state, seen| {
            while let Some(line) = state.lines.get(*seen) {
                *seen += 1;
                if line.contains(text) {
                    return Ok(Some(()));
                }
            }
            Ok(plain(&String::from_utf8_lossy(&state.open)).contains(text).then_some(()))
        })
    }

    /// Asks `look` of the lines and how many of them were looked at before, again whenever something has come.
    fn wait<T>(
        &mut self,
        limit: Duration,
        mut look: impl FnMut(&State, &mut usize) -> Result<Option<T>, Missed>,
    ) -> Result<T, Missed> {
        let end = Instant::now() + limit;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = look(&state, &mut self.seen)? {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.ended {
                return Err(Missed::Ended);
            }
            if left.is_zero() {
                return Err(Missed::TimedOut(limit));
            }
            let waited = self.shared.grown.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a gateway that serves.
    ///
    /// # Errors
    /// As [`Console::wait_for`].
    pub fn wait_for_ready(&mut self, limit: Duration) -> Result<Ready, Missed> {
        self.wait_for(limit, ready)
    }

    /// The end of the text, for who reads why a test failed.
    pub fn tail(&self) -> String {
        let state = self.shared.lock();
        let from = state.lines.len().saturating_sub(SHOWN);
        let open = plain(&String::from_utf8_lossy(&state.open));
        let open = Some(&open).filter(|open| !open.is_empty());
        let last: Vec<_> = state.lines.iter().skip(from).chain(open).map(String::as_str).collect();
        format!("console {} ends with\n{}", self.log.display(), last.join("\n"))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes what has come.
    fn add(&mut self, new: &[u8]) {
        let mut pieces = new.split(|byte| *byte == b'\n');
        self.open.extend(pieces.next().unwrap_or_default());
        for piece in pieces {
            let line = std::mem::replace(&mut self.open, piece.to_vec());
            self.lines.push(plain(&String::from_utf8_lossy(&line)));
        }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(line) => write!(f, "the kernel panicked: {line}"),
            Self::NotReady(reason) => write!(f, "the gateway is not ready: {reason}"),
            Self::Ended => write!(f, "the machine ended"),
            Self::TimedOut(limit) => write!(f, "not within {limit:?}"),
        }
    }
}

impl std::error::Error for Missed {}

fn judge(line: &str) -> Told {
    if line.contains("Kernel panic - not syncing") {
        return Told::Panic;
    }
    match line.split_once("portreeve-not-ready: ") {
        Some((_, reason)) => Told::NotReady(reason.to_owned()),
        None => Told::Nothing,
    }
}

/// A gateway that serves; a line that says less than it must is none.
fn ready(line: &str) -> Option<Ready> {
    let (_, said) = line.split_once("portreeve-ready: ")?;
    let field = |name: &str| {
        let mut words = said.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let attached = |text: &str| {
        let mut parts = text.split(':');
        let (interface, mode, id) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
        Some(Attached { interface: interface.to_owned(), mode: mode.to_owned(), id })
    };
    let programs = field("interfaces")?.split(',').map(attached).collect::<Option<Vec<_>>>()?;
    let serves = field("serving")? == "yes" && programs.iter().all(|program| program.id > 0);
    let (version, slot) = (field("version")?.to_owned(), field("slot")?.to_owned());
    serves.then_some(Ready { version, slot, programs })
}

/// A line without what moves and colours a terminal (ECMA-48 control sequences).
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.trim_end().chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next() == Some('[') {
                characters.find(|last| ('@'..='~').contains(last));
            }
        } else if !character.is_control() {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const READY: &str =
        "portreeve-ready: version=0.1.0 slot=A interfaces=lan0:tcx:34,lan0:xdp-native:36 serving=yes";
    const LIMIT: Duration = Duration::from_secs(5);

    fn console(text: &str) -> (tempfile::TempDir, Console) {
        let directory = tempfile::tempdir().unwrap();
        let console = Console::follow(Cursor::new(text.to_owned()), &directory.path().join("log")).unwrap();
        (directory, console)
    }

    #[test]
    fn a_gateway_that_serves_says_what_runs_where() {
        let said = ready(&format!("[  OK  ] {READY}")).unwrap();
        assert_eq!((said.version.as_str(), said.slot.as_str()), ("0.1.0", "A"));
        let mode = |program: &Attached| (program.interface.clone(), program.mode.clone(), program.id);
        let programs: Vec<_> = said.programs.iter().map(mode).collect();
        assert_eq!(programs, [("lan0".into(), "tcx".into(), 34), ("lan0".into(), "xdp-native".into(), 36)]);
        for less in ["serving=yes", ":34", "interfaces=", "slot=A "] {
            assert_eq!(ready(&READY.replace(less, "")), None, "without {less}");
        }
        assert_eq!(ready(&READY.replace(":34", ":0")), None, "a program without a number");
    }

    #[test]
    fn what_ends_a_wait_is_told_and_kept() {
        let (directory, mut ended) = console("one\ntwo\n");
        assert_eq!(ended.wait_for(LIMIT, |line| (line == "two").then_some(7)), Ok(7));
        assert_eq!(ended.wait_for_ready(LIMIT), Err(Missed::Ended));
        assert_eq!(std::fs::read_to_string(directory.path().join("log")).unwrap(), "one\ntwo\n");
        assert!(ended.tail().ends_with("log ends with\none\ntwo"));
        let panic = "[ 1.2] Kernel panic - not syncing: no root";
        let (_directory, mut panicked) = console(&format!("{panic}\n{READY}\n"));
        assert_eq!(panicked.wait_for_ready(LIMIT), Err(Missed::Panic(panic.into())));
        let (_directory, mut refused) = console("portreeve-not-ready: no gateway runs\n");
        assert_eq!(refused.wait_for_ready(LIMIT), Err(Missed::NotReady("no gateway runs".into())));
        let (_directory, mut closed) = console("portreeve-not-ready: no gateway runs\nroot\n");
        closed.expect_no_gateway();
        assert_eq!(closed.wait_for(LIMIT, |line| (line == "root").then_some(())), Ok(()));
    }

    #[test]
    fn a_wait_for_a_panic_sees_it_and_one_for_silence_ends() {
        let (_directory, mut console) = console("Kernel panic - not syncing: dm-verity\n");
        assert_eq!(console.wait_for(LIMIT, |line| line.contains("dm-verity").then_some(())), Ok(()));
        let (silent, _pipe) = std::io::pipe().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut console = Console::follow(silent, &directory.path().join("log")).unwrap();
        let limit = Duration::from_millis(10);
        assert_eq!(console.wait_for_ready(limit), Err(Missed::TimedOut(limit)));
    }

    #[test]
    fn a_prompt_is_a_line_without_an_end() {
        let (directory, mut console) = console("login: again\n\u{1b}[?2004happliance login: ");
        let ends = |end: &'static str| move |line: &str| line.ends_with(end).then_some(());
        assert_eq!(console.wait_for_prompt(LIMIT, ends("appliance login:")), Ok(()));
        assert_eq!(console.wait_for_prompt(LIMIT, ends("again")), Err(Missed::Ended));
        assert_eq!(console.wait_for(LIMIT, |line| (line == "login: again").then_some(())), Ok(()));
        drop(directory);
        let mut state = State::default();
        for piece in ["a", "b\nc\n\nd", "\n", "e"] {
            state.add(piece.as_bytes());
        }
        assert_eq!((state.lines.join("|"), state.open), ("ab|c||d".to_owned(), b"e".to_vec()));
    }

    #[test]
    fn colours_are_no_part_of_a_line() {
        assert_eq!(plain("\u{1b}[0;32m  OK  \u{1b}[0m] up\r\n"), "  OK  ] up");
    }
}
