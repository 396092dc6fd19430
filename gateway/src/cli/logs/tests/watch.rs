//! Following what the recorder is writing.

use std::time::SystemTime;

use portreeve_core::config::daemon::{Fsync, SpoolConfig};
use portreeve_core::envelope::LogName;
use portreeve_core::id::SessionId;
use portreeve_core::infrastructure::TransferRights;
use portreeve_core::record::{ChannelKind, ChannelNumber, RecordEvent};

use super::*;
use crate::cli::logs::follow::{Follower, Step};
use crate::metrics::Metrics;
use crate::recording::Recorder;
use crate::recording::recipient::Recipients;
use crate::recording::spool::Spool;

const CHANNEL: ChannelNumber = ChannelNumber(0);

const SMALL: SpoolConfig = SpoolConfig {
    segment_size: 1_000,
    segment_time: Duration::from_hours(1),
    fsync: Fsync::Never,
    reserve: 0,
    memory: 256 << 20,
};

/// Begins a session for two recipients, the second of whom follows it.
async fn recorder(scratch: &Path) -> Recorder {
    let keys = [[8; 32], [7; 32]].map(|bytes| RecipientPrivateKey::from_bytes(bytes).recipient_key());
    let files = keys.map(|key| {
        let path = scratch.join(key.id());
        fs::write(&path, key.to_string()).unwrap();
        path
    });
    let spool = Spool::open(&scratch.join("spool")).unwrap().with(SMALL, Metrics::default());
    let terms = Recipients::load(&files).unwrap().into();
    let session = SessionId::from_random_bytes([5; 16]);
    let reserved = Recorder::reserve(&spool, terms, session, SystemTime::now()).await.unwrap();
    let recorder =
        reserved.begin(RecordEvent::SessionEnded { reason: String::new() }, true, TransferRights::ALL);
    let recorder = recorder.await.unwrap();
    let kind = ChannelKind::Session;
    recorder
        .event(&RecordEvent::ChannelOpen { channel: CHANNEL, source: Source::Client, kind })
        .await
        .unwrap();
    recorder
}

/// All that there is now, and how it goes on.
fn follow(follower: &mut Follower<'_>) -> (Vec<u8>, Step) {
    let mut read = Vec::new();
    loop {
        let step = follower.step(|packet| {
            read.extend_from_slice(packet.data);
            Ok(())
        });
        match step.unwrap() {
            Step::More => {}
            step @ (Step::CaughtUp | Step::Over) => return (read, step),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_growing_log_is_followed_over_segments_to_its_end_under_its_final_name() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path()).await;
    let directory = recorder.directory().unwrap().to_owned();
    let key = RecipientPrivateKey::from_bytes([7; 32]);
    let mut early = Follower::new(&directory, LogName::Channel(CHANNEL), &key);
    assert_eq!(follow(&mut early), (Vec::new(), Step::CaughtUp));
    let (mut seen, mut sent) = (Vec::new(), Vec::new());
    for number in 0..6 {
        let piece = vec![b'a' + number; 400];
        recorder.data(CHANNEL, Source::Target, 0, &piece).await.unwrap();
        sent.extend(piece);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (more, step) = follow(&mut early);
        seen.extend(more);
        assert_eq!((seen.len(), step), (sent.len(), Step::CaughtUp), "piece {number}");
    }
    assert!(directory.join(key.recipient_key().id()).join("channel-0.2.log").exists(), "too few segments");
    let mut late = Follower::new(&directory, LogName::Channel(CHANNEL), &key);
    late.step(|_| Ok(())).unwrap();
    recorder.finish(RecordEvent::SessionEnded { reason: "over".into() }).await.unwrap();
    assert!(!directory.exists());
    assert_eq!((seen, Step::Over), (sent.clone(), follow(&mut early).1));
    // What was read of the first segment is not among it.
    assert_eq!(follow(&mut late), (sent.split_off(800), Step::Over));
}

#[tokio::test(start_paused = true)]
async fn another_key_follows_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path()).await;
    recorder.data(CHANNEL, Source::Target, 0, b"secret").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let other = RecipientPrivateKey::from_bytes([9; 32]);
    let mut follower = Follower::new(recorder.directory().unwrap(), LogName::Channel(CHANNEL), &other);
    let error = follower.step(|_| panic!("it opens")).unwrap_err();
    assert!(format!("{:?}", anyhow::Error::from(error)).contains("wrong private key"));
    recorder.finish(RecordEvent::SessionEnded { reason: "over".into() }).await.unwrap();
}
