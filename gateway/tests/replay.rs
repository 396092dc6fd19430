//! `portreeve logs replay` in a real pseudo-terminal, which `script` makes: keys go in, the recording comes out.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a terminal that breaks must fail its test")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use portreeve_core::envelope::{Header, LogKind, Packer, Packet, PtyHeader, RecipientPrivateKey, Sealer};
use portreeve_core::record::{
    ChannelKind, ChannelNumber, Confidence, EventLine, PromptKind, RecordEvent, Source,
};
use portreeve_core::utc::UtcTime;

const CHANNEL: ChannelNumber = ChannelNumber(0);
const SECOND: u64 = 1_000_000;

fn sealed(kind: LogKind, packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let recipient = RecipientPrivateKey::from_bytes([7; 32]).recipient_key();
    let mut sealer = Sealer::new(&recipient, &mut rand::rng()).unwrap();
    let mut packer = Packer::default();
    let source = if kind == LogKind::Events { Source::Client } else { Source::Target };
    for (elapsed, data) in packets {
        packer.push(Packet { source, code: 0, elapsed: *elapsed, data });
    }
    let batch = packer.take(Vec::new());
    let data_size = batch.data_bytes();
    let body = sealer.seal(batch).unwrap();
    let header = Header {
        started_at: 1_700_000_000,
        data_size,
        encapsulated_key: sealer.encapsulated_key(),
        pty: (kind == LogKind::Channel).then(|| PtyHeader { width: 80, height: 24, ..PtyHeader::default() }),
        kind: Some(kind),
        recipient: Some(recipient.id()),
        blocks: Some(sealer.blocks()),
        ..Header::default()
    };
    [header.encode(900).unwrap(), body].concat()
}

/// A session of 1000 s: `first` after 1 s, the commands `two` and `three` with their output at 100 s and 200 s, and
/// `last` at the end.
fn session(directory: &std::path::Path) {
    fs::write(directory.join("key"), &*RecipientPrivateKey::from_bytes([7; 32]).to_base64()).unwrap();
    fs::set_permissions(directory.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
    let pieces =
        [(1, "first"), (100, "$two"), (101, "second"), (200, "$three"), (201, "third"), (1000, "last")];
    let data: Vec<_> = pieces.map(|(at, text)| (at * SECOND, format!("{text}\r\n").into_bytes())).to_vec();
    fs::write(directory.join("channel-0.log"), sealed(LogKind::Channel, &data)).unwrap();
    let typed = |name: &str| RecordEvent::Command {
        channel: CHANNEL,
        command: name.into(),
        directory: None,
        confidence: Confidence::High,
        prompt: PromptKind::Shell,
    };
    let open =
        RecordEvent::ChannelOpen { channel: CHANNEL, source: Source::Client, kind: ChannelKind::Session };
    let events = [(0, open), (100, typed("two")), (200, typed("three"))].map(|(at, event)| {
        let line = EventLine::new(event, UtcTime::from_unix_seconds(1_700_000_000), Duration::from_secs(at));
        (at * SECOND, line.to_json().unwrap())
    });
    fs::write(directory.join("events.log"), sealed(LogKind::Events, &events)).unwrap();
}

/// A replay in a terminal.
struct Replay {
    child: Child,
    keys: ChildStdin,
    pieces: Receiver<Vec<u8>>,
    shown: String,
    directory: tempfile::TempDir,
}

impl Replay {
    fn start(arguments: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        session(directory.path());
        let path = directory.path().display();
        let program = env!("CARGO_BIN_EXE_portreeve");
        let line = format!(
            "{program} logs replay --key {path}/key {arguments} {path}; echo status $?; stty -a; exit"
        );
        let mut child = Command::new("script")
            .args(["--quiet", "--command", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script (package bsdextrautils) is needed for this test");
        let (sender, pieces) = sync_channel(100);
        let mut out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = out.read(&mut piece) {
                if sender.send(piece[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        let keys = child.stdin.take().unwrap();
        Self { child, keys, pieces, shown: String::new(), directory }
    }

    /// Waits until `text` is shown, which it was not before.
    fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.shown.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let piece = self.pieces.recv_timeout(left);
            let piece = piece.unwrap_or_else(|_| panic!("{text:?} is not shown, but {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&piece));
        }
        let end = self.shown.find(text).unwrap() + text.len();
        self.shown.drain(..end);
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Ends, with the terminal as it was before.
    fn ends(mut self) {
        self.shows("status 0");
        self.shows("\nisig icanon iexten echo ");
        drop(self.keys);
        assert!(self.child.wait().unwrap().success());
        drop(self.directory);
    }
}

#[test]
fn keys_jump_between_commands_and_quit() {
    let mut replay = Replay::start("");
    replay.shows("q quit");
    replay.press("n");
    // As it was recorded, without another carriage return.
    replay.shows("first\r\n");
    replay.shows("$two");
    replay.press("n");
    replay.shows("second");
    replay.shows("$three");
    replay.press("p");
    // The screen is made anew, and played up to the command before.
    replay.shows("\u{1b}c");
    replay.shows("first");
    replay.shows("$two");
    assert!(!replay.shown.contains("$three"), "{:?}", replay.shown);
    replay.press("q");
    replay.ends();
}

#[test]
fn keys_pause_step_and_jump_to_a_time() {
    let mut replay = Replay::start("--speed 64 --start 1:30");
    replay.shows("first");
    replay.press(" ");
    replay.press(".");
    replay.shows("$two");
    std::thread::sleep(Duration::from_millis(500));
    assert!(replay.pieces.try_recv().is_err(), "it is paused: half a second is 32 s of the recording");
    replay.press(".");
    replay.shows("second");
    // An answer of the terminal is no key.
    replay.press("\u{1b}[24;80R3:30g");
    replay.shows("$three");
    replay.shows("third");
    replay.press("\u{3}");
    replay.ends();
}

#[test]
fn idle_time_is_cut_and_it_ends_by_itself() {
    let began = Instant::now();
    let mut replay = Replay::start("--speed 10 --idle-limit 0.05s");
    for text in ["first", "$two", "second", "$three", "third", "last"] {
        replay.shows(text);
    }
    replay.ends();
    assert!(began.elapsed() < Duration::from_secs(20), "1000 seconds at ten times the speed are 100");
}
