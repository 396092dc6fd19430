//! A process that records, killed at random points.

use std::process::Child;

use portreeve_core::config::daemon::SpoolConfig;

use super::*;

const KILLS: usize = 200;
/// Victims that live at a time.
const AT_A_TIME: usize = 4;
const CHANNELS: u32 = 3;
const DIR: &str = "PORTREEVE_TEST_CRASH_DIR";

fn keys() -> [RecipientPrivateKey; 2] {
    [[7; 32], [8; 32]].map(RecipientPrivateKey::from_bytes)
}

/// The n-th line of a channel is its number and when it was handed over.
async fn hand_over(recorder: &Recorder, channel: ChannelNumber, number: u64) {
    let line = format!("{number} {}\n", unix_millis());
    recorder.data(channel, Source::Target, 0, line.as_bytes()).await.unwrap();
}

#[tokio::test]
#[ignore = "runs until it is killed, for what_a_killed_process_handed_over_is_there_but_for_a_second"]
async fn crash_victim() {
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    let files = [0, 1].map(|index: usize| dir.join(format!("{index}.pub")));
    // Segments of some tenths of a second.
    let config = SpoolConfig { segment_size: 1_500, reserve: 0, ..SpoolConfig::default() };
    let spool = Spool::open(&dir.join("spool")).unwrap().with(config, Metrics::default());
    let terms = Recipients::load(&files).unwrap().into();
    let session = SessionId::from_random_bytes([5; 16]);
    let reserved = Recorder::reserve(&spool, terms, session, SystemTime::now()).await.unwrap();
    let recorder = reserved.begin(started_event(), true, TransferRights::ALL).await.unwrap();
    for channel in 0..CHANNELS {
        recorder.event(&channel_open(ChannelNumber(channel), ChannelKind::Session)).await.unwrap();
    }
    for number in 0.. {
        for channel in 0..CHANNELS {
            hand_over(&recorder, ChannelNumber(channel), number).await;
        }
        recorder.event(&exec(&format!("{number}"))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

fn spawn(dir: &Path) -> Child {
    for (index, key) in keys().iter().enumerate() {
        fs::write(dir.join(format!("{index}.pub")), key.recipient_key().to_string()).unwrap();
    }
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "recording::tests::crash::crash_victim"])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// All segments of a log, opened and joined.
fn joined(set: &Path, key: &RecipientPrivateKey, log: LogName) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut client, mut target) = (Vec::new(), Vec::new());
    let mut segments = 0;
    for number in 0.. {
        let path = set.join(log.segment(number).to_string());
        if !path.exists() {
            break;
        }
        let opened = open_with(key, &path);
        opened.end.as_ref().unwrap();
        client.extend(Opened::of(Source::Client, &opened));
        target.extend(Opened::of(Source::Target, &opened));
        segments += 1;
    }
    (segments > 0).then_some((client, target))
}

/// Milliseconds of `channel` that were lost before `killed_at`, from when anything was in it.
fn lost(text: &[u8], killed_at: u128) -> u128 {
    let text = str::from_utf8(text).unwrap();
    let mut last = killed_at;
    for (number, line) in text.lines().enumerate() {
        let (counted, stamp) = line.split_once(' ').unwrap();
        assert_eq!(counted, number.to_string(), "not a prefix of what was handed over");
        last = stamp.parse().unwrap();
    }
    assert!(text.is_empty() || text.ends_with('\n'));
    killed_at.saturating_sub(last)
}

/// Kills one victim after `life`; the longest stretch that its recording lacks, in milliseconds.
fn kill_one(life: Duration) -> u128 {
    let scratch = tempfile::tempdir().unwrap();
    let mut victim = spawn(scratch.path());
    std::thread::sleep(life);
    let killed_at = unix_millis();
    victim.kill().unwrap();
    victim.wait().unwrap();
    let root = scratch.path().join("spool");
    Spool::open(&root).unwrap();
    let Some(session) = fs::read_dir(&root).unwrap().next() else { return 0 };
    let session = session.unwrap().path();
    assert!(session.extension().is_none(), "{session:?} was not recovered");
    let mut longest = 0;
    for (index, key) in keys().iter().enumerate() {
        let set = if index == 0 { session.clone() } else { session.join(key.recipient_key().id()) };
        for channel in 0..CHANNELS {
            if let Some((_, text)) = joined(&set, key, LogName::Channel(ChannelNumber(channel))) {
                longest = longest.max(lost(&text, killed_at));
            }
        }
        if let Some((lines, _)) = joined(&set, key, LogName::Events) {
            let lines = String::from_utf8(lines).unwrap();
            lines.lines().for_each(|line| drop(serde_json::from_str::<EventLine>(line).unwrap()));
        }
    }
    longest
}

#[test]
fn what_a_killed_process_handed_over_is_there_but_for_a_second() {
    let lives = |worker: usize| {
        (0..KILLS / AT_A_TIME)
            .map(move |_| Duration::from_millis(rand::random_range(0..1_600) + worker as u64))
    };
    let longest = std::thread::scope(|scope| {
        let worker = |number| scope.spawn(move || lives(number).map(kill_one).max().unwrap_or_default());
        let workers: Vec<_> = (0..AT_A_TIME).map(worker).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).max().unwrap_or_default()
    });
    println!("at most {longest} ms of a recording were lost in {KILLS} kills");
    assert!(longest < 1_000, "{longest} ms were lost");
}

/// Session directories with four files each, of which `left` were left by a crash; how long opening the spool takes.
fn recovery(left: usize) -> Duration {
    const DIRECTORIES: usize = 25_000;
    let scratch = tempfile::tempdir().unwrap();
    let block = [&[0, 0, 0, 2][..], b"{}", &[0, 0, 0, 3], b"abc", &[0, 0, 0, 9], b"half"].concat();
    for number in 0..DIRECTORIES {
        let part = if number < left { ".part" } else { "" };
        let dir = scratch.path().join(format!("{number}-session{part}"));
        fs::create_dir(&dir).unwrap();
        for name in ["events.log", "channel-0.log", "channel-1.log", "channel-2.log"] {
            fs::write(dir.join(name), &block).unwrap();
        }
    }
    let begun = StdInstant::now();
    assert_eq!(Spool::open(scratch.path()).unwrap().closed_leftovers(), left);
    begun.elapsed()
}

#[test]
#[ignore = "makes 200,000 files"]
fn a_spool_of_100_000_files_is_recovered_in_ten_seconds() {
    let (none, all) = (recovery(0), recovery(25_000));
    println!("100,000 files: {none:?} when all are finished, {all:?} when all were left by a crash");
    assert!(none < Duration::from_secs(10) && all < Duration::from_secs(10));
}
