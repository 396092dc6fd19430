//! A bucket of a real S3 server, whose files can be looked at.

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portreeve_core::config::shipping::{DestinationKind, S3, StoreConfirm};

use crate::bed::{Bed, run, same, until};
use crate::{Test, process};

/// Tests with an S3 server.
pub(crate) const TESTS: &[Test] = &[
    ("s3_gets_sessions_whole_and_they_are_deleted_when_it_has_confirmed", whole),
    ("s3_that_refuses_costs_nothing_and_new_credentials_count_without_a_restart", refused),
    ("s3_that_goes_away_in_the_middle_gets_everything_when_it_is_back", interrupted),
    ("a_shipper_that_is_killed_twenty_times_loses_nothing", killed),
    ("finished_files_of_a_running_session_are_there_once_however_often_the_shipper_is_killed", running),
];

const BUCKET: &str = "recordings";

/// A running S3 server; killed when dropped.
pub(crate) struct Server {
    pub(crate) root: PathBuf,
    pub(crate) port: u16,
    child: Child,
}

impl Server {
    pub(crate) fn start(root: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::create_dir_all(root.join(BUCKET)).unwrap();
        Self { root: root.to_owned(), port, child: spawn(root, port) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = spawn(&self.root, self.port);
    }

    /// Where a session is.
    pub(crate) fn session(&self, name: &str) -> PathBuf {
        self.root.join(BUCKET).join("gateway-1").join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(root: &Path, port: u16) -> Child {
    let mut command = Command::new("s3s-fs");
    command.args(["--host", "127.0.0.1", "--access-key", "AKEXAMPLE", "--secret-key", "secret"]);
    command.arg("--port").arg(port.to_string()).arg(root).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("s3s-fs is missing: run `cargo xtask setup`");
    let limit = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < limit, "s3s-fs does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// Where the server's credentials are, or wrong ones.
pub(crate) fn credentials(bed: &Bed, secret: &str) -> PathBuf {
    let path = bed.dir.path().join("credentials");
    fs::write(&path, format!("[default]\naws_access_key_id = AKEXAMPLE\naws_secret_access_key = {secret}\n"))
        .unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// The bucket as a destination.
pub(crate) fn destination(endpoint: &str, credentials: &Path) -> S3 {
    S3 {
        endpoint: Some(endpoint.to_owned()),
        allow_http: true,
        bucket: BUCKET.to_owned(),
        prefix: "gateway-1".to_owned(),
        region: "us-east-1".to_owned(),
        credentials_file: credentials.to_owned(),
        ca_file: None,
        confirm: StoreConfirm::Checksum,
    }
}

fn whole() {
    run(async {
        for confirm in [StoreConfirm::Checksum, StoreConfirm::Read] {
            let mut bed = Bed::new();
            let server = Server::start(&bed.dir.path().join("s3"));
            // One in parts, one of exactly a part, an empty file, and small ones.
            let sizes = [20_000_001, 8 * 1024 * 1024, 0, 1, 100];
            let names: Vec<String> =
                (1..).zip(sizes).map(|(number, size)| bed.session(number, size)).collect();
            let copy = bed.dir.path().join("copy");
            assert!(Command::new("cp").arg("-a").arg(bed.spool()).arg(&copy).status().unwrap().success());
            let s3 = S3 { confirm, ..destination(&server.endpoint(), &credentials(&bed, "secret")) };
            bed.ship(DestinationKind::S3(s3), Some(Duration::ZERO));
            until("all are deleted", || bed.log().len() == names.len()).await;
            for name in &names {
                for file in ["events.log", "manifest.json"] {
                    assert!(same(&server.session(name), &copy.join(name), file), "{name}/{file}");
                }
            }
        }
    });
}

fn refused() {
    run(async {
        let mut bed = Bed::new();
        let server = Server::start(&bed.dir.path().join("s3"));
        let names: Vec<String> = (1..20).map(|number| bed.session(number, 100)).collect();
        let s3 = destination(&server.endpoint(), &credentials(&bed, "wrong"));
        bed.ship(DestinationKind::S3(s3), Some(Duration::ZERO));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(names.iter().all(|name| bed.spool().join(name).exists() && !server.session(name).exists()));
        assert_eq!((bed.confirmed(), bed.aside(), bed.log().len()), (0, 0, 0));
        credentials(&bed, "secret");
        until("all got through", || bed.log().len() == names.len()).await;
        assert!(names.iter().all(|name| server.session(name).join("manifest.json").exists()));
    });
}

fn interrupted() {
    run(async {
        let mut bed = Bed::new();
        let mut server = Server::start(&bed.dir.path().join("s3"));
        let names: Vec<String> = (1..200).map(|number| bed.session(number, 10_000)).collect();
        let s3 = destination(&server.endpoint(), &credentials(&bed, "secret"));
        bed.ship(DestinationKind::S3(s3), None);
        until("some are there", || bed.confirmed() > 10).await;
        server.stop();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let confirmed = bed.confirmed();
        assert!(confirmed < names.len(), "it went away too late");
        server.restart();
        until("all are there", || bed.confirmed() == names.len()).await;
        for name in &names {
            assert!(same(&server.session(name), &bed.spool().join(name), "events.log"), "{name}");
        }
        assert_eq!(bed.aside(), 0);
    });
}

fn killed() {
    run(async {
        let bed = Bed::new();
        let server = Server::start(&bed.dir.path().join("s3"));
        let names: Vec<String> = (1..=1000).map(|number| bed.session(number, 5_000)).collect();
        let copy = bed.dir.path().join("copy");
        assert!(Command::new("cp").arg("-a").arg(bed.spool()).arg(&copy).status().unwrap().success());
        let credentials = credentials(&bed, "secret");
        let mut interrupted = 0;
        for kill in 0..20 {
            let mut child = process::start(&bed.spool(), &server.endpoint(), &credentials);
            tokio::time::sleep(Duration::from_millis(150 + kill * 37)).await;
            child.kill().unwrap();
            child.wait().unwrap();
            interrupted += usize::from(bed.log().len() < names.len());
            for name in names.iter().filter(|name| !bed.spool().join(name).join("manifest.json").exists()) {
                assert!(
                    same(&server.session(name), &copy.join(name), "events.log"),
                    "{name} was deleted too early"
                );
            }
        }
        assert!(interrupted > 10, "it was done before it was killed");
        let mut child = process::start(&bed.spool(), &server.endpoint(), &credentials);
        until("all are deleted", || names.iter().all(|name| !bed.spool().join(name).exists())).await;
        child.kill().unwrap();
        child.wait().unwrap();
        for name in &names {
            for file in ["events.log", "manifest.json"] {
                assert!(same(&server.session(name), &copy.join(name), file), "{name}/{file}");
            }
        }
        let told: std::collections::BTreeSet<String> =
            bed.log().into_iter().map(|deletion| deletion.directory).collect();
        assert_eq!(told.len(), names.len(), "each is written down");
    });
}

fn running() {
    run(async {
        let mut bed = Bed::new();
        let server = Server::start(&bed.dir.path().join("s3"));
        let credentials = credentials(&bed, "secret");
        let (name, part, finished) = bed.running(5, 9_000_000);
        let there = server.session(&name);
        let copy = bed.dir.path().join("copy");
        let all = |there: &Path| finished.iter().all(|file| same(there, &copy, file));
        assert!(Command::new("cp").arg("-a").arg(&part).arg(&copy).status().unwrap().success());
        for kill in 0..10 {
            let mut child = process::start(&bed.spool(), &server.endpoint(), &credentials);
            tokio::time::sleep(Duration::from_millis(100 + kill * 41)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        }
        bed.ship(DestinationKind::S3(destination(&server.endpoint(), &credentials)), Some(Duration::ZERO));
        until("the finished ones are there", || all(&there) && bed.confirmed() == finished.len()).await;
        for open in ["events.log", "manifest.json"] {
            assert!(!there.join(open).exists(), "{open}");
        }
        let written = |file: &String| fs::metadata(there.join(file)).unwrap().modified().unwrap();
        let before: Vec<_> = finished.iter().map(written).collect();
        // It ends, and its last file is larger than it was.
        bed.end(&part);
        until("it is deleted", || bed.log().len() == 1).await;
        assert!(all(&there) && there.join("manifest.json").exists());
        assert!(fs::read(there.join("events.log")).unwrap().ends_with(b"the end"));
        assert_eq!(finished.iter().map(written).collect::<Vec<_>>(), before, "some are sent again");
        assert_eq!(bed.aside(), 0);
    });
}
