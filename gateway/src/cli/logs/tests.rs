//! The verbs on files, as a caller of the command would see them.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use portreeve_core::envelope::{Header, LogKind, Packer, Packet, PtyHeader, RecipientPrivateKey, Sealer};
use portreeve_core::record::Source;

use super::*;

mod sessions;
mod shipping;
mod verify;
mod watch;

#[derive(Parser)]
struct TestCli {
    #[command(subcommand)]
    logs: LogsCommand,
}

/// Exit status, standard output, standard error; an error of the verb is the last line of the latter.
struct Ran {
    success: bool,
    out: Vec<u8>,
    err: String,
}

impl Ran {
    fn out(&self) -> &str {
        str::from_utf8(&self.out).unwrap()
    }
}

fn run_in(args: &[&str], json: bool, out_is_terminal: bool) -> Ran {
    let cli = TestCli::try_parse_from([&["logs"], args].concat()).unwrap_or_else(|e| panic!("{e}"));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console { out: &mut out, err: &mut err, out_is_terminal, err_is_terminal: false, json };
    let result = cli.logs.run_on(&mut console);
    let mut err = String::from_utf8(err).unwrap();
    let success = match result {
        Ok(code) => code == ExitCode::SUCCESS,
        Err(error) => {
            err.push_str(&format!("{error:#}"));
            false
        }
    };
    Ran { success, out, err }
}

fn run(args: &[&str]) -> Ran {
    run_in(args, false, false)
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    /// A directory with the vectors and their private key, which is private here.
    fn new() -> Self {
        let scratch = Self(tempfile::tempdir().unwrap());
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("core/testdata/envelope");
        for entry in fs::read_dir(vectors).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, scratch.0.path().join(path.file_name().unwrap())).unwrap();
        }
        fs::set_permissions(scratch.0.path().join("recipient.key"), fs::Permissions::from_mode(0o600))
            .unwrap();
        scratch
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).into_os_string().into_string().unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn key(&self) -> String {
        self.path("recipient.key")
    }
}

fn sealed(kind: LogKind, pty: Option<PtyHeader>, packets: &[(Source, u64, &[u8])]) -> Vec<u8> {
    let recipient = RecipientPrivateKey::from_bytes([7; 32]).recipient_key();
    let mut sealer = Sealer::new(&recipient, &mut rand::rng()).unwrap();
    let mut packer = Packer::default();
    for (source, elapsed, data) in packets {
        packer.push(Packet { source: *source, code: 0, elapsed: *elapsed, data });
    }
    let batch = packer.take(Vec::new());
    let data_size = batch.data_bytes();
    let body = sealer.seal(batch).unwrap();
    let header = Header {
        started_at: 1_700_000_000,
        data_size,
        encapsulated_key: sealer.encapsulated_key(),
        pty,
        kind: Some(kind),
        recipient: Some(recipient.id()),
        blocks: Some(sealer.blocks()),
        ..Header::default()
    };
    [header.encode(900).unwrap(), body].concat()
}

fn unzip(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut zip = zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
    (0..zip.len())
        .map(|index| {
            let mut file = zip.by_index(index).unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            (file.name().unwrap().into_owned(), bytes)
        })
        .collect()
}

#[test]
fn key_pair_is_private_and_never_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    let name = scratch.path().join("recipient").into_os_string().into_string().unwrap();
    let ran = run_in(&["generate-key-pair", &name], true, false);
    assert!(ran.success, "{}", ran.err);
    let private = fs::read_to_string(&name).unwrap();
    let public = fs::read_to_string(format!("{name}.pub")).unwrap();
    assert_eq!((private.len(), public.len()), (44, 44));
    assert_eq!(fs::metadata(&name).unwrap().permissions().mode() & 0o777, 0o600);
    let key: RecipientPrivateKey = private.parse().unwrap();
    assert_eq!(key.recipient_key().to_string(), public);
    let made: serde_json::Value = serde_json::from_str(ran.out()).unwrap();
    assert_eq!(made["recipient_key"], public);

    let again = run(&["generate-key-pair", &name]);
    assert!(!again.success && again.err.contains("is not overwritten"), "{}", again.err);
    fs::remove_file(&name).unwrap();
    let half = run(&["generate-key-pair", &name]);
    assert!(!half.success && half.err.contains(".pub exists"), "{}", half.err);
    assert!(!Path::new(&name).exists());
    assert_eq!(fs::read_to_string(format!("{name}.pub")).unwrap(), public);
}

#[test]
fn streams_become_the_zip_of_ssh_log_cli() {
    let scratch = Scratch::new();
    let ran = run(&["decrypt", "--key", &scratch.key(), &scratch.path("streams.log")]);
    assert!(ran.success, "{}", ran.err);
    let files = unzip(Path::new(&scratch.path("streams.log-decrypted.zip")));
    assert_eq!(
        files,
        [
            ("data_from_client.txt".to_owned(), b"hello\n".to_vec()),
            ("data_from_server.txt".to_owned(), b"hello\r\nno such file\n".to_vec()),
        ]
    );
    let again = run(&["decrypt", "--key", &scratch.key(), &scratch.path("streams.log")]);
    assert!(!again.success && again.err.contains("is not overwritten"), "{}", again.err);
}

#[test]
fn a_terminal_becomes_what_scriptreplay_plays() {
    let scratch = Scratch::new();
    let pty = PtyHeader { term: Some("xterm\n\x1b[31m".into()), width: 80, height: 24, modes: Vec::new() };
    let packets: [(Source, u64, &[u8]); 4] = [
        (Source::Target, 20_000, b"\x1b[1mone\x1b[0m\r\n"),
        (Source::Client, 21_000, b"typed"),
        (Source::Target, 30_000, b"two\r\n"),
        (Source::Target, 30_000, &[b'x'; 200]),
    ];
    let path = scratch.write("terminal.log", &sealed(LogKind::Channel, Some(pty), &packets));
    let zip = scratch.path("terminal.zip");
    let ran = run(&["decrypt", "--key", &scratch.key(), "--output", &zip, &path]);
    assert!(ran.success, "{}", ran.err);
    let files = unzip(Path::new(&zip));
    assert_eq!(files[1].1, b"0.020000 13\n0.010000 5\n0.000000 200\n");
    let first_line = files[0].1.split(|byte| *byte == b'\n').next().unwrap();
    assert_eq!(
        str::from_utf8(first_line).unwrap(),
        r#"Session started on 2023-11-14 22:13:20+00 [TERM="xterm\u000a\u001b[31m" COLUMNS="80" LINES="24"]"#
    );
    for (name, bytes) in &files {
        scratch.write(name, bytes);
    }
    let played = Command::new("scriptreplay")
        .args(["--timing", &scratch.path("term_times.txt"), &scratch.path("term_data.txt")])
        .output()
        .expect("scriptreplay (package bsdutils) is needed for this test");
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    let expected = [b"\x1b[1mone\x1b[0m\r\ntwo\r\n".as_slice(), &[b'x'; 200]].concat();
    assert_eq!(played.stdout.trim_ascii_end(), expected.trim_ascii_end());
}

#[test]
fn golden_terminal_ends_with_its_exit_code() {
    let scratch = Scratch::new();
    let ran = run(&["decrypt", "--key", &scratch.key(), "--output", "-", &scratch.path("pty.log")]);
    assert!(ran.success, "{}", ran.err);
    let zip = scratch.write("stdout.zip", &ran.out);
    let files = unzip(Path::new(&zip));
    assert_eq!(files[0].0, "term_data.txt");
    let text = String::from_utf8(files[0].1.clone()).unwrap();
    assert!(text.ends_with("\nScript done on 2023-11-14 22:13:22+00 [COMMAND_EXIT_CODE=\"3\"]\n"), "{text}");
    let to_terminal =
        run_in(&["decrypt", "--key", &scratch.key(), "--output", "-", &scratch.path("pty.log")], false, true);
    assert!(!to_terminal.success && to_terminal.out.is_empty());
}

#[test]
fn events_are_lines_of_json_that_cannot_steer_a_terminal() {
    let scratch = Scratch::new();
    let lines = "{\"event\":\"exec\",\"command\":\"\u{9b}31m\u{7f}\"}\n\x1b[2Jno json\n".as_bytes();
    let (first, second) = lines.split_at(29);
    let packets = [(Source::Client, 0, first), (Source::Client, 1, second)];
    let path = scratch.write("events.log", &sealed(LogKind::Events, None, &packets));
    let ran = run(&["decrypt", "--key", &scratch.key(), &path]);
    assert!(ran.success, "{}", ran.err);
    assert_eq!(
        ran.out(),
        concat!(
            r#"{"event":"exec","command":"\u009b31m\u007f"}"#,
            "\n",
            r#"{"malformed":"\u001b[2Jno json"}"#,
            "\n"
        )
    );
}

#[test]
fn a_session_directory_gives_all_its_files() {
    let scratch = Scratch::new();
    let session = PathBuf::from(scratch.path("1-session"));
    fs::create_dir(&session).unwrap();
    let line: &[u8] = b"{\"event\":\"shell\"}\n";
    fs::write(session.join("events.log"), sealed(LogKind::Events, None, &[(Source::Client, 0, line)]))
        .unwrap();
    for number in [10, 9] {
        fs::copy(scratch.path("streams.log"), session.join(format!("channel-{number}.log"))).unwrap();
    }
    let out = scratch.path("out");
    let dir = session.to_str().unwrap();
    let ran = run_in(&["decrypt", "--key", &scratch.key(), "--output", &out, dir], true, false);
    assert!(ran.success, "{}", ran.err);
    let files: Vec<String> = ran
        .out()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["decrypted"]["output"].as_str().unwrap().to_owned())
        .collect();
    let expected =
        ["events.jsonl", "channel-9.zip", "channel-10.zip"].map(|name| format!("{out}/1-session/{name}"));
    assert_eq!(files, expected);
    assert_eq!(fs::read(&files[0]).unwrap(), line);
    assert_eq!(unzip(Path::new(&files[1])).len(), 2);
    let mode = fs::metadata(&files[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let printed = run(&["decrypt", "--key", &scratch.key(), dir]);
    assert!(printed.success, "{}", printed.err);
    assert_eq!(printed.out, line);
    assert!(session.join("channel-9.log-decrypted.zip").exists());
    let one_zip = run(&["decrypt", "--key", &scratch.key(), "--output", "one.zip", dir]);
    assert!(!one_zip.success && one_zip.err.contains("give a directory"), "{}", one_zip.err);
}

#[test]
fn damaged_files_give_what_is_intact_and_say_so() {
    let scratch = Scratch::new();
    for (name, problem) in [
        ("broken-truncated-in-block.log", "the file is truncated: its last whole block ends at byte 583"),
        ("broken-flipped-in-last-tag.log", "the file was altered: the block at byte 583 does not open"),
        ("broken-missing-block.log", "the file is truncated: it was finished with 2 blocks and has 1"),
    ] {
        let path = scratch.path(name);
        let ran = run(&["decrypt", "--key", &scratch.key(), &path, &scratch.path("streams.log")]);
        assert!(!ran.success);
        let zip = format!("{path}-decrypted.zip");
        let expected = format!("portreeve: {path}: {problem}; what is intact was written to {zip}\n");
        assert!(ran.err.contains(&expected), "{}", ran.err);
        assert_eq!(unzip(Path::new(&zip))[1].1, b"hello\r\n");
        let other = scratch.path("streams.log-decrypted.zip");
        assert!(Path::new(&other).exists(), "the other file is decrypted all the same");
        fs::remove_file(other).unwrap();
    }
}

#[test]
fn files_of_which_nothing_opens_leave_no_output() {
    let scratch = Scratch::new();
    let other_key = scratch.path("other");
    assert!(run(&["generate-key-pair", &other_key]).success);
    for (key, name, problem) in [
        (&scratch.key(), "broken-truncated-in-header.log", "it ends inside its header"),
        (&scratch.key(), "broken-oversized-header.log", "not a log file"),
        (&scratch.key(), "broken-header-not-base64.log", "not a log file, or its header was altered"),
        (&scratch.key(), "broken-flipped-in-first-block.log", "the block at byte 516 does not open"),
        (&scratch.key(), "broken-malformed-packet.log", "does not hold whole packets"),
        (&scratch.key(), "missing.log", "No such file or directory"),
        (&other_key, "streams.log", "wrong private key: the file is sealed to recipient key"),
    ] {
        let path = scratch.path(name);
        let ran = run(&["decrypt", "--key", key, &path]);
        assert!(!ran.success);
        assert!(ran.err.contains(&path) && ran.err.contains(problem), "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        assert!(!Path::new(&format!("{path}-decrypted.zip")).exists());
    }
}

#[test]
fn private_keys_that_others_can_read_are_refused() {
    let scratch = Scratch::new();
    let key = scratch.key();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    for verb in ["decrypt", "replay"] {
        let ran = run(&[verb, "--key", &key, &scratch.path("pty.log")]);
        assert!(!ran.success && ran.err.ends_with(&format!("run: chmod 600 {key}")), "{}", ran.err);
    }
    let missing = run(&["replay", "--key", &scratch.path("none"), &scratch.path("pty.log")]);
    assert!(missing.err.contains("cannot read the private key"), "{}", missing.err);
    let no_key = scratch.write("empty", b"");
    fs::set_permissions(&no_key, fs::Permissions::from_mode(0o600)).unwrap();
    let ran = run(&["replay", "--key", &no_key, &scratch.path("pty.log")]);
    assert!(ran.err.contains("is not a private key"), "{}", ran.err);
}

/// What `replay` prints, and how long it waits before each piece.
fn replayed(args: &[&str], out_is_terminal: bool) -> (Vec<u8>, Vec<Duration>) {
    let cli = TestCli::try_parse_from([&["logs", "replay"], args].concat()).unwrap_or_else(|e| panic!("{e}"));
    let LogsCommand::Replay(args) = cli.logs else { panic!("not a replay") };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console =
        Console { out: &mut out, err: &mut err, out_is_terminal, err_is_terminal: false, json: false };
    let pauses = replay::tests::waits(&args, &mut console);
    (out, pauses)
}

#[test]
fn replay_keeps_time_on_a_terminal() {
    let scratch = Scratch::new();
    let packets: [(Source, u64, &[u8]); 3] = [
        (Source::Target, 1_000_000, b"a"),
        (Source::Client, 2_000_000, b"no"),
        (Source::Target, 9_000_000, b"b"),
    ];
    let log = sealed(LogKind::Channel, Some(PtyHeader::default()), &packets);
    let (key, path) = (scratch.key(), scratch.write("terminal.log", &log));
    let paced = ["--key", &key, "--speed", "2", "--max-idle", "3", &path];
    let (out, pauses) = replayed(&paced, true);
    assert_eq!(pauses, [Duration::from_millis(500), Duration::from_secs(3)]);
    assert!(out.starts_with(b"ab"));
    let (out, pauses) = replayed(&paced, false);
    assert_eq!((out.as_slice(), pauses.len()), (b"ab".as_slice(), 0));
    let (_, pauses) = replayed(&["--key", &key, "--speed", "0", &path], true);
    assert!(pauses.is_empty());
}

#[test]
fn replay_of_streams_points_to_decrypt() {
    let scratch = Scratch::new();
    let ran = run(&["replay", "--key", &scratch.key(), &scratch.path("streams.log")]);
    assert!(!ran.success && ran.err.contains("portreeve logs decrypt"), "{}", ran.err);
    for speed in ["-1", "nan", "inf", "x"] {
        let args = ["logs", "replay", "--key", "k", "--speed", speed, "f"];
        assert!(TestCli::try_parse_from(args).is_err(), "{speed}");
    }
}

/// A segment of a channel's log with one packet of the target.
fn segment(number: u32, last: bool, recipient: &RecipientPrivateKey, data: &[u8]) -> Vec<u8> {
    let recipient = recipient.recipient_key();
    let mut sealer = Sealer::new(&recipient, &mut rand::rng()).unwrap();
    let mut packer = Packer::default();
    packer.push(Packet { source: Source::Target, code: 0, elapsed: u64::from(number), data });
    let body = sealer.seal(packer.take(Vec::new())).unwrap();
    let header = Header {
        encapsulated_key: sealer.encapsulated_key(),
        kind: Some(LogKind::Channel),
        recipient: Some(recipient.id()),
        blocks: Some(sealer.blocks()),
        segment: Some(number),
        last,
        ..Header::default()
    };
    [header.encode(900).unwrap(), body].concat()
}

#[test]
fn segments_are_joined_in_order_and_a_bad_one_costs_only_itself() {
    let scratch = Scratch::new();
    let key = RecipientPrivateKey::from_bytes([7; 32]);
    let session = PathBuf::from(scratch.path("1-session"));
    fs::create_dir(&session).unwrap();
    let file = |number: u32| match number {
        0 => session.join("channel-0.log"),
        _ => session.join(format!("channel-0.{number}.log")),
    };
    for number in 0..12 {
        fs::write(file(number), segment(number, number == 11, &key, format!("{number} ").as_bytes()))
            .unwrap();
    }
    let decrypt = |out: &str| {
        let out = scratch.path(out);
        let dir = session.to_str().unwrap();
        let ran = run_in(&["decrypt", "--key", &scratch.key(), "--output", &out, dir], true, false);
        let zip = format!("{out}/1-session/channel-0.zip");
        (ran, String::from_utf8(unzip(Path::new(&zip))[1].1.clone()).unwrap())
    };
    let (ran, text) = decrypt("whole");
    assert!(ran.success && !ran.err.contains("never finished"), "{}", ran.err);
    assert_eq!(text, "0 1 2 3 4 5 6 7 8 9 10 11 ");
    assert_eq!(serde_json::from_str::<serde_json::Value>(ran.out()).unwrap()["decrypted"]["finished"], true);

    fs::remove_file(file(4)).unwrap();
    let mut altered = fs::read(file(7)).unwrap();
    *altered.last_mut().unwrap() ^= 1;
    fs::write(file(7), altered).unwrap();
    fs::remove_file(file(11)).unwrap();
    let (ran, text) = decrypt("damaged");
    assert!(!ran.success);
    assert_eq!(text, "0 1 2 3 5 6 8 9 10 ");
    for problem in ["channel-0.4.log: the segment is missing", "channel-0.7.log", "never finished"] {
        assert!(ran.err.contains(problem), "{problem}: {}", ran.err);
    }
}

#[test]
fn a_further_recipient_finds_the_files_of_their_own_key() {
    let scratch = Scratch::new();
    let (first, second) =
        (RecipientPrivateKey::from_bytes([8; 32]), RecipientPrivateKey::from_bytes([7; 32]));
    let session = PathBuf::from(scratch.path("1-session"));
    let own = session.join(second.recipient_key().id());
    fs::create_dir_all(&own).unwrap();
    fs::write(session.join("channel-0.log"), segment(0, true, &first, b"theirs")).unwrap();
    fs::write(own.join("channel-0.log"), segment(0, true, &second, b"ours")).unwrap();
    let out = scratch.path("out");
    let ran = run(&["decrypt", "--key", &scratch.key(), "--output", &out, session.to_str().unwrap()]);
    assert!(ran.success, "{}", ran.err);
    assert_eq!(unzip(Path::new(&format!("{out}/1-session/channel-0.zip")))[1].1, b"ours");
}
