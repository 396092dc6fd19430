//! A program on a pty, typed at over a line with a delay, and the stream as a gateway in the middle sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::unistd::ttyname;

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

/// Pieces on their way.
const MOST_WAITING: usize = 1024;

pub(crate) struct Sitting {
    program: Child,
    device: PathBuf,
    started: Instant,
    keyboard: SyncSender<(Instant, Vec<u8>)>,
    screen: Receiver<(Instant, Vec<u8>)>,
    delay: Duration,
    stream: Stream,
    last_output: Instant,
    random: u64,
}

impl Sitting {
    /// Runs `command` on a terminal; each way takes `delay`.
    pub(crate) fn start(
        mut command: Command,
        (columns, rows): (u16, u16),
        delay: Duration,
        seed: u64,
    ) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("a pty");
        let device = ttyname(&pair.slave).expect("a terminal has a name");
        let copy = || pair.slave.try_clone().expect("a copy of the terminal");
        command.stdin(copy()).stdout(copy()).stderr(copy());
        let program = command.spawn().expect("the program starts");
        drop(command);
        let terminal = File::from(pair.master);
        let (keyboard, typed) = sync_channel::<(Instant, Vec<u8>)>(MOST_WAITING);
        let mut keys = terminal.try_clone().expect("a copy of the pty");
        thread::spawn(move || {
            for (due, bytes) in typed {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if keys.write_all(&bytes).is_err() {
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
        Self { program, device, started, keyboard, screen, delay, stream, last_output: started, random: seed }
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

    /// Reads until nothing came for `quiet`.
    pub(crate) fn settle(&mut self, quiet: Duration) {
        let from = Instant::now();
        let begun = self.last_output;
        while from.elapsed() < LIMIT {
            let deadline = (self.last_output.max(from) + quiet).max(from + self.delay * 2);
            if !self.receive(deadline) {
                return;
            }
        }
        assert!(self.last_output > begun, "the program says nothing");
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

fn output_of(piece: &Piece) -> &[u8] {
    match piece {
        Piece::Target(bytes) => bytes,
        Piece::Client(_) | Piece::Window(..) => &[],
    }
}
