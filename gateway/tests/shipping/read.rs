//! Recordings that were shipped to a bucket, read from there by `portreeve logs`.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use portreeve::recording::Recorder;
use portreeve::recording::recipient::Recipients;
use portreeve::recording::spool::Spool;
use portreeve_core::config::shipping::DestinationKind;
use portreeve_core::envelope::RecipientPrivateKey;
use portreeve_core::id::SessionId;
use portreeve_core::infrastructure::TransferRights;
use portreeve_core::record::{ChannelKind, ChannelNumber, Exit, Pty, RecordEvent, Source};

use crate::Test;
use crate::bed::{Bed, chain, run, until};
use crate::s3::{Server, credentials, destination};

/// Tests that read from an S3 server.
pub(crate) const TESTS: &[Test] = &[
    ("what_logs_says_of_a_bucket_is_what_it_says_of_the_spool_and_nothing_is_written", reads),
    ("a_bad_object_is_told_and_stops_no_other", bad_objects),
    ("a_bucket_that_cannot_be_read_is_told_in_one_line", refused),
];

const ADDRESS: &str = "s3://recordings/gateway-1";
const CHANNEL: ChannelNumber = ChannelNumber(0);

/// A session at a terminal with some megabytes of output.
async fn record(spool: &Spool, number: u8) {
    let key = RecipientPrivateKey::from_bytes([7; 32]).recipient_key();
    let id = SessionId::from_random_bytes([number; 16]);
    let recipients: Recipients = key.into();
    let reserved = Recorder::reserve(spool, recipients.into(), id, SystemTime::now()).await.unwrap();
    let first = RecordEvent::SessionStarted {
        session: id.to_string(),
        email: "alice@example.com".into(),
        login: "root".into(),
        client: "192.0.2.1:40000".into(),
        target: "198.51.100.7:22".into(),
        hostname: format!("db-{number}"),
        granted_by: vec!["databases/admins".into()],
        outer: None,
    };
    let recorder = reserved.begin(first, true, TransferRights::ALL).await.unwrap();
    let kind = ChannelKind::Session;
    recorder
        .event(&RecordEvent::ChannelOpen { channel: CHANNEL, source: Source::Client, kind })
        .await
        .unwrap();
    let pty = Pty { term: "xterm".into(), width: 80, height: 24, modes: Vec::new() };
    recorder.event(&RecordEvent::Pty { channel: CHANNEL, pty }).await.unwrap();
    for line in 0..200_u32 {
        let output = format!("line {line} {}\r\n", "x".repeat(30_000));
        recorder.data(CHANNEL, Source::Target, 0, output.as_bytes()).await.unwrap();
    }
    recorder.event(&RecordEvent::Exit { channel: CHANNEL, exit: Exit::Status(0) }).await.unwrap();
    let closed = RecordEvent::ChannelClosed { channel: CHANNEL, client_bytes: 0, target_bytes: 6_000_000 };
    recorder.event(&closed).await.unwrap();
    recorder.finish(RecordEvent::SessionEnded { reason: "closed: by the user".into() }).await.unwrap();
}

/// A bed whose spool is in the bucket.
struct Shipped {
    bed: Bed,
    server: Server,
    credentials: PathBuf,
}

impl Shipped {
    async fn new() -> Self {
        let mut bed = Bed::new();
        let server = Server::start(&bed.dir.path().join("s3"));
        let credentials = credentials(&bed, "secret");
        let key = bed.dir.path().join("key");
        fs::write(&key, &*RecipientPrivateKey::from_bytes([7; 32]).to_base64()).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let audit = chain(&bed.spool());
        let spool = Spool::open_signed(&bed.spool(), audit.clone()).unwrap();
        for number in [1, 2] {
            record(&spool, number).await;
        }
        audit.write_head(&bed.spool()).unwrap();
        bed.ship(DestinationKind::S3(destination(&server.endpoint(), &credentials)), None);
        until("all is there", || bed.confirmed() == 3).await;
        Self { bed, server, credentials }
    }

    /// Runs a verb on the spool.
    fn here(&self, verb: &str, words: &[&str], below: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portreeve"));
        command.args(["logs", verb]).args(words).arg(self.bed.spool().join(below));
        command.current_dir(self.bed.dir.path()).output().unwrap()
    }

    /// Runs a verb on the bucket.
    fn there(&self, verb: &str, words: &[&str], below: &str) -> Output {
        self.at(verb, words, &format!("{ADDRESS}/{below}"))
    }

    fn at(&self, verb: &str, words: &[&str], address: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portreeve"));
        command.args(["logs", verb]).args(words).arg("--s3-credentials").arg(&self.credentials);
        command.args(["--s3-allow-http", "--s3-endpoint"]).arg(self.server.endpoint());
        command.arg(address).current_dir(self.bed.dir.path()).output().unwrap()
    }

    /// What both say, which is the same but for where it is.
    fn both(&self, verb: &str, words: &[&str], below: &str) -> String {
        let ran = [self.here(verb, words, below), self.there(verb, words, below)];
        let [here, there] = ran.map(|ran| {
            assert!(ran.status.success(), "{verb} {words:?}: {}", String::from_utf8_lossy(&ran.stderr));
            ran.stdout
        });
        let text = |bytes: &[u8], root: &str| String::from_utf8_lossy(bytes).replace(root, "ROOT");
        let spool = self.bed.spool().display().to_string();
        let (here, there) = (text(&here, &spool), text(&there, ADDRESS));
        assert!(here == there && !here.is_empty(), "{verb} {words:?}");
        here
    }
}

/// Every file below a directory, and how large it is.
fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        // What ships writes down how that stands, whenever it likes.
        if entry.file_name() == ".shipping" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), entry.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

/// Standard output and standard error of what must have failed.
fn failed(ran: Output) -> (String, String) {
    let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert_eq!(ran.status.code(), Some(1), "{out}{err}");
    (out, err)
}

const KEY: [&str; 2] = ["--key", "key"];
const STATE: [&str; 2] = ["--state-dir", "state"];

fn reads() {
    run(async {
        let shipped = Shipped::new().await;
        let before = files(shipped.bed.dir.path());
        let rows = shipped.both("ls", &["--key", "key", "--json"], "");
        assert_eq!((rows.lines().count(), rows.contains("alice@example.com")), (2, true));
        let all = shipped.at("ls", &KEY, "s3://recordings");
        assert!(
            all.status.success() && all.stdout == shipped.there("ls", &KEY, "").stdout,
            "the whole bucket"
        );
        let row: serde_json::Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
        let session = row["directory"].as_str().unwrap().strip_prefix("ROOT/").unwrap();
        let found = shipped.both("search", &["--key", "key", "--in", "output", "line 199 "], "");
        assert_eq!(found.lines().count(), 2, "{}", &found[..found.len().min(500)]);
        let intact = shipped.both("verify", &[KEY, STATE].concat(), "");
        assert_eq!(intact.matches("intact").count(), 2, "{intact}");
        let intact = shipped.both("verify", &STATE, session);
        assert_eq!(intact.matches("intact").count(), 1, "{intact}");
        let events = format!("{session}/events.log");
        assert!(shipped.both("decrypt", &KEY, &events).contains("session-ended"));
        for verb in ["export", "replay"] {
            let played = shipped.both(verb, &KEY, session);
            assert!(played.contains("line 199 ") && played.len() > 6_000_000, "{verb}");
        }
        let (_, said) = failed(shipped.there("decrypt", &KEY, session));
        assert!(said.contains("give --output") && said.lines().count() == 1, "{said}");
        assert_eq!(files(shipped.bed.dir.path()), before, "something is written");

        let written = shipped.there("decrypt", &[&KEY[..], &["--output", "out"]].concat(), session);
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
        let out = shipped.bed.dir.path().join("out").join(session);
        assert!(out.join("events.jsonl").exists() && out.join("channel-0.zip").exists());
    });
}

fn bad_objects() {
    run(async {
        let shipped = Shipped::new().await;
        let rows = shipped.there("ls", &["--json"], "").stdout;
        let row = rows.split(|byte| *byte == b'\n').next().unwrap();
        let row: serde_json::Value = serde_json::from_slice(row).unwrap();
        let session = row["directory"].as_str().unwrap().strip_prefix(&format!("{ADDRESS}/")).unwrap();
        let there = shipped.server.session(session);
        // What is cut in the bucket shows there.
        let output = there.join("channel-0.log");
        File::options().write(true).open(output).unwrap().set_len(1_000_000).unwrap();
        let (said, _) = failed(shipped.there("verify", &STATE, ""));
        let word = |word: &str| said.lines().filter(|line| line.starts_with(word)).count();
        assert_eq!((word("cut"), word("intact")), (1, 1), "{said}");
        let words = ["--key", "key", "--in", "output", "line 199 "];
        let (found, said) = failed(shipped.there("search", &words, ""));
        assert_eq!((found.lines().count(), said.lines().count()), (1, 1), "{said}");
        assert!(said.contains(&format!("{ADDRESS}/{session}/channel-0.log")), "{said}");
        // What is none of the gateway's is told, too.
        fs::write(there.join("events.log"), [7; 5000]).unwrap();
        let (rows, said) = failed(shipped.there("ls", &["--key", "key", "--json"], ""));
        assert_eq!((rows.lines().count(), said.lines().count()), (2, 1), "{said}");
        fs::remove_file(there.join("manifest.json")).unwrap();
        let (said, _) = failed(shipped.there("verify", &STATE, ""));
        assert!(said.contains("the session may still go on where this is a copy"), "{said}");
    });
}

fn refused() {
    run(async {
        let bed = Bed::new();
        let server = Server::start(&bed.dir.path().join("s3"));
        let (right, endpoint) = (credentials(&bed, "secret"), server.endpoint());
        let wrong = bed.dir.path().join("wrong");
        let text = fs::read_to_string(&right).unwrap().replace("= secret", "= other");
        fs::write(&wrong, text).unwrap();
        fs::set_permissions(&wrong, Permissions::from_mode(0o600)).unwrap();
        let open = bed.dir.path().join("open");
        fs::copy(&right, &open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
        let (right, wrong, open) = (right.to_str().unwrap(), wrong.to_str().unwrap(), open.to_str().unwrap());
        let nobody = format!(
            "http://127.0.0.1:{}",
            TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
        );
        let http = "--s3-allow-http";
        let cases: [(&str, &[&str], &str, &str); 8] = [
            ("s3://recordings/none", &[right, http], &endpoint, "no session is below s3://recordings/none"),
            ("s3://nowhere/x", &[right, http], &endpoint, "cannot read s3://nowhere/x: it is not there"),
            ("s3:///x", &[right, http], &endpoint, "names no bucket"),
            ("s3://recordings", &[wrong, http], &endpoint, "check the credentials"),
            ("s3://recordings", &[open, http], &endpoint, "chmod 600"),
            ("s3://recordings", &[right], &endpoint, "give --s3-allow-http"),
            ("s3://recordings", &[right], "127.0.0.1", "begin it with https://"),
            ("s3://recordings", &[right, http], &nobody, "cannot read s3://recordings"),
        ];
        let ls = |words: &[&str]| {
            let command = env!("CARGO_BIN_EXE_portreeve");
            failed(Command::new(command).args(["logs", "ls"]).args(words).output().unwrap()).1
        };
        for (address, credentials, endpoint, expected) in cases {
            let words =
                [&["--s3-endpoint", endpoint, "--s3-credentials"][..], credentials, &[address]].concat();
            let said = ls(&words);
            assert!(said.contains(expected) && said.lines().count() == 1, "{expected:?}: {said}");
        }
        let said = ls(&["s3://recordings"]);
        assert!(said.contains("--s3-credentials is needed") && said.lines().count() == 1, "{said}");
    });
}
