//! A program on a pty, typed at over a line with a delay, and the stream as a gateway in the middle sees it.
//!
//! Whoever types looks before going on: whether the screen is still, and whether that is so because the program waits, or
//! because the machine has not let it run.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::ttyname;
use portreeve_tests::terminal::pair;

/// One piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// From the user's side.
    Client(Vec<u8>),
    /// From the target's side.
    Target(Vec<u8>),
    /// Columns and rows.
    Window(u16, u16),
}

/// A stream: pieces with microseconds since its start.
pub(crate) type Stream = Vec<(u64, Piece)>;

/// The longest that a program may say nothing or go on talking.
const LIMIT: Duration = Duration::from_secs(20);

/// How long a program that is about to say something is left alone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Pieces on their way.
const MOST_WAITING: usize = 1024;

pub(crate) struct Sitting {
    program: Child,
    /// What all processes of the sitting have in their environment, and no other.
    mark: Vec<u8>,
    terminal: File,
    device: PathBuf,
    started: Instant,
    keyboard: SyncSender<(Instant, Vec<u8>)>,
    /// Pieces that were typed and are not at the terminal yet.
    on_the_way: Arc<AtomicUsize>,
    screen: Receiver<(Instant, Vec<u8>)>,
    delay: Duration,
    stream: Stream,
    last_output: Instant,
    random: u64,
}

impl Sitting {
    /// Runs `command`, whose home nobody else has, on a terminal; each way takes `delay`.
    pub(crate) fn start(
        mut command: Command,
        (columns, rows): (u16, u16),
        delay: Duration,
        seed: u64,
    ) -> Self {
        let (terminal, slave) = pair(columns, rows).expect("a pty");
        let device = ttyname(&slave).expect("a terminal has a name");
        let copy = || slave.try_clone().expect("a copy of the terminal");
        command.stdin(copy()).stdout(copy()).stderr(copy());
        let home = command.get_envs().find_map(|(name, value)| value.filter(|_| name == "HOME"));
        let mark = [b"HOME=", home.expect("a home").as_bytes(), b"\0"].concat();
        let program = command.spawn().expect("the program starts");
        drop(command);
        drop(slave);
        let (keyboard, typed) = sync_channel::<(Instant, Vec<u8>)>(MOST_WAITING);
        let mut keys = terminal.try_clone().expect("a copy of the pty");
        let on_the_way = Arc::new(AtomicUsize::new(0));
        let typed_on = Arc::clone(&on_the_way);
        thread::spawn(move || {
            for (due, bytes) in typed {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let written = keys.write_all(&bytes);
                typed_on.fetch_sub(1, Ordering::SeqCst);
                if written.is_err() {
                    return;
                }
            }
        });
        let (shown, screen) = sync_channel(MOST_WAITING);
        let mut output = terminal.try_clone().expect("a copy of the pty");
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if shown.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
        let started = Instant::now();
        let stream = vec![(0, Piece::Window(columns, rows))];
        Self {
            program,
            mark,
            terminal,
            device,
            started,
            keyboard,
            on_the_way,
            screen,
            delay,
            stream,
            last_output: started,
            random: seed,
        }
    }

    /// A number below `bound`, the same in every run.
    pub(crate) fn random(&mut self, bound: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    /// Sends `bytes` in one piece.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.push((self.elapsed(Instant::now()), Piece::Client(bytes.to_vec())));
        self.on_the_way.fetch_add(1, Ordering::SeqCst);
        self.keyboard.send((Instant::now() + self.delay, bytes.to_vec())).expect("the terminal is there");
    }

    /// Types `text` key by key, now and then two at once, as a network delivers them.
    pub(crate) fn type_keys(&mut self, text: &str) {
        let keys: Vec<char> = text.chars().collect();
        let mut rest = keys.as_slice();
        while !rest.is_empty() {
            let count = if self.random(6) == 0 { 2 } else { 1 }.min(rest.len());
            let (now, after) = rest.split_at(count);
            self.send(now.iter().collect::<String>().as_bytes());
            rest = after;
            let pause = 12 + self.random(35);
            self.watch(Duration::from_millis(pause));
        }
    }

    /// Reads for `time`.
    pub(crate) fn watch(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while self.receive(until) {}
    }

    /// Reads until nothing came for `quiet`, and nothing is about to.
    pub(crate) fn settle(&mut self, quiet: Duration) {
        let from = Instant::now();
        let (begun, mut look_again) = (self.last_output, from + self.delay * 2);
        while from.elapsed() < LIMIT {
            if self.receive((self.last_output.max(from) + quiet).max(look_again)) {
                continue;
            }
            if !self.is_busy() {
                return;
            }
            look_again = Instant::now() + LOOK_AGAIN;
        }
        assert!(self.last_output > begun, "the program says nothing");
    }

    /// Whether a key has not arrived, output was not read, or a process would run if the machine let it.
    fn is_busy(&self) -> bool {
        let mut output = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        poll(&mut output, PollTimeout::ZERO).expect("the terminal can be looked at");
        let [output] = output;
        self.on_the_way.load(Ordering::SeqCst) > 0
            // It also tells of the terminal's end.
            || output.revents().is_some_and(|told| told.contains(PollFlags::POLLIN))
            || processes().any(|process| is_marked(&process, &self.mark) && runs(&process))
    }

    /// Reads until `text` was written after the last key.
    pub(crate) fn expect(&mut self, text: &str) {
        let from = Instant::now();
        let typed = self.stream.iter().rposition(|(_, piece)| matches!(piece, Piece::Client(_))).unwrap_or(0);
        loop {
            let pieces = self.stream.iter().skip(typed);
            let output: Vec<u8> = pieces.flat_map(|(_, piece)| output_of(piece)).copied().collect();
            let output = String::from_utf8_lossy(&output).into_owned();
            if output.contains(text) {
                return;
            }
            assert!(from.elapsed() < LIMIT, "{text:?} never appeared in {output:?}");
            self.watch(Duration::from_millis(20));
        }
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        let (width, height) = (columns.to_string(), rows.to_string());
        let mut stty = Command::new("stty");
        stty.arg("-F").arg(&self.device).args(["cols", &width, "rows", &height]);
        assert!(stty.status().expect("stty runs").success(), "the window takes another size");
        self.stream.push((self.elapsed(Instant::now()), Piece::Window(columns, rows)));
    }

    /// Waits for the program's end, and gives the stream.
    pub(crate) fn finish(mut self) -> Stream {
        let from = Instant::now();
        while self.program.try_wait().expect("the program can be waited for").is_none() {
            if from.elapsed() > LIMIT {
                self.program.kill().expect("the program can be ended");
            }
            assert!(from.elapsed() < LIMIT * 2, "the program does not end");
            self.watch(Duration::from_millis(20));
        }
        self.watch(Duration::from_millis(50));
        self.stream
    }

    /// Takes one piece of output that is there by `until`.
    fn receive(&mut self, until: Instant) -> bool {
        let wait = until.saturating_duration_since(Instant::now());
        match self.screen.recv_timeout(wait) {
            Ok((due, bytes)) => {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                self.last_output = Instant::now();
                self.stream.push((self.elapsed(self.last_output), Piece::Target(bytes)));
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(wait);
                false
            }
        }
    }

    fn elapsed(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.started).as_micros()).expect("a short sitting")
    }
}

/// Directories of processes; one may be gone already.
fn processes() -> impl Iterator<Item = PathBuf> {
    let listed = fs::read_dir("/proc").expect("processes are listed").flatten();
    let numbered = |name: &OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    listed.filter(move |entry| numbered(&entry.file_name())).map(|entry| entry.path())
}

fn is_marked(process: &Path, mark: &[u8]) -> bool {
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    environment.windows(mark.len()).any(|part| part == mark)
}

/// Whether a thread runs, waits for a processor, or for a disk (proc_pid_stat(5)).
fn runs(process: &Path) -> bool {
    let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    threads.map(|thread| fs::read_to_string(thread.path().join("stat")).unwrap_or_default()).any(|stat| {
        let (_, behind_name) = stat.rsplit_once(") ").unwrap_or_default();
        behind_name.starts_with(['R', 'D'])
    })
}

fn output_of(piece: &Piece) -> &[u8] {
    match piece {
        Piece::Target(bytes) => bytes,
        Piece::Client(_) | Piece::Window(..) => &[],
    }
}
