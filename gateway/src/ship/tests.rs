//! Shipping to directories; other destinations are met in the test `shipping` of `portreeve-tests`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use portreeve_core::envelope::{Header, RESERVED_HEADER};
use portreeve_core::manifest::{Ended, Sha256, Shipped, read_unproven};

use portreeve_core::shipping::{DestinationStatus, Item};
use portreeve_core::utc::UtcTime;

use super::*;
use crate::audit::Closing;

/// A spool, and tasks that ship from it until they are dropped.
struct Bed {
    dir: tempfile::TempDir,
    tasks: JoinSet<()>,
    metrics: ShipMetrics,
    chain: Arc<AuditChain>,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bed = Self {
            chain: Arc::new(AuditChain::open(&dir.path().join("state")).unwrap()),
            dir,
            tasks: JoinSet::new(),
            metrics: ShipMetrics::default(),
        };
        fs::create_dir(bed.spool()).unwrap();
        bed
    }

    fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A finished session with two files and a manifest.
    fn session(&self, number: u64) -> String {
        let name = format!("{number}-ffffffff-ffff-4fff-bfff-ffffffffffff");
        let part = self.spool().join(&name).with_extension("part");
        fs::create_dir_all(part.join("0123456789abcdef")).unwrap();
        fs::write(part.join("events.log"), format!("events of {number}")).unwrap();
        fs::write(part.join("0123456789abcdef/events.log"), format!("again {number}")).unwrap();
        let now = SystemTime::now().into();
        let closing = Closing { part, started: now, closed: now, ended: Ended::Finished, files: Vec::new() };
        self.chain.close_all(vec![closing]).unwrap();
        name
    }

    fn directory(&self, name: &str) -> Destination {
        let kind = DestinationKind::Directory { path: self.path(name) };
        Destination { name: name.to_owned(), required: true, concurrency: 4, kind }
    }

    fn ship(&mut self, destinations: &[Destination], retention: Retention) {
        let (spool, metrics, chain) = (self.spool(), self.metrics.clone(), Arc::clone(&self.chain));
        let shipping = Shipping::open(&spool, destinations.to_vec(), retention, metrics, chain).unwrap();
        self.tasks.spawn(shipping.run());
    }

    fn log(&self) -> Vec<Shipped> {
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

    fn state(&self) -> StateDir {
        StateDir::of(&self.spool())
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < limit, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn at_once() -> Retention {
    Retention { keep: Some(Duration::ZERO), ..Retention::default() }
}

#[tokio::test]
async fn a_finished_session_is_copied_and_an_unfinished_one_is_not() {
    let mut bed = Bed::new();
    fs::create_dir(bed.path("archive")).unwrap();
    let name = bed.session(1);
    fs::create_dir(bed.spool().join("2-ffffffff-ffff-4fff-bfff-ffffffffffff.part")).unwrap();
    bed.ship(&[bed.directory("archive")], Retention::default());
    let manifest = bed.path("archive").join(&name).join("manifest.json");
    until("the manifest is there", || manifest.exists()).await;
    for file in ["events.log", "0123456789abcdef/events.log", "manifest.json"] {
        let read = |root: PathBuf| fs::read(root.join(&name).join(file)).unwrap();
        assert_eq!(read(bed.path("archive")), read(bed.spool()), "{file}");
    }
    assert_eq!(fs::read_dir(bed.path("archive")).unwrap().count(), 1);
    let later = bed.session(3);
    until("the second is there", || bed.path("archive").join(&later).join("manifest.json").exists()).await;
    assert!(bed.spool().join(&name).exists(), "nothing is deleted unless that is said");
}

/// A file as the recorder leaves it: a header, and `blocks` in it once it is finished.
fn file(blocks: Option<u64>, body: &str) -> Vec<u8> {
    let header = Header { blocks, ..Header::default() };
    [header.encode(RESERVED_HEADER).unwrap(), body.into()].concat()
}

#[tokio::test]
async fn finished_files_of_a_session_that_goes_on_are_copied_and_deleted_only_with_it() {
    let mut bed = Bed::new();
    fs::create_dir(bed.path("archive")).unwrap();
    let name = "7-ffffffff-ffff-4fff-bfff-ffffffffffff";
    let (part, there) = (bed.spool().join(name).with_extension("part"), bed.path("archive").join(name));
    let further = part.join("0123456789abcdef");
    fs::create_dir_all(&further).unwrap();
    for dir in [&part, &further] {
        fs::write(dir.join("events.log"), file(None, "and so on")).unwrap();
        fs::write(dir.join("channel-0.log"), file(Some(1), "first")).unwrap();
        fs::write(dir.join("channel-0.1.log"), file(None, "second")).unwrap();
    }
    let young = UtcTime::from(SystemTime::now()).unix_millis();
    let young = bed.spool().join(format!("{young}-ffffffff-ffff-4fff-bfff-ffffffffffff.part"));
    fs::create_dir(&young).unwrap();
    fs::write(young.join("channel-0.log"), file(Some(1), "first")).unwrap();

    bed.ship(&[bed.directory("archive")], at_once());
    let segment = Item::session(name).unwrap().segment("channel-0.log").unwrap();
    until("it is confirmed", || bed.state().confirmed("archive", &segment).is_some()).await;
    let further_copy = there.join("0123456789abcdef/channel-0.log");
    until("so is the further recipient's", || further_copy.exists()).await;
    assert_eq!(fs::read(there.join("channel-0.log")).unwrap(), file(Some(1), "first"));
    for open in ["events.log", "channel-0.1.log", "manifest.json"] {
        assert!(!there.join(open).exists(), "{open}");
    }
    assert_eq!(fs::read_dir(bed.path("archive")).unwrap().count(), 1, "a short session is there");
    assert!(part.join("channel-0.log").exists() && bed.log().is_empty());

    // It ends: what is there already stays as it is, the rest follows, and then it may be deleted.
    let modified = fs::metadata(there.join("channel-0.log")).unwrap().modified().unwrap();
    let now = SystemTime::now().into();
    let closing = Closing { part, started: now, closed: now, ended: Ended::Finished, files: Vec::new() };
    bed.chain.close_all(vec![closing]).unwrap();
    until("it is deleted", || !bed.spool().join(name).exists() && bed.log().len() == 1).await;
    assert!(there.join("manifest.json").exists());
    assert_eq!(fs::read(there.join("channel-0.1.log")).unwrap(), file(None, "second"));
    assert_eq!(fs::metadata(there.join("channel-0.log")).unwrap().modified().unwrap(), modified);
    until("its files are forgotten", || bed.state().confirmed("archive", &segment).is_none()).await;
    assert_eq!(bed.state().all_aside("archive").unwrap(), []);
}

#[tokio::test]
async fn deletion_waits_for_all_that_are_required_and_is_written_down_first() {
    let mut bed = Bed::new();
    fs::create_dir(bed.path("one")).unwrap();
    let name = bed.session(1);
    let optional = Destination { required: false, ..bed.directory("never") };
    bed.ship(&[bed.directory("one"), bed.directory("two"), optional], at_once());
    let state = bed.state();
    let item = Item::session(&name).unwrap();
    until("the first has confirmed", || state.confirmed("one", &item).is_some()).await;
    sleep(Duration::from_millis(500)).await;
    assert!(bed.spool().join(&name).join("manifest.json").exists() && bed.log().is_empty());
    // The second is mounted at last.
    fs::create_dir(bed.path("two")).unwrap();
    until("it is deleted", || !bed.spool().join(&name).exists()).await;
    let [one, two] = &bed.log()[..] else { panic!("{:?}", bed.log()) };
    let manifest = fs::read(bed.path("two").join(&name).join("manifest.json")).unwrap();
    assert_eq!((one.sequence, one.manifest, &one.directory), (1, Sha256::of(&manifest), &name));
    assert_eq!((&*one.destination, &*two.destination, two.sequence), ("one", "two", 1));
    until("its state is forgotten", || state.confirmed("one", &item).is_none()).await;
}

#[tokio::test]
async fn a_thousand_sessions_are_shipped_and_deleted_and_a_poisoned_one_holds_nothing_up() {
    let mut bed = Bed::new();
    fs::create_dir(bed.path("archive")).unwrap();
    // The oldest: a file where the destination wants a directory.
    let poisoned = bed.session(1);
    fs::write(bed.path("archive").join(&poisoned), "in the way").unwrap();
    // And one that holds what has no place there.
    let broken = bed.session(2);
    std::os::unix::fs::symlink("/etc/passwd", bed.spool().join(&broken).join("x")).unwrap();
    let good: Vec<String> = (3..1003).map(|number| bed.session(number)).collect();
    bed.ship(&[bed.directory("archive")], at_once());
    until("all good ones are shipped and deleted", || bed.log().len() == good.len()).await;
    for name in &good {
        assert!(bed.path("archive").join(name).join("manifest.json").exists(), "{name}");
    }
    let item = |name: &str| Item::session(name).unwrap();
    let state = bed.state();
    assert!(state.aside("archive", &item(&broken)).unwrap().reason.contains("has no place in a recording"));
    // It alone is left to be tried; others that come get through in between.
    for number in 2000..2100 {
        if state.aside("archive", &item(&poisoned)).is_some() {
            break;
        }
        bed.session(number);
        sleep(Duration::from_millis(300)).await;
    }
    until("it is set aside", || state.aside("archive", &item(&poisoned)).is_some()).await;
    assert!(bed.spool().join(&poisoned).exists() && bed.spool().join(&broken).exists());
    assert_eq!(state.all_aside("archive").unwrap().len(), 2);
}

#[tokio::test]
async fn without_destinations_old_ones_are_deleted_only_if_that_is_said() {
    let mut bed = Bed::new();
    let name = bed.session(1);
    bed.ship(&[], at_once());
    sleep(Duration::from_millis(500)).await;
    assert!(bed.spool().join(&name).exists());
    bed.tasks.shutdown().await;
    bed.ship(&[], Retention { delete_unshipped: true, ..at_once() });
    until("it is deleted", || !bed.spool().join(&name).exists()).await;
    assert_eq!(bed.log()[0].destination, "");
}

#[tokio::test]
async fn what_another_file_replaced_at_the_destination_is_not_confirmed() {
    let mut bed = Bed::new();
    let name = bed.session(1);
    fs::create_dir_all(bed.path("archive").join(&name)).unwrap();
    // Of the same length, and left of a crash.
    fs::write(bed.path("archive").join(&name).join("events.log"), "EVENTS OF 1").unwrap();
    fs::write(bed.path("archive").join(&name).join("events.log#1"), "eve").unwrap();
    bed.ship(&[bed.directory("archive")], Retention::default());
    until("the manifest is there", || bed.path("archive").join(&name).join("manifest.json").exists()).await;
    let read = fs::read_to_string(bed.path("archive").join(&name).join("events.log")).unwrap();
    assert_eq!(read, "events of 1");
    assert!(!bed.path("archive").join(&name).join("events.log#1").exists());
}

#[tokio::test]
async fn the_report_tells_what_waits_and_what_is_set_aside() {
    let mut bed = Bed::new();
    let destinations = [bed.directory("archive")];
    bed.session(60_000);
    let name = bed.session(1_000);
    let told = |bed: &Bed| report(&bed.spool(), &destinations).unwrap().remove(0);
    let before = told(&bed);
    assert_eq!((before.name.as_str(), before.kind, before.required), ("archive", "directory", true));
    let Pending { sessions, files, heads, bytes, oldest } = before.pending;
    assert_eq!((sessions, files, heads, oldest), (2, 0, 0, Some(UtcTime::from_unix_seconds(1))));
    assert!(bytes > 30 && before.aside.is_empty() && before.status.is_none(), "{bytes}");

    fs::create_dir(bed.path("archive")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", bed.spool().join(&name).join("x")).unwrap();
    bed.ship(&destinations, Retention::default());
    let is_told = |status: &DestinationStatus| status.last_confirmed.is_some() && status.backlog == 0;
    until("it is set aside, and the status tells", || {
        let now = told(&bed);
        now.aside.len() == 1 && now.status.as_ref().is_some_and(is_told)
    })
    .await;
    let after = told(&bed);
    assert_eq!(after.pending.sessions, 1);
    assert!(after.aside[0].1.reason.contains("has no place in a recording"), "{:?}", after.aside);
}

/// What is logged meanwhile.
#[derive(Clone, Default)]
struct Logged(Arc<std::sync::Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_damaged_manifest_is_told_once() {
    let bed = Bed::new();
    let name = bed.session(1);
    let ground = Ground {
        spool: bed.spool(),
        state: bed.state(),
        chain: Arc::clone(&bed.chain),
        board: Arc::new(Board::new(&[], ShipMetrics::default())),
    };
    bed.state().create([].into_iter()).unwrap();
    let mut keeper = Keeper::new(ground, &[], Retention { delete_unshipped: true, ..at_once() });
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let told = || String::from_utf8(logged.0.lock().unwrap().clone()).unwrap().matches("not deleted").count();
    fs::write(bed.spool().join(&name).join("manifest.json"), "no document").unwrap();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..3 {
            assert_eq!(keeper.sweep(SystemTime::now()).unwrap(), 0);
        }
    });
    assert!(told() == 1 && bed.spool().join(&name).exists(), "{} times", told());
}

#[test]
fn credentials_that_others_can_read_are_refused() {
    let bed = Bed::new();
    let path = bed.path("credentials");
    fs::write(&path, "aws_access_key_id = a\naws_secret_access_key = b\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let s3 = portreeve_core::config::shipping::S3 {
        endpoint: Some("http://127.0.0.1:1".into()),
        allow_http: true,
        bucket: "b".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        credentials_file: path.clone(),
        ca_file: None,
        confirm: portreeve_core::config::shipping::StoreConfirm::Checksum,
    };
    let destination = Destination { kind: DestinationKind::S3(s3), ..bed.directory("s3") };
    let error = check(std::slice::from_ref(&destination)).unwrap_err();
    assert!(with_causes(&error).contains("chmod 600"), "{}", with_causes(&error));
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    check(&[destination]).unwrap();
}

#[tokio::test]
async fn one_process_ships_at_a_time() {
    let mut bed = Bed::new();
    fs::create_dir(bed.path("archive")).unwrap();
    bed.state().create(["archive"].into_iter()).unwrap();
    let lock = bed.state().try_lock().unwrap();
    let name = bed.session(1);
    bed.ship(&[bed.directory("archive")], Retention::default());
    sleep(Duration::from_millis(500)).await;
    assert!(!bed.path("archive").join(&name).exists());
    drop(lock);
    until("the lock is free", || bed.path("archive").join(&name).join("manifest.json").exists()).await;
}
