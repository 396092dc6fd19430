//! A spool with sessions in it, and what ships from it within this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use portreeve::audit::{AuditChain, Closing};
use portreeve::metrics::ShipMetrics;
use portreeve::ship::{Shipping, StateDir};
use portreeve_core::config::shipping::{Destination, DestinationKind, Retention};
use portreeve_core::envelope::{Header, LogName, RESERVED_HEADER};
use portreeve_core::manifest::{Ended, Shipped, read_unproven};
use portreeve_core::record::ChannelNumber;
use tokio::task::JoinSet;

/// A spool, and tasks that ship from it until they are dropped.
pub(crate) struct Bed {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) tasks: JoinSet<()>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let bed = Self { dir: tempfile::tempdir().unwrap(), tasks: JoinSet::new() };
        fs::create_dir(bed.spool()).unwrap();
        bed
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// A finished session with a file of `size` bytes and a manifest.
    pub(crate) fn session(&self, number: u64, size: usize) -> String {
        let name = format!("{number}-ffffffff-ffff-4fff-bfff-{number:012}");
        let part = self.spool().join(format!("{name}.part"));
        fs::create_dir(&part).unwrap();
        let bytes: Vec<u8> = (number..).flat_map(u64::to_be_bytes).take(size).collect();
        fs::write(part.join("events.log"), bytes).unwrap();
        let now = SystemTime::now().into();
        let closing = Closing { part, started: now, closed: now, ended: Ended::Finished, files: Vec::new() };
        chain(&self.spool()).close_all(vec![closing]).unwrap();
        name
    }

    /// A session that has run for long, with so many finished files of `size` bytes and an open one: its name, its
    /// directory, and the finished files.
    pub(crate) fn running(&self, files: u32, size: usize) -> (String, PathBuf, Vec<String>) {
        let name = "1-ffffffff-ffff-4fff-bfff-000000000001".to_owned();
        let part = self.spool().join(format!("{name}.part"));
        fs::create_dir(&part).unwrap();
        let header = |blocks| Header { blocks, ..Header::default() }.encode(RESERVED_HEADER).unwrap();
        fs::write(part.join("events.log"), header(None)).unwrap();
        let finished = (0..files).map(|number| {
            let bytes: Vec<u8> = (u64::from(number)..).flat_map(u64::to_be_bytes).take(size).collect();
            let file = LogName::Channel(ChannelNumber(number)).segment(0).to_string();
            fs::write(part.join(&file), [header(Some(1)), bytes].concat()).unwrap();
            file
        });
        let finished = finished.collect();
        (name, part, finished)
    }

    /// Writes the last of a running session, and closes it.
    pub(crate) fn end(&self, part: &Path) {
        let events = part.join("events.log");
        fs::write(&events, [fs::read(&events).unwrap(), b"the end".to_vec()].concat()).unwrap();
        let now = SystemTime::now().into();
        let part = part.to_owned();
        let closing = Closing { part, started: now, closed: now, ended: Ended::Finished, files: Vec::new() };
        chain(&self.spool()).close_all(vec![closing]).unwrap();
    }

    pub(crate) fn ship(&mut self, kind: DestinationKind, keep: Option<Duration>) {
        let shipping = shipping(&self.spool(), kind, keep);
        self.tasks.spawn(shipping.run());
    }

    pub(crate) fn log(&self) -> Vec<Shipped> {
        let text = fs::read_to_string(self.spool().join("shipped.log")).unwrap_or_default();
        let (mut before, mut documents) = ("", Vec::new());
        for line in text.split_inclusive('\n') {
            // One that a crash cut is passed over.
            let document = read_unproven::<Shipped>(format!("{before}{line}").as_bytes());
            documents.extend(document.ok().map(|signed| signed.content));
            before = line;
        }
        documents
    }

    /// Names of what is confirmed.
    pub(crate) fn confirmed(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.spool().join(".shipping/there")) else { return 0 };
        entries
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "confirmed"))
            .count()
    }

    /// Sessions that are set aside.
    pub(crate) fn aside(&self) -> usize {
        StateDir::of(&self.spool()).all_aside("there").map_or(0, |aside| aside.len())
    }
}

/// The chain of the gateway that has the spool.
pub(crate) fn chain(spool: &Path) -> Arc<AuditChain> {
    Arc::new(AuditChain::open(&spool.with_file_name("state")).unwrap())
}

/// What ships a spool to one destination, `there`.
pub(crate) fn shipping(spool: &Path, kind: DestinationKind, keep: Option<Duration>) -> Shipping {
    let destination = Destination { name: "there".to_owned(), required: true, concurrency: 4, kind };
    let retention = Retention { keep, ..Retention::default() };
    Shipping::open(spool, vec![destination], retention, ShipMetrics::default(), chain(spool)).unwrap()
}

/// Whether two directories hold the same file.
pub(crate) fn same(one: &Path, other: &Path, name: &str) -> bool {
    let read = |dir: &Path| fs::read(dir.join(name)).ok();
    read(one).is_some() && read(one) == read(other)
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < limit, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a test.
pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}
