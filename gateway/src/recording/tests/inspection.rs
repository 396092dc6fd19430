//! What an inspector of a channel holds back, leaves out and tells.

use portreeve_core::inspection::ChannelInspector;

use super::*;

/// Holds what the client sends until a deadline, then keeps it, or leaves it out if it is a secret.
#[derive(Default)]
struct Holding {
    held: Packer,
    since: Option<u64>,
    asked: Vec<RecordEvent>,
}

impl Holding {
    const FOR: u64 = 100_000;

    fn tell(what: &str) -> RecordEvent {
        RecordEvent::Refused { channel: Some(CHANNEL), what: what.into() }
    }
}

impl ChannelInspector for Holding {
    fn request(&mut self, event: &RecordEvent) {
        self.asked.push(event.clone());
    }

    fn packets(&mut self, batch: Batch, now: u64, found: &mut Vec<RecordEvent>) -> Batch {
        let mut kept = Packer::default();
        for packet in batch.packets() {
            if packet.source == Source::Target {
                kept.push(packet);
            } else if packet.data == b"secret" {
                found.push(Self::tell("left out"));
            } else {
                self.held.push(packet);
                self.since.get_or_insert(now);
            }
        }
        if self.since.is_some_and(|since| since + Self::FOR <= now) {
            found.push(Self::tell("released"));
            self.since = None;
            for packet in self.held.take(Vec::new()).packets() {
                kept.push(Packet { elapsed: now, ..packet });
            }
        }
        kept.take(Vec::new())
    }

    fn deadline(&self) -> Option<u64> {
        self.since.map(|since| since + Self::FOR)
    }

    fn finish(&mut self, _: u64, found: &mut Vec<RecordEvent>) -> Batch {
        found.push(Self::tell(&format!("{} requests", self.asked.len())));
        self.held.take(Vec::new())
    }
}

#[tokio::test(start_paused = true)]
async fn an_inspector_holds_leaves_out_and_tells() {
    let scratch = tempfile::tempdir().unwrap();
    let start = Start { wall: UtcTime::from_unix_seconds(1_700_000_000), monotonic: Instant::now() };
    let files = Arc::new(session_files(scratch.path(), start.wall));
    let create = |name| SealedLog::create(Arc::clone(&files), name).unwrap();
    let failure = SessionFailure::default();
    let events_file = create(LogName::Events);
    let events_stream =
        LogStream::start(events_file, Packer::default(), start.monotonic, Arc::clone(&failure), None);
    let found =
        EventsFile::new(events_stream, start, true, (Arc::new(Activity::new(true)), Watched::default()));
    let inspector = Inspector::with(Box::<Holding>::default());
    let inspection = Inspection { inspector, found: found.clone() };
    let file = create(LogName::Channel(CHANNEL));
    let stream = LogStream::start(file, Packer::default(), start.monotonic, failure, Some(inspection));

    stream.request(&exec("passwd")).unwrap();
    stream.data(Source::Client, 0, b"held").await.unwrap();
    stream.data(Source::Client, 0, b"secret").await.unwrap();
    stream.data(Source::Target, 0, b"shown").await.unwrap();
    let released = || events(scratch.path()).iter().any(|line| line.event == Holding::tell("released"));
    eventually("the deadline of the inspector, with nothing else to do", released).await;
    stream.data(Source::Client, 0, b" at the end").await.unwrap();
    stream.close().await.unwrap();
    found.close().await.unwrap();

    let told: Vec<_> = events(scratch.path()).into_iter().map(|line| line.event).collect();
    assert_eq!(told, ["left out", "released", "1 requests"].map(Holding::tell));
    let channel = open(&scratch.path().join("channel-0.log"));
    channel.end.as_ref().unwrap();
    assert_eq!(Opened::of(Source::Client, &channel), b"held at the end");
    assert_eq!(Opened::of(Source::Target, &channel), b"shown");
    assert_eq!(channel.header.data_size, 20, "what was left out does not count");
}
