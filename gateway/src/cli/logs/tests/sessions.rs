//! The verbs over many sessions, which the recorder has written.

use std::time::{Duration, UNIX_EPOCH};

use asciicast_rs::{Asciicast, V2, V3, common, v2, v3};
use portreeve_core::command::{InputRules, UnechoedInput};
use portreeve_core::id::SessionId;
use portreeve_core::infrastructure::TransferRights;
use portreeve_core::record::{
    ChannelKind, ChannelNumber, Confidence, Exit, PromptKind, Pty, RecordEvent, Source,
};
use serde_json::Value;

use super::*;
use crate::recording::Recorder;
use crate::recording::recipient::Recipients;
use crate::recording::spool::Spool;

const CHANNEL: ChannelNumber = ChannelNumber(0);

/// 2023-11-14 22:13:20.
const STARTED: u64 = 1_700_000_000;

/// A spool with sessions of alice and bob, a day apart, and the key that opens it.
pub(super) struct Sessions {
    scratch: tempfile::TempDir,
}

impl Sessions {
    pub(super) fn new() -> Self {
        let sessions = Self { scratch: tempfile::tempdir().unwrap() };
        fs::write(sessions.key(), &*private_key().to_base64()).unwrap();
        fs::set_permissions(sessions.key(), fs::Permissions::from_mode(0o600)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            sessions.record(1, "alice", "db-1", "systemctl restart postgres").await;
            sessions.record(2, "bob", "web-1", "echo \u{9b}31m\x07").await;
        });
        sessions
    }

    pub(super) fn key(&self) -> String {
        self.scratch.path().join("key").to_str().unwrap().to_owned()
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.scratch.path().join("spool")
    }

    /// The directory of the session that was recorded with this number.
    pub(super) fn directory(&self, number: u8) -> String {
        let entries = fs::read_dir(self.spool()).unwrap().map(|entry| entry.unwrap().path());
        let id = SessionId::from_random_bytes([number; 16]).to_string();
        let found = entries.into_iter().find(|path| path.to_str().unwrap().contains(&id));
        found.unwrap().to_str().unwrap().to_owned()
    }

    /// A terminal in which a command is typed, with output of many kinds.
    async fn record(&self, number: u8, user: &str, host: &str, command: &str) {
        let rules = InputRules { unechoed: UnechoedInput::Keep, ..InputRules::default() };
        let spool = Spool::open(&self.spool()).unwrap().keeping(rules);
        let id = SessionId::from_random_bytes([number; 16]);
        let started = UNIX_EPOCH + Duration::from_secs(STARTED + u64::from(number - 1) * 86_400);
        let public = self.scratch.path().join("key.pub");
        fs::write(&public, private_key().recipient_key().to_string()).unwrap();
        let recipients = Recipients::load(&[public]).unwrap();
        let reserved = Recorder::reserve(&spool, recipients.into(), id, started).await.unwrap();
        let first = RecordEvent::SessionStarted {
            session: id.to_string(),
            email: format!("{user}@example.com"),
            login: "root".into(),
            client: "192.0.2.1:40000".into(),
            target: "198.51.100.7:22".into(),
            hostname: host.into(),
            granted_by: vec!["databases/admins".into()],
            outer: None,
        };
        let recorder = reserved.begin(first, true, TransferRights::ALL).await.unwrap();
        let pty = Pty { term: "xterm-256color".into(), width: 80, height: 24, modes: Vec::new() };
        let open =
            RecordEvent::ChannelOpen { channel: CHANNEL, source: Source::Client, kind: ChannelKind::Session };
        for event in
            [open, RecordEvent::Pty { channel: CHANNEL, pty }, RecordEvent::Shell { channel: CHANNEL }]
        {
            recorder.event(&event).await.unwrap();
        }
        recorder.data(CHANNEL, Source::Target, 0, b"\x1b[1m# \x1b[0m").await.unwrap();
        recorder.data(CHANNEL, Source::Client, 0, b"typed\r").await.unwrap();
        recorder.data(CHANNEL, Source::Target, 0, format!("{command}\r\n").as_bytes()).await.unwrap();
        let typed = RecordEvent::Command {
            channel: CHANNEL,
            command: command.into(),
            directory: Some("/root".into()),
            confidence: Confidence::High,
            prompt: PromptKind::Shell,
        };
        recorder.event(&typed).await.unwrap();
        recorder
            .event(&RecordEvent::WindowChange { channel: CHANNEL, width: 100, height: 30 })
            .await
            .unwrap();
        let output = format!("\x1b[31mPermission denied\x1b[0m for {user}: gr\u{fc}n\r\n");
        // A character that is cut in two.
        let (one, two) = output.as_bytes().split_at(output.find('\u{fc}').unwrap() + 1);
        recorder.data(CHANNEL, Source::Target, 0, one).await.unwrap();
        recorder.data(CHANNEL, Source::Target, 0, two).await.unwrap();
        recorder.event(&RecordEvent::Exit { channel: CHANNEL, exit: Exit::Status(3) }).await.unwrap();
        let closed = RecordEvent::ChannelClosed { channel: CHANNEL, client_bytes: 6, target_bytes: 90 };
        recorder.event(&closed).await.unwrap();
        recorder.finish(RecordEvent::SessionEnded { reason: "closed: by the user".into() }).await.unwrap();
    }
}

fn private_key() -> RecipientPrivateKey {
    RecipientPrivateKey::from_bytes([7; 32])
}

/// The lines of JSON that a verb prints about the spool.
fn json(sessions: &Sessions, args: &[&str]) -> Vec<Value> {
    let (spool, key) = (sessions.spool(), sessions.key());
    let ran =
        run_in(&[&[args[0], "--key", &key], &args[1..], &[spool.to_str().unwrap()]].concat(), true, false);
    assert!(ran.success, "{}", ran.err);
    ran.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn ls_tells_what_may_be_known_without_the_key_and_all_with_it() {
    let sessions = Sessions::new();
    let (spool, key) = (sessions.spool(), sessions.key());
    let spool = spool.to_str().unwrap();
    let ran = run(&["ls", spool]);
    assert!(ran.success, "{}", ran.err);
    assert!(ran.out().contains("2023-11-14 22:13:20") && !ran.out().contains("alice"), "{}", ran.out());
    let refused = run(&["ls", "--user", "alice", spool]);
    assert!(!refused.success && refused.err.contains("--key is needed"), "{}", refused.err);

    let listed = json(&sessions, &["ls"]);
    assert_eq!(
        listed.iter().map(|row| &row["user"]).collect::<Vec<_>>(),
        ["alice@example.com", "bob@example.com"]
    );
    let alice = &listed[0];
    for (field, value) in [
        ("login", "root".into()),
        ("hostname", "db-1".into()),
        ("started", "2023-11-14T22:13:20.000000Z".into()),
        ("commands", 1.into()),
        ("channels", 1.into()),
        ("target_bytes", 90.into()),
        ("ended", "closed: by the user".into()),
        ("unfinished", false.into()),
    ] {
        let value: Value = value;
        assert_eq!(alice[field], value, "{field}");
    }
    for (filter, users) in [
        (&["--user", "ALICE"][..], 1),
        (&["--target", "web"], 1),
        (&["--login", "roo"], 0),
        (&["--since", "2023-11-15"], 1),
        (&["--until", "2023-11-14T22:13:21"], 1),
        (&["--since", "1h"], 0),
    ] {
        assert_eq!(json(&sessions, &[&["ls"], filter].concat()).len(), users, "{filter:?}");
    }
    let table = run(&["ls", "--key", &key, spool]);
    assert!(table.out().contains("db-1") && table.out().contains("closed: by the user"), "{}", table.out());
}

#[test]
fn search_finds_commands_users_and_output() {
    let sessions = Sessions::new();
    for (args, found) in [
        (&["postgres"][..], &["systemctl restart postgres"][..]),
        (&["POSTGRES"], &[]),
        (&["-i", "POSTGRES"], &["systemctl restart postgres"]),
        (&["re.*art"], &[]),
        (&["--regex", "re.*art|^echo"], &["systemctl restart postgres", "echo \u{9b}31m\x07"]),
        (&["--user", "bob", "--regex", "re.*art|^echo"], &["echo \u{9b}31m\x07"]),
        (&["web-1"], &["web-1"]),
        (&["--in", "commands", "web-1"], &[]),
        (&["denied"], &[]),
        (
            &["--in", "output", "gr\u{fc}n"],
            &["Permission denied for alice: gr\u{fc}n", "Permission denied for bob: gr\u{fc}n"],
        ),
        (
            &["--in", "all", "--until", "2023-11-15", "alice"],
            &["alice@example.com", "Permission denied for alice: gr\u{fc}n"],
        ),
    ] {
        let matches = json(&sessions, &[&["search"], args].concat());
        assert_eq!(
            matches.iter().map(|row| row["text"].as_str().unwrap()).collect::<Vec<_>>(),
            found,
            "{args:?}"
        );
    }
    let found = &json(&sessions, &["search", "postgres"])[0];
    for (field, value) in [("in", "commands"), ("user", "alice@example.com"), ("hostname", "db-1")] {
        assert_eq!(found[field], value);
    }
    assert_eq!(
        (&found["channel"], found["directory"].as_str().unwrap()),
        (&0.into(), &*sessions.directory(1))
    );
}

#[test]
fn what_search_and_ls_show_cannot_steer_a_terminal() {
    let sessions = Sessions::new();
    let (spool, key) = (sessions.spool(), sessions.key());
    for verb in [&["search", "--in", "all", "--key", &key, "e"][..], &["ls", "--key", &key]] {
        let ran = run_in(&[verb, &[spool.to_str().unwrap()]].concat(), false, true);
        assert!(ran.success, "{}", ran.err);
        assert!(
            ran.out().chars().all(|character| character == '\n' || !character.is_control()),
            "{:?}",
            ran.out()
        );
    }
}

#[test]
fn a_bad_file_is_told_and_does_not_hide_the_others() {
    let sessions = Sessions::new();
    let (spool, key) = (sessions.spool(), sessions.key());
    let bad = PathBuf::from(sessions.directory(1)).join("events.log");
    let mut bytes = fs::read(&bad).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&bad, bytes).unwrap();
    for verb in [&["search", "--key", &key, "echo"][..], &["ls", "--key", &key]] {
        let ran = run(&[verb, &[spool.to_str().unwrap()]].concat());
        assert!(!ran.success);
        assert!(ran.out().contains("bob@example.com"), "{}", ran.out());
        assert!(ran.err.contains(bad.to_str().unwrap()) && ran.err.contains("altered"), "{}", ran.err);
    }
    let empty = tempfile::tempdir().unwrap();
    let none = run(&["ls", empty.path().to_str().unwrap()]);
    assert!(!none.success && none.err.contains("no session is below"), "{}", none.err);
}

/// What an exported recording holds, by a reader that is not ours.
#[derive(Debug, PartialEq)]
enum Played {
    Output,
    Input(String),
    Marker(String),
    Resize(u16, u16),
    Exit(i32),
}

const GREETING: &str = "Permission denied\u{1b}[0m for alice: gr\u{fc}n\r\n";

#[test]
fn asciicast_is_what_another_reader_takes_it_for() {
    let sessions = Sessions::new();
    let (key, directory) = (sessions.key(), sessions.directory(1));
    let ran = run(&["export", "--key", &key, "--input", &directory]);
    assert!(ran.success, "{}", ran.err);
    let cast = Asciicast::<V3>::from_slice(&ran.out).unwrap();
    assert_eq!((cast.header.term.cols, cast.header.term.rows), (80, 24));
    assert_eq!(cast.header.term.r#type.as_deref(), Some("xterm-256color"));
    assert_eq!(cast.header.timestamp, i64::try_from(STARTED).ok());
    assert_eq!(cast.header.title.as_deref(), Some("alice@example.com: root@db-1"));
    let mut output = String::new();
    let mut played: Vec<Played> = cast
        .events
        .into_iter()
        .map(|event| match event.payload {
            v3::EventPayload::Output(text) => {
                output.push_str(&text);
                Played::Output
            }
            v3::EventPayload::Input(text) => Played::Input(text),
            v3::EventPayload::Marker(text) => Played::Marker(text),
            v3::EventPayload::Resize(common::Resize { cols, rows, .. }) => Played::Resize(cols, rows),
            v3::EventPayload::Exit(status) => Played::Exit(status.code()),
            other @ (v3::EventPayload::Unknown { .. } | _) => panic!("{other:?}"),
        })
        .collect();
    played.dedup();
    assert!(output.ends_with(GREETING) && output.starts_with("\u{1b}[1m# "), "{output:?}");
    let expected = [
        Played::Output,
        Played::Input("typed\r".into()),
        Played::Output,
        Played::Marker("systemctl restart postgres".into()),
        Played::Resize(100, 30),
        Played::Output,
        Played::Exit(3),
    ];
    assert_eq!(played, expected);

    let file = sessions.scratch.path().join("old.cast");
    let to_file =
        ["export", "--key", &key, "--format", "asciicast-v2", "--output", file.to_str().unwrap(), &directory];
    let ran = run(&to_file);
    assert!(ran.success && ran.out.is_empty(), "{}", ran.err);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let cast = Asciicast::<V2>::from_path(&file).unwrap();
    assert!(cast.events.is_sorted_by(|a, b| a.time <= b.time));
    assert!(
        !cast.events.iter().any(|event| matches!(event.payload, v2::EventPayload::Input(_))),
        "not asked for"
    );
    assert!(cast.events.iter().any(|event| matches!(event.payload, v2::EventPayload::Marker(_))));
    let again = run(&to_file);
    assert!(!again.success && again.err.contains("is not overwritten"), "{}", again.err);
}

#[test]
fn an_export_that_is_no_asciicast_is_the_zip_of_ssh_log_cli() {
    let sessions = Sessions::new();
    let (key, directory) = (sessions.key(), sessions.directory(1));
    let file = sessions.scratch.path().join("export.zip");
    let ran =
        run(&["export", "--key", &key, "--format", "zip", "--output", file.to_str().unwrap(), &directory]);
    assert!(ran.success, "{}", ran.err);
    let decrypted = sessions.scratch.path().join("decrypt.zip");
    let channel = format!("{directory}/channel-0.log");
    assert!(run(&["decrypt", "--key", &key, "--output", decrypted.to_str().unwrap(), &channel]).success);
    assert_eq!(unzip(&file), unzip(&decrypted));
    let to_terminal = run_in(&["export", "--key", &key, "--format", "zip", &directory], false, true);
    assert!(!to_terminal.success && to_terminal.out.is_empty());
}

#[test]
fn the_channel_that_is_meant_is_found_or_asked_for() {
    let sessions = Sessions::new();
    let (key, directory) = (sessions.key(), sessions.directory(1));
    let missing = run(&["export", "--key", &key, "--channel", "7", &directory]);
    assert!(!missing.success && missing.err.contains("no channel 7; it has channels 0"), "{}", missing.err);
    fs::copy(format!("{directory}/channel-0.log"), format!("{directory}/channel-4.log")).unwrap();
    let several = run(&["export", "--key", &key, &directory]);
    assert!(!several.success && several.err.contains("choose --channel of channels 0, 4"), "{}", several.err);
    assert!(run(&["export", "--key", &key, "--channel", "4", &directory]).success);
    let file = run(&["export", "--key", &key, &format!("{directory}/channel-0.log")]);
    assert!(file.out().contains("\"m\", \"systemctl restart postgres\""), "{}", file.out());
    let scratch = Scratch::new();
    let streams = run(&["export", "--key", &scratch.key(), &scratch.path("streams.log")]);
    assert!(!streams.success && streams.err.contains("--format zip"), "{}", streams.err);
}
