//! Recordings that cannot be written for a while, and the reserve.

use portreeve_core::config::daemon::SpoolConfig;

use super::*;

fn terms(on_failure: OnRecordingFailure, break_glass: bool) -> Terms {
    Terms { recipients: recipients(), on_failure, break_glass }
}

/// A spool whose reserve is more than any disk has.
fn full_spool(dir: &Path) -> Spool {
    let config = SpoolConfig { reserve: 1 << 50, ..SpoolConfig::default() };
    Spool::open(dir).unwrap().with(config, Metrics::default())
}

async fn reserve_on(spool: &Spool, terms: Terms) -> Result<Reservation, RecordingError> {
    Recorder::reserve(spool, terms, SessionId::from_random_bytes([5; 16]), SystemTime::now()).await
}

#[tokio::test]
async fn a_session_that_goes_on_is_recorded_again_when_the_disk_works_again() {
    let scratch = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let spool = Spool::open(scratch.path()).unwrap().with(SpoolConfig::default(), metrics.clone());
    let reserved = reserve_on(&spool, terms(OnRecordingFailure::Continue, false)).await.unwrap();
    let recorder = reserved.begin(started_event(), true, TransferRights::ALL).await.unwrap();
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    let part = only_entry(scratch.path());
    fs::remove_dir_all(&part).unwrap();
    // Both logs fail at their next write, and leave out what comes until they try again.
    recorder.data(CHANNEL, Source::Target, 0, b"lost").await.unwrap();
    recorder.event(&exec("lost")).await.unwrap();
    eventually("the failure", || metrics.recording_gap.get() > 4).await;
    recorder.event(&channel_open(ChannelNumber(1), ChannelKind::Session)).await.unwrap();
    fs::create_dir(&part).unwrap();
    assert!(recorder.has_gap());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    recorder.data(CHANNEL, Source::Target, 0, b"found").await.unwrap();
    recorder.data(ChannelNumber(1), Source::Target, 0, b"whole").await.unwrap();
    recorder.event(&exec("found")).await.unwrap();
    recorder.finish(ended()).await.unwrap();

    let session = only_entry(scratch.path());
    let channel = open(&session.join("channel-0.1.log"));
    assert_eq!(Opened::of(Source::Target, &channel), b"found");
    assert!(channel.header.last && channel.end.is_ok());
    assert_eq!(Opened::of(Source::Target, &open(&session.join("channel-1.log"))), b"whole");
    let text = open(&session.join("events.1.log")).text();
    let lines: Vec<EventLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let RecordEvent::Gap { channel: None, from_us, lost_bytes } = lines[0].event else { panic!("{text}") };
    assert!(from_us > 0 && from_us <= lines[0].elapsed_us && lost_bytes > 0);
    assert!(lines.is_sorted_by_key(|line| line.elapsed_us), "{text}");
    let of_channels: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            let RecordEvent::Gap { channel, lost_bytes, .. } = line.event else { return None };
            channel.map(|channel| (channel, lost_bytes))
        })
        .collect();
    assert!(of_channels.contains(&(CHANNEL, 4)), "{text}");
    assert_eq!(lines.last().unwrap().event, ended());
    let lost: u64 = of_channels.iter().map(|(_, lost)| lost).sum();
    assert_eq!(metrics.recording_gap.get(), lost + lost_bytes);
}

#[tokio::test]
async fn a_disk_that_never_works_again_is_told_at_the_end() {
    let scratch = tempfile::tempdir().unwrap();
    let spool = Spool::open(scratch.path()).unwrap();
    let reserved = reserve_on(&spool, terms(OnRecordingFailure::Continue, false)).await.unwrap();
    let recorder = reserved.begin(started_event(), true, TransferRights::ALL).await.unwrap();
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    fs::remove_dir_all(only_entry(scratch.path())).unwrap();
    for _ in 0..3 {
        recorder.data(CHANNEL, Source::Target, 0, b"lost").await.unwrap();
        tokio::time::sleep(SEAL_AFTER).await;
    }
    let failed = tokio::time::timeout(Duration::from_millis(10), recorder.failed()).await;
    assert!(failed.is_err(), "the session is not told to end");
    assert!(recorder.has_gap() && recorder.finish(ended()).await.is_err());
}

/// What was open when a disk filled up to the reserve is closed while it still is.
#[tokio::test]
async fn a_log_that_ends_in_a_gap_is_told_in_the_events() {
    let scratch = tempfile::tempdir().unwrap();
    let spool = Spool::open(scratch.path()).unwrap();
    let reserved = reserve_on(&spool, terms(OnRecordingFailure::Continue, false)).await.unwrap();
    let recorder = reserved.begin(started_event(), true, TransferRights::ALL).await.unwrap();
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    // The next segment of the channel finds its name taken, whenever it tries.
    let part = only_entry(scratch.path());
    for segment in ["channel-0.log", "channel-0.1.log"] {
        fs::remove_file(part.join(segment)).ok();
        fs::create_dir(part.join(segment)).unwrap();
    }
    recorder.data(CHANNEL, Source::Target, 0, b"lost").await.unwrap();
    recorder.event(&channel_closed(CHANNEL)).await.unwrap();
    assert!(recorder.clone().finish(ended()).await.is_err() && recorder.has_gap());
    let lines = events(&only_entry(scratch.path()));
    let gap = lines.iter().find_map(|line| {
        let RecordEvent::Gap { channel, lost_bytes, .. } = line.event else { return None };
        Some((channel, lost_bytes))
    });
    assert_eq!(gap, Some((Some(CHANNEL), 4)));
    assert_eq!(lines.last().unwrap().event, ended());
}

#[tokio::test]
async fn the_reserve_is_for_break_glass_sessions() {
    let scratch = tempfile::tempdir().unwrap();
    let spool = full_spool(scratch.path());
    for on_failure in [OnRecordingFailure::End, OnRecordingFailure::Continue] {
        let refused = reserve_on(&spool, terms(on_failure, false)).await;
        assert!(matches!(refused, Err(RecordingError::Reserve { .. })));
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    let reserved = reserve_on(&spool, terms(OnRecordingFailure::End, true)).await.unwrap();
    let recorder = reserved.begin(started_event(), true, TransferRights::ALL).await.unwrap();
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    recorder.data(CHANNEL, Source::Target, 0, b"kept").await.unwrap();
    recorder.finish(ended()).await.unwrap();
    let session = only_entry(scratch.path());
    assert_eq!(Opened::of(Source::Target, &open(&session.join("channel-0.log"))), b"kept");
}

#[tokio::test]
async fn a_session_without_a_recording_takes_everything_and_has_a_gap() {
    let recorder = Reservation::unrecorded().begin(started_event(), true, TransferRights::ALL).await.unwrap();
    recorder.data(CHANNEL, Source::Target, 0, b"anything").await.unwrap();
    recorder.event(&exec("anything")).await.unwrap();
    assert!(recorder.has_gap() && recorder.on_failure() == OnRecordingFailure::Continue);
    recorder.finish(ended()).await.unwrap();
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_loses_nothing_and_collides_with_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let spool = Spool::open(scratch.path()).unwrap();
    let now = SystemTime::now();
    // Each session begins, by the wall clock, an hour before the one that still runs, or when it did.
    let mut recorders = Vec::new();
    for (number, hours) in [(0_u8, 0), (1, 1), (2, 1), (3, 2)] {
        let session = SessionId::from_random_bytes([number; 16]);
        let started = now - Duration::from_hours(hours);
        let reserved = Recorder::reserve(&spool, recipients().into(), session, started).await.unwrap();
        recorders.push(reserved.begin(started_event(), true, TransferRights::ALL).await.unwrap());
    }
    for recorder in recorders {
        recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
        recorder.finish(ended()).await.unwrap();
    }
    let sessions: Vec<_> = fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(sessions.len(), 4, "{sessions:?}");
    for session in sessions {
        let lines = events(&session);
        assert_eq!(lines.len(), 3);
        assert!(lines.is_sorted_by_key(|line| line.elapsed_us), "times are not those of the wall clock");
    }
}
