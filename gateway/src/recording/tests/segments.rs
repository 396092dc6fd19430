//! Logs in segments, and of several recipients.

use portreeve_core::config::daemon::{Fsync, SpoolConfig};

use super::*;

const SMALL: SpoolConfig = SpoolConfig {
    segment_size: 1000,
    segment_time: Duration::from_hours(1),
    fsync: Fsync::Second,
    reserve: 0,
    memory: 256 << 20,
};

async fn recorder_of(dir: &Path, config: SpoolConfig, terms: impl Into<Terms>) -> Recorder {
    let spool = Spool::open(dir).unwrap().with(config, Metrics::default());
    let session = SessionId::from_random_bytes([5; 16]);
    let reserved = Recorder::reserve(&spool, terms.into(), session, SystemTime::now()).await.unwrap();
    reserved.begin(started_event(), true, TransferRights::ALL).await.unwrap()
}

fn segments(session: &Path, log: LogName) -> Vec<PathBuf> {
    let paths = (0..).map(|number| session.join(log.segment(number).to_string()));
    paths.take_while(|path| path.exists()).collect()
}

/// Records pieces so that each gets into a batch of its own.
async fn record(recorder: &Recorder, pieces: impl Iterator<Item = Vec<u8>>) {
    let pty = Pty { term: "xterm".into(), width: 80, height: 24, modes: vec![] };
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    recorder.event(&RecordEvent::Pty { channel: CHANNEL, pty }).await.unwrap();
    for piece in pieces {
        recorder.data(CHANNEL, Source::Target, 0, &piece).await.unwrap();
        tokio::time::sleep(SEAL_AFTER * 2).await;
    }
    recorder.event(&RecordEvent::Exit { channel: CHANNEL, exit: Exit::Status(7) }).await.unwrap();
    recorder.event(&channel_closed(CHANNEL)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_segment_is_finished_and_the_log_goes_on_in_the_next() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder_of(scratch.path(), SMALL, recipients()).await;
    let pieces: Vec<Vec<u8>> = (0..6).map(|number| vec![b'a' + number; 400]).collect();
    record(&recorder, pieces.iter().cloned()).await;
    recorder.finish(ended()).await.unwrap();

    let session = only_entry(scratch.path());
    let files: Vec<Opened> =
        segments(&session, LogName::Channel(CHANNEL)).iter().map(|path| open(path)).collect();
    assert_eq!(files.len(), 3);
    let data: Vec<u8> = files.iter().flat_map(|file| Opened::of(Source::Target, file)).collect();
    assert_eq!(data, pieces.concat());
    let times: Vec<u64> = files.iter().flat_map(|file| file.packets.iter().map(|packet| packet.2)).collect();
    assert!(
        times.is_sorted() && times[5] >= 4_000_000,
        "times count from the start of the session: {times:?}"
    );
    for (number, file) in files.iter().enumerate() {
        file.end.as_ref().unwrap();
        let last = number == 2;
        assert_eq!(file.header.segment, Some(u32::try_from(number).unwrap()));
        assert_eq!(file.header.last, last);
        assert_eq!(file.header.data_size, 800);
        assert_eq!(file.header.started_at, files[0].header.started_at);
        assert_eq!(file.header.pty.as_ref().unwrap().width, 80);
        assert_eq!(file.header.exit_data.is_some(), last);
    }
    let keys: std::collections::BTreeSet<_> = files.iter().map(|file| file.header.encapsulated_key).collect();
    assert_eq!(keys.len(), 3, "each segment has a context of its own");
    let lines: Vec<EventLine> = segments(&session, LogName::Events)
        .iter()
        .flat_map(|path| open(path).text().lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    assert_eq!((&lines[0].event, &lines[5].event), (&started_event(), &ended()));
    assert_eq!(lines.len(), 6);
}

#[tokio::test]
async fn an_old_segment_is_left_when_more_comes_and_an_empty_log_has_one() {
    let scratch = tempfile::tempdir().unwrap();
    let config = SpoolConfig { segment_time: Duration::from_millis(1), ..SpoolConfig::default() };
    let recorder = recorder_of(scratch.path(), config, recipients()).await;
    recorder.event(&channel_open(ChannelNumber(1), ChannelKind::Session)).await.unwrap();
    record(&recorder, [b"a".to_vec(), b"b".to_vec()].into_iter()).await;
    recorder.finish(ended()).await.unwrap();
    let session = only_entry(scratch.path());
    assert_eq!(segments(&session, LogName::Channel(CHANNEL)).len(), 2);
    assert_eq!(segments(&session, LogName::Channel(ChannelNumber(1))).len(), 1);
}

#[tokio::test]
async fn every_recipient_opens_a_set_of_their_own() {
    let scratch = tempfile::tempdir().unwrap();
    let keys = [[7; 32], [8; 32], [9; 32]].map(RecipientPrivateKey::from_bytes);
    let files = ["a", "b", "c"].map(|name| scratch.path().join(name));
    for (file, key) in files.iter().zip(&keys) {
        fs::write(file, key.recipient_key().to_string()).unwrap();
    }
    let dir = scratch.path().join("spool");
    let recorder = recorder_of(&dir, SMALL, Recipients::load(&files).unwrap()).await;
    record(&recorder, (0..3).map(|_| vec![b'x'; 900])).await;
    recorder.finish(ended()).await.unwrap();
    let session = only_entry(&dir);
    for (index, key) in keys.iter().enumerate() {
        let set = if index == 0 { session.clone() } else { session.join(key.recipient_key().id()) };
        for (log, bytes) in [(LogName::Channel(CHANNEL), Some(2700)), (LogName::Events, None)] {
            let opened: Vec<Opened> = segments(&set, log).iter().map(|path| open_with(key, path)).collect();
            let data: usize = opened.iter().map(|file| Opened::of(Source::Target, file).len()).sum();
            assert_eq!(bytes.unwrap_or(0), data);
            assert!(opened.iter().all(|file| file.end.is_ok()) && opened.last().unwrap().header.last);
        }
        assert_eq!(fs::read_dir(&set).unwrap().count(), if index == 0 { 3 + 1 + 2 + 1 } else { 3 + 1 });
    }
}

#[tokio::test]
async fn a_crash_leaves_segments_of_all_recipients_that_open() {
    let scratch = tempfile::tempdir().unwrap();
    let spool = scratch.path().join("spool");
    let recipients = {
        let files = [7, 8].map(|byte| {
            let path = scratch.path().join(byte.to_string());
            let key = RecipientPrivateKey::from_bytes([byte; 32]).recipient_key();
            fs::write(&path, key.to_string()).unwrap();
            path
        });
        Recipients::load(&files).unwrap()
    };
    let recorder = recorder_of(&spool, SMALL, recipients).await;
    record(&recorder, (0..2).map(|_| vec![b'x'; 900])).await;
    // As a crash would have it: unlocked, with a block begun, and a file begun; and as a loss of power, with zeros for
    // what was not on the disk yet.
    let left = [
        ("crashed", &b"\0\0\x04\0\x01\x02\x03"[..], &b"\0\0\x10\0ey"[..]),
        ("dark", &[0; 5_000], &[0; 6_000]),
    ];
    for (name, block, header) in left {
        let crashed = scratch.path().join(name);
        let further =
            crashed.join("1-a.part").join(RecipientPrivateKey::from_bytes([8; 32]).recipient_key().id());
        let from = only_entry(&spool);
        fs::create_dir_all(&further).unwrap();
        for (from, to) in [
            (from.clone(), crashed.join("1-a.part")),
            (from.join(further.file_name().unwrap()), further.clone()),
        ] {
            for entry in
                fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file())
            {
                let mut bytes = fs::read(entry.path()).unwrap();
                bytes.extend_from_slice(block);
                fs::write(to.join(entry.file_name()), bytes).unwrap();
            }
            fs::write(to.join("channel-0.2.log"), header).unwrap();
        }
        assert_eq!(Spool::open(&crashed).unwrap().closed_leftovers(), 1);
        let session = only_entry(&crashed);
        for (byte, set) in [(7, session.clone()), (8, session.join(further.file_name().unwrap()))] {
            let files = segments(&set, LogName::Channel(CHANNEL));
            assert_eq!(files.len(), 2);
            for file in files {
                let opened = open_with(&RecipientPrivateKey::from_bytes([byte; 32]), &file);
                opened.end.unwrap();
                assert_eq!(opened.packets.len(), 1);
            }
        }
    }
    recorder.finish(ended()).await.unwrap();
}

#[tokio::test]
async fn a_finished_file_that_lost_a_block_with_the_power_opens_up_to_there() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder_of(&scratch.path().join("spool"), SMALL, recipients()).await;
    record(&recorder, (0..2).map(|_| vec![b'x'; 900])).await;
    recorder.finish(ended()).await.unwrap();
    let session = only_entry(&scratch.path().join("spool"));
    let finished = fs::read(segments(&session, LogName::Channel(CHANNEL)).first().unwrap()).unwrap();
    assert_eq!(Header::of_file(&finished).unwrap().blocks, Some(1));
    let part = scratch.path().join("dark/1-a.part");
    fs::create_dir_all(&part).unwrap();
    // The header got to the disk, and the end of the only block did not.
    fs::write(part.join("channel-0.log"), [&finished[..finished.len() - 100], &[0; 100]].concat()).unwrap();
    assert_eq!(Spool::open(&scratch.path().join("dark")).unwrap().closed_leftovers(), 1);
    let opened = open(&only_entry(&scratch.path().join("dark")).join("channel-0.log"));
    opened.end.unwrap();
    assert_eq!((opened.header.blocks, opened.header.last, opened.packets.len()), (None, false, 0));
}
