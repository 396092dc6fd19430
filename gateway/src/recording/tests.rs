//! The recorder against real files, and its streams against disks that fail and stall.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH};

use portreeve_core::envelope::{Batch, Header, OpenError, Opener, RecipientPrivateKey};
use portreeve_core::record::{EventLine, Pty, WITHHELD};

use super::budget::Budget;
use super::file::{Head, SealedFile, Sink, disk_sink};
use super::recipient::Recipients;
use super::stream::{BATCH, MAX_PENDING, SEAL_AFTER};
use super::*;
use crate::metrics::Metrics;

mod alerts;
mod crash;
mod gaps;
mod inspection;
mod manifests;
mod memory;
mod segments;

const CHANNEL: ChannelNumber = ChannelNumber(0);

fn private_key() -> RecipientPrivateKey {
    RecipientPrivateKey::from_bytes([7; 32])
}

fn session_files(dir: &Path, started: UtcTime) -> SessionFiles {
    Spool::open(dir).unwrap().session_files(dir, started, recipients().into())
}

fn recipients() -> Recipients {
    private_key().recipient_key().into()
}

struct Opened {
    header: Header,
    packets: Vec<(Source, u32, u64, Vec<u8>)>,
    end: Result<(), OpenError>,
}

impl Opened {
    fn of(source: Source, opened: &Self) -> Vec<u8> {
        opened
            .packets
            .iter()
            .filter(|packet| packet.0 == source)
            .flat_map(|packet| packet.3.clone())
            .collect()
    }

    fn text(&self) -> String {
        String::from_utf8(Self::of(Source::Client, self)).unwrap()
    }
}

fn open(path: &Path) -> Opened {
    open_with(&private_key(), path)
}

fn open_with(key: &RecipientPrivateKey, path: &Path) -> Opened {
    let mut opener = Opener::new(key);
    opener.feed(&fs::read(path).unwrap());
    let mut packets = Vec::new();
    while let Some(packet) = opener.next_packet().unwrap() {
        packets.push((packet.source, packet.code, packet.elapsed, packet.data.to_vec()));
    }
    Opened { header: opener.header().unwrap().clone(), packets, end: opener.finish() }
}

fn only_entry(dir: &Path) -> PathBuf {
    let entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries[0].clone()
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

fn started_event() -> RecordEvent {
    RecordEvent::SessionStarted {
        session: "s".into(),
        email: "alice@example.com".into(),
        login: "root".into(),
        client: "192.0.2.1:40000".into(),
        target: "198.51.100.7:22".into(),
        hostname: "db-1".into(),
        granted_by: vec!["databases/admins".into()],
        outer: None,
    }
}

fn channel_open(channel: ChannelNumber, kind: ChannelKind) -> RecordEvent {
    RecordEvent::ChannelOpen { channel, source: Source::Client, kind }
}

fn channel_closed(channel: ChannelNumber) -> RecordEvent {
    RecordEvent::ChannelClosed { channel, client_bytes: 0, target_bytes: 0 }
}

fn exec(command: &str) -> RecordEvent {
    RecordEvent::Exec { channel: CHANNEL, command: command.into() }
}

fn ended() -> RecordEvent {
    RecordEvent::SessionEnded { reason: "closed".into() }
}

async fn reserve(spool: &Spool) -> Reservation {
    let session = SessionId::from_random_bytes([5; 16]);
    Recorder::reserve(spool, recipients().into(), session, SystemTime::now()).await.unwrap()
}

async fn recorder(dir: &Path, command_logging: bool) -> Recorder {
    let spool = Spool::open(dir).unwrap();
    reserve(&spool).await.begin(started_event(), command_logging, TransferRights::ALL).await.unwrap()
}

fn events(dir: &Path) -> Vec<EventLine> {
    let opened = open(&dir.join(spool::EVENTS_FILE));
    opened.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Polls until `done`, and fails after ten seconds.
async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = StdInstant::now() + Duration::from_secs(10);
    while !done() {
        assert!(StdInstant::now() < deadline, "not in ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_session_leaves_finished_files_that_open() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), true).await;
    let pty = Pty { term: "xterm".into(), width: 80, height: 24, modes: vec![("ECHO".into(), 1)] };
    let happened = [
        channel_open(CHANNEL, ChannelKind::Session),
        RecordEvent::Pty { channel: CHANNEL, pty },
        exec("exit 7"),
        channel_open(ChannelNumber(1), ChannelKind::Agent),
    ];
    for event in &happened {
        recorder.event(event).await.unwrap();
    }
    recorder.data(CHANNEL, Source::Client, 0, b"in").await.unwrap();
    recorder.data(CHANNEL, Source::Target, 0, b"inout").await.unwrap();
    recorder.data(CHANNEL, Source::Target, 1, b"err").await.unwrap();
    recorder.data(ChannelNumber(1), Source::Target, 0, b"not kept").await.unwrap();
    recorder.event(&RecordEvent::Exit { channel: CHANNEL, exit: Exit::Status(7) }).await.unwrap();
    recorder.event(&channel_closed(CHANNEL)).await.unwrap();
    recorder.finish(ended()).await.unwrap();

    let session = only_entry(scratch.path());
    assert!(session.extension().is_none(), "{session:?}");
    let channel = open(&session.join("channel-0.log"));
    channel.end.as_ref().unwrap();
    assert_eq!(Opened::of(Source::Client, &channel), b"in");
    assert_eq!(Opened::of(Source::Target, &channel), b"inouterr");
    assert_eq!(channel.packets[2].1, 1);
    assert_eq!(channel.header.data_size, 10);
    assert_eq!(channel.header.blocks, Some(1));
    assert_eq!(channel.header.pty.unwrap().width, 80);
    assert_eq!(channel.header.exit_data.unwrap().status, Some(7));
    assert!(!session.join("channel-1.log").exists());
    let lines = events(&session);
    assert_eq!(lines.len(), 8);
    assert_eq!(lines[0].event, started_event());
    assert_eq!(lines[7].event, ended());
    assert!(lines.is_sorted_by_key(|line| line.elapsed_us));
    assert_eq!(open(&session.join(spool::EVENTS_FILE)).header.blocks, Some(2));
}

#[tokio::test]
async fn a_terminal_with_as_many_modes_as_a_packet_holds_costs_no_minutes() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), true).await;
    let modes = vec![("ECHO".into(), 1); 52_400];
    let pty = Pty { term: "xterm".into(), width: 80, height: 24, modes };
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    recorder.event(&RecordEvent::Pty { channel: CHANNEL, pty }).await.unwrap();
    let finished = tokio::time::timeout(Duration::from_secs(10), recorder.finish(ended())).await;
    finished.expect("soon").unwrap();
    let header = open(&only_entry(scratch.path()).join("channel-0.log")).header;
    assert!(!header.pty.unwrap().modes.is_empty());
}

#[tokio::test]
async fn without_command_logging_no_content_is_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), false).await;
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    recorder.event(&exec("secret")).await.unwrap();
    recorder.data(CHANNEL, Source::Client, 0, b"secret").await.unwrap();
    recorder.event(&RecordEvent::Exit { channel: CHANNEL, exit: Exit::Status(0) }).await.unwrap();
    recorder.finish(ended()).await.unwrap();
    let session = only_entry(scratch.path());
    assert_eq!(names(&session), [spool::EVENTS_FILE, "manifest.json"]);
    let lines = events(&session);
    assert_eq!(lines.len(), 5);
    assert!(lines[2].withheld);
    assert_eq!(lines[2].event, exec(WITHHELD));
}

#[tokio::test]
async fn files_are_there_before_the_session_begins_and_gone_if_it_does_not() {
    let scratch = tempfile::tempdir().unwrap();
    let spool = Spool::open(scratch.path()).unwrap();
    let reservation = reserve(&spool).await;
    let part = only_entry(scratch.path());
    assert!(fs::metadata(part.join(spool::EVENTS_FILE)).unwrap().len() > 4000);
    drop(reservation);
    // On a thread that may wait for the disk.
    let until = Instant::now() + Duration::from_secs(5);
    while fs::read_dir(scratch.path()).unwrap().count() > 0 {
        assert!(Instant::now() < until, "the directory stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_spool_that_is_gone_refuses_the_session() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("spool");
    let spool = Spool::open(&dir).unwrap();
    fs::remove_dir(&dir).unwrap();
    let session = SessionId::from_random_bytes([5; 16]);
    let refused = Recorder::reserve(&spool, recipients().into(), session, SystemTime::now()).await;
    assert!(matches!(refused, Err(RecordingError::Create { .. })));
}

#[tokio::test]
async fn the_same_session_twice_is_refused_and_the_first_stays() {
    let scratch = tempfile::tempdir().unwrap();
    let spool = Spool::open(scratch.path()).unwrap();
    let (session, now) = (SessionId::from_random_bytes([5; 16]), SystemTime::now());
    let first = Recorder::reserve(&spool, recipients().into(), session, now).await.unwrap();
    assert!(Recorder::reserve(&spool, recipients().into(), session, now).await.is_err());
    assert!(only_entry(scratch.path()).join(spool::EVENTS_FILE).exists());
    drop(first);
}

#[tokio::test]
async fn a_channel_file_that_cannot_be_created_is_an_error_of_its_open() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), true).await;
    let part = only_entry(scratch.path());
    fs::write(part.join("channel-0.log"), "in the way").unwrap();
    let opened = recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await;
    assert!(matches!(opened, Err(RecordingError::Create { .. })), "{opened:?}");
}

#[tokio::test]
async fn data_of_a_channel_that_is_not_open_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), true).await;
    let unknown = recorder.data(CHANNEL, Source::Client, 0, b"x").await;
    assert!(matches!(unknown, Err(RecordingError::UnknownChannel(CHANNEL))));
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    let reused = recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await;
    assert!(matches!(reused, Err(RecordingError::ChannelReused(CHANNEL))));
    recorder.event(&channel_closed(CHANNEL)).await.unwrap();
    let closed = recorder.data(CHANNEL, Source::Client, 0, b"x").await;
    assert!(matches!(closed, Err(RecordingError::UnknownChannel(CHANNEL))));
}

#[tokio::test]
async fn nothing_can_be_added_after_the_end() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), true).await;
    recorder.clone().finish(ended()).await.unwrap();
    assert!(matches!(recorder.event(&exec("late")).await, Err(RecordingError::Finished)));
}

#[tokio::test]
async fn an_abandoned_recorder_closes_its_files() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), true).await;
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    recorder.data(CHANNEL, Source::Target, 0, b"last words").await.unwrap();
    drop(recorder);
    eventually("renamed", || only_entry(scratch.path()).extension().is_none()).await;
    let channel = open(&only_entry(scratch.path()).join("channel-0.log"));
    assert_eq!(Opened::of(Source::Target, &channel), b"last words");
    assert_eq!(channel.header.blocks, Some(1));
    assert_eq!(events(&only_entry(scratch.path())).len(), 2);
}

#[test]
fn a_runtime_that_dies_leaves_files_that_open_and_are_closed_at_the_next_start() {
    let scratch = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let recorder = runtime.block_on(async {
        let recorder = recorder(scratch.path(), true).await;
        recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
        recorder.data(CHANNEL, Source::Target, 0, b"written").await.unwrap();
        let file = only_entry(scratch.path()).join("channel-0.log");
        eventually("written", || !open(&file).packets.is_empty()).await;
        recorder
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
    drop(recorder);
    assert_eq!(Spool::open(scratch.path()).unwrap().closed_leftovers(), 1);
    let channel = open(&only_entry(scratch.path()).join("channel-0.log"));
    channel.end.as_ref().unwrap();
    assert_eq!(Opened::of(Source::Target, &channel), b"written");
    assert_eq!(channel.header.blocks, None);
}

const VICTIM_DIR: &str = "PORTREEVE_TEST_VICTIM_DIR";

fn unix_millis() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

#[tokio::test]
#[ignore = "runs until it is killed, for a_killed_process_loses_less_than_a_second"]
async fn victim() {
    let recorder = recorder(Path::new(&std::env::var(VICTIM_DIR).unwrap()), true).await;
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    loop {
        let stamp = format!("{}\n", unix_millis());
        recorder.data(CHANNEL, Source::Client, 0, stamp.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_killed_process_loses_less_than_a_second() {
    let scratch = tempfile::tempdir().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "recording::tests::victim"])
        .env(VICTIM_DIR, scratch.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = StdInstant::now() + Duration::from_secs(20);
    let stamps = |root: &Path| {
        let session = fs::read_dir(root).ok()?.find_map(|entry| entry.ok().map(|e| e.path()))?;
        let file = session.join("channel-0.log");
        file.exists().then(|| open(&file).text())
    };
    while stamps(scratch.path()).is_none_or(|text| text.lines().count() < 100) {
        assert!(StdInstant::now() < deadline, "the victim recorded nothing");
        std::thread::sleep(Duration::from_millis(37));
    }
    std::thread::sleep(Duration::from_millis(300));
    let killed_at = unix_millis();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert_eq!(Spool::open(scratch.path()).unwrap().closed_leftovers(), 1);
    let text = stamps(scratch.path()).unwrap();
    let last: u128 = text.lines().last().unwrap().parse().unwrap();
    assert!(killed_at.saturating_sub(last) < 1_000, "lost {} ms", killed_at - last);
}

#[tokio::test]
async fn a_removed_directory_is_told_to_the_next_caller() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), true).await;
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    fs::remove_dir_all(only_entry(scratch.path())).unwrap();
    recorder.data(CHANNEL, Source::Client, 0, b"x").await.unwrap();
    let failed = tokio::time::timeout(Duration::from_secs(10), recorder.failed()).await.expect("a failure");
    assert!(matches!(failed, RecordingError::Write { .. }), "{failed:?}");
    let data = recorder.data(CHANNEL, Source::Client, 0, b"y").await;
    assert!(matches!(data, Err(RecordingError::Write { .. })), "{data:?}");
    let event = recorder.event(&exec("z")).await;
    assert!(matches!(event, Err(RecordingError::Write { .. })), "{event:?}");
    assert!(recorder.finish(ended()).await.is_err());
}

/// A disk that waits for leave before each write, and counts.
struct StallingSink {
    leave: Receiver<()>,
    writes: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Sink for StallingSink {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.leave.recv().map_err(io::Error::other)?;
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes.len(), Ordering::SeqCst);
        Ok(())
    }

    fn rewrite_header(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stream_into(sink: Box<dyn Sink>) -> LogStream {
    stream_within(sink, &Arc::new(Budget::new(1 << 30)))
}

fn stream_within(sink: Box<dyn Sink>, budget: &Arc<Budget>) -> LogStream {
    let head = Head {
        started: UtcTime::from_unix_seconds(1_700_000_000),
        log: LogName::Channel(CHANNEL),
        segment: 0,
    };
    let file = SealedFile::new(Path::new("/spool/channel-0.log"), &private_key().recipient_key(), head, sink);
    let scratch = tempfile::tempdir().unwrap();
    let files = SessionFiles { budget: Arc::clone(budget), ..session_files(scratch.path(), head.started) };
    let log = SealedLog::single(file.unwrap(), files);
    LogStream::start(log, Packer::default(), Instant::now(), SessionFailure::default(), None)
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told_to_the_next_caller() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let stream = stream_into(disk_sink(full));
    stream.data(Source::Client, 0, b"x").await.unwrap();
    tokio::time::sleep(SEAL_AFTER * 2).await;
    let error = stream.data(Source::Client, 0, b"y").await.unwrap_err();
    let RecordingError::Write { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert!(stream.close().await.is_err());
}

#[tokio::test]
async fn a_write_to_a_removed_file_fails() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("file");
    let mut sink = disk_sink(File::create_new(&path).unwrap());
    sink.append(b"whole").unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(sink.append(b"gone").unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_disk_makes_callers_wait_with_bounded_memory() {
    let (leave, stalled) = sync_channel(1_000);
    let (writes, bytes) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
    let stream = stream_into(Box::new(StallingSink { leave: stalled, writes, bytes: Arc::clone(&bytes) }));
    let message = vec![0; 32 * 1024];
    let mut accepted = 0;
    // A stalled blocking task holds the paused clock still, so the wait is by polling.
    for _ in 0..1_000 {
        let add = std::pin::pin!(stream.data(Source::Target, 0, &message));
        if futures_poll(add).await {
            accepted += message.len();
        } else {
            break;
        }
    }
    assert!(!futures_poll(std::pin::pin!(stream.keeps_up())).await, "the file is behind");
    // One batch with the disk, one gathering.
    assert!(accepted >= MAX_PENDING && accepted <= 2 * (MAX_PENDING + message.len()), "{accepted}");
    for _ in 0..100 {
        leave.send(()).unwrap();
    }
    stream.data(Source::Target, 0, &message).await.unwrap();
    stream.keeps_up().await;
    stream.close().await.unwrap();
    assert!(bytes.load(Ordering::SeqCst) > accepted + message.len());
}

/// Opens a channel on a disk that stalls with what is written to it.
async fn stall(recorder: &Recorder, channel: ChannelNumber) -> SyncSender<()> {
    let (leave, stalled) = sync_channel(10);
    let sink = StallingSink { leave: stalled, writes: Arc::default(), bytes: Arc::default() };
    let recording = recorder.session.as_ref().unwrap();
    recording.channels.insert(channel, Some(Arc::new(stream_into(Box::new(sink)))));
    recorder.data(channel, Source::Client, 0, b"x").await.unwrap();
    leave
}

#[tokio::test]
async fn a_recording_that_is_cut_while_it_is_closed_is_waited_for() {
    for is_finishing in [false, true] {
        let scratch = tempfile::tempdir().unwrap();
        let spool = Spool::open(scratch.path()).unwrap();
        let recorder = reserve(&spool).await.begin(started_event(), true, TransferRights::ALL).await.unwrap();
        let leave = stall(&recorder, CHANNEL).await;
        let session = tokio::spawn(async move {
            if is_finishing {
                recorder.finish(ended()).await.unwrap();
            } else {
                std::future::pending::<()>().await;
                drop(recorder);
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        session.abort();
        assert!(session.await.unwrap_err().is_cancelled());
        assert_eq!(spool.closed(Duration::from_millis(300)).await, 1, "recordings are left");
        assert!(only_entry(scratch.path()).extension().is_some(), "it counts as finished");
        leave.send(()).unwrap();
        assert_eq!(spool.closed(Duration::from_secs(10)).await, 0);
        assert!(only_entry(scratch.path()).extension().is_none());
    }
}

#[tokio::test]
async fn a_channel_opens_only_when_few_files_of_others_are_still_being_closed() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), true).await;
    let mut leaves = Vec::new();
    for number in 0..16 {
        leaves.push(stall(&recorder, ChannelNumber(number)).await);
        recorder.event(&channel_closed(ChannelNumber(number))).await.unwrap();
    }
    let next = channel_open(ChannelNumber(16), ChannelKind::Session);
    let mut opening = std::pin::pin!(recorder.event(&next));
    let soon = tokio::time::timeout(Duration::from_millis(300), &mut opening).await;
    assert!(soon.is_err(), "a seventeenth file was opened");
    leaves[0].send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), opening).await.expect("there is room").unwrap();
}

/// Polls a future a few times, letting other tasks run, and says whether it is ready.
async fn futures_poll(mut future: std::pin::Pin<&mut impl Future>) -> bool {
    for _ in 0..20 {
        let ready =
            std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        if ready {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test(start_paused = true)]
async fn little_is_sealed_within_half_a_second_and_an_idle_stream_does_nothing() {
    let (leave, stalled) = sync_channel(1_000);
    for _ in 0..100 {
        leave.send(()).unwrap();
    }
    let (writes, bytes): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let sink = StallingSink { leave: stalled, writes: Arc::clone(&writes), bytes: Arc::clone(&bytes) };
    let stream = stream_into(Box::new(sink));
    stream.data(Source::Client, 0, b"l").await.unwrap();
    stream.data(Source::Client, 0, b"s").await.unwrap();
    assert_eq!(writes.load(Ordering::SeqCst), 0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    stream.data(Source::Client, 0, &vec![0; BATCH]).await.unwrap();
    let before = Instant::now();
    while writes.load(Ordering::SeqCst) == 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(before.elapsed(), Duration::ZERO, "a full batch does not wait for the clock");
    stream.close().await.unwrap();
}
