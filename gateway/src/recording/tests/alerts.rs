//! What a lookout sees, and where what it says stands in the record.

use std::sync::Mutex;

use portreeve_core::inspection::FileProgress;
use portreeve_core::record::{Alert, Severity};

use super::*;

/// Says something about commands, about data from the target, and about files; keeps the names of what it saw.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn saw(&self, what: &str) {
        self.0.lock().unwrap().push(what.to_owned());
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn alert(rule: &str) -> RecordEvent {
    let alert = Alert {
        rule: rule.into(),
        severity: Severity::Low,
        met_by: "x".into(),
        matched: None,
        bytes: None,
        ends_session: false,
    };
    RecordEvent::Alert { channel: Some(CHANNEL), alert }
}

impl Lookout for Seen {
    fn event(&self, event: &RecordEvent) -> Vec<RecordEvent> {
        self.saw(event.name());
        if matches!(event, RecordEvent::Exec { .. }) { vec![alert("one"), alert("two")] } else { Vec::new() }
    }

    fn data(&self, _: ChannelNumber, source: Source, bytes: usize) -> Vec<RecordEvent> {
        self.saw(&format!("data {bytes}"));
        if source == Source::Target { vec![alert("data")] } else { Vec::new() }
    }

    fn file(&self, file: &FileProgress) -> Vec<RecordEvent> {
        self.saw(&format!("file {} {:?}", file.bytes, file.path));
        vec![alert("file")]
    }
}

fn lines(dir: &Path) -> Vec<String> {
    let rule = |event: &RecordEvent| {
        if let RecordEvent::Alert { alert, .. } = event {
            return format!("alert {}", alert.rule);
        }
        event.name().to_owned()
    };
    events(dir).iter().map(|line| rule(&line.event)).collect()
}

async fn watched(dir: &Path, command_logging: bool) -> (Recorder, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let reserved = reserve(&Spool::open(dir).unwrap()).await.watched_by(Arc::<Seen>::clone(&seen));
    let recorder = reserved.begin(started_event(), command_logging, TransferRights::ALL).await.unwrap();
    (recorder, seen)
}

#[tokio::test]
async fn alerts_stand_behind_what_raised_them_and_before_the_end() {
    for command_logging in [true, false] {
        let scratch = tempfile::tempdir().unwrap();
        let (recorder, seen) = watched(scratch.path(), command_logging).await;
        recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
        recorder.event(&exec("id")).await.unwrap();
        recorder.data(CHANNEL, Source::Client, 0, b"abc").await.unwrap();
        recorder.data(CHANNEL, Source::Target, 0, b"de").await.unwrap();
        recorder.finish(ended()).await.unwrap();
        let expected = [
            "session-started",
            "channel-open",
            "exec",
            "alert one",
            "alert two",
            "alert data",
            "session-ended",
        ];
        assert_eq!(lines(&only_entry(scratch.path())), expected, "{command_logging}");
        assert_eq!(seen.names(), ["session-started", "channel-open", "exec", "data 3", "data 2"]);
    }
}

#[tokio::test]
async fn an_alert_about_data_is_on_disk_while_the_channel_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let (recorder, _) = watched(scratch.path(), true).await;
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    recorder.data(CHANNEL, Source::Target, 0, b"de").await.unwrap();
    let session = only_entry(scratch.path());
    eventually("the alert is written", || lines(&session).contains(&"alert data".to_owned())).await;
    recorder.finish(ended()).await.unwrap();
}

#[tokio::test]
async fn a_file_is_seen_when_it_is_asked_for() {
    let scratch = tempfile::tempdir().unwrap();
    let (recorder, seen) = watched(scratch.path(), true).await;
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    recorder.event(&exec("scp -f /etc/shadow")).await.unwrap();
    recorder.data(CHANNEL, Source::Client, 0, b"\0").await.unwrap();
    recorder.data(CHANNEL, Source::Target, 0, b"C0600 1000 shadow\n").await.unwrap();
    let told = || seen.names().contains(&"file 0 \"/etc/shadow\"".to_owned());
    eventually("the file is told", told).await;
    recorder.finish(ended()).await.unwrap();
    let lines = lines(&only_entry(scratch.path()));
    assert!(lines.contains(&"alert file".to_owned()), "{lines:?}");
}

#[tokio::test]
async fn everything_is_seen_though_nothing_is_recorded() {
    let scratch = tempfile::tempdir().unwrap();
    let (recorder, seen) = watched(scratch.path(), true).await;
    scratch.close().unwrap();
    // The first write finds out.
    recorder.event(&channel_open(CHANNEL, ChannelKind::Agent)).await.ok();
    recorder.failed().await;
    recorder.event(&exec("id")).await.unwrap_err();
    recorder.data(CHANNEL, Source::Target, 0, b"de").await.unwrap_err();
    assert_eq!(seen.names(), ["session-started", "channel-open", "exec", "data 2"]);
    assert!(recorder.watched.next().is_none(), "what cannot be recorded does not wait");

    let seen = Arc::new(Seen::default());
    let unrecorded = Reservation::unrecorded().watched_by(Arc::<Seen>::clone(&seen));
    let recorder = unrecorded.begin(started_event(), true, TransferRights::ALL).await.unwrap();
    recorder.event(&exec("id")).await.unwrap();
    recorder.data(CHANNEL, Source::Target, 0, b"de").await.unwrap();
    assert_eq!(seen.names(), ["session-started", "exec", "data 2"]);
    assert!(recorder.watched.next().is_none(), "what nobody records does not wait");
}
