//! `logs verify` on spools that were tampered with in every way there is.

use std::sync::Arc;

use portreeve_core::manifest::{Ended, FileEntry, Manifest};
use portreeve_core::utc::UtcTime;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::audit::{self, AuditChain, Closing, scan_file};

/// A gateway's state and spool, and the auditor's copy of its first key.
struct Audited {
    scratch: Scratch,
    chain: Arc<AuditChain>,
}

impl Audited {
    fn new(sessions: usize) -> Self {
        let scratch = Scratch::new();
        let state = PathBuf::from(scratch.path("state"));
        let chain = Arc::new(AuditChain::open(&state).unwrap());
        fs::create_dir(scratch.path("spool")).unwrap();
        scratch.write("audit.pub", audit::public_keys(&state).unwrap()[0].to_string().as_bytes());
        let audited = Self { scratch, chain };
        for number in 1..=sessions {
            audited.session(number);
        }
        audited
    }

    fn spool(&self) -> PathBuf {
        self.scratch.path("spool").into()
    }

    fn state(&self) -> PathBuf {
        self.scratch.path("state").into()
    }

    fn name(number: usize) -> String {
        format!("{}-session", 1_700_000_000_000 + number)
    }

    fn directory(&self, number: usize) -> PathBuf {
        self.spool().join(Self::name(number))
    }

    /// Records a session of a channel and events, and a further recipient.
    fn session(&self, number: usize) {
        let part = self.directory(number).with_extension("part");
        let set = part.join("00112233445566ff");
        fs::create_dir_all(&set).unwrap();
        let line = format!("{{\"event\":\"exec\",\"command\":\"secret-{number}\"}}\n");
        let packets: &[(Source, u64, &[u8])] = &[(Source::Client, 0, line.as_bytes())];
        fs::write(part.join("events.log"), sealed(LogKind::Events, None, packets)).unwrap();
        for directory in [&part, &set] {
            fs::copy(self.scratch.path("streams.log"), directory.join("channel-0.log")).unwrap();
        }
        let names = ["events.log", "channel-0.log", "00112233445566ff/channel-0.log"];
        let entry = |name: &str| {
            let facts = scan_file(&mut fs::File::open(part.join(name)).unwrap()).unwrap();
            FileEntry::new(name.to_owned(), &facts)
        };
        let (files, started) = (names.map(entry).to_vec(), UtcTime::from_unix_seconds(1_700_000_000));
        self.chain
            .close_all(vec![Closing {
                part: part.clone(),
                started,
                closed: started,
                ended: Ended::Finished,
                files,
            }])
            .unwrap();
    }

    fn head(&self) {
        self.chain.write_head(&self.spool()).unwrap();
    }

    fn verify_with(&self, more: &[&str]) -> Ran {
        let (key, spool) = (self.scratch.path("audit.pub"), self.scratch.path("spool"));
        run(&[&["verify", "--audit-key", &key, &spool], more].concat())
    }

    fn verify(&self) -> Ran {
        self.verify_with(&[])
    }

    /// The lines about anything that is not intact; none must mean success.
    fn problems(&self) -> Vec<String> {
        self.problems_with(&[])
    }

    fn problems_with(&self, more: &[&str]) -> Vec<String> {
        let ran = self.verify_with(more);
        let lines =
            ran.out().lines().filter(|line| !line.starts_with("intact ")).map(squeeze).collect::<Vec<_>>();
        assert_eq!(ran.success, lines.is_empty(), "{}{}", ran.out(), ran.err);
        lines
    }

    fn edit(&self, number: usize, file: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let path = self.directory(number).join(file);
        let mut bytes = fs::read(&path).unwrap();
        edit(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
}

fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_one(problems: &[String], expected: &str) {
    let [problem] = problems else { panic!("{problems:#?}") };
    assert!(problem.contains(expected), "{problem}");
}

#[test]
fn an_intact_spool_is_intact_and_its_sessions_too() {
    let audited = Audited::new(5);
    audited.head();
    let ran = audited.verify();
    assert!(ran.success, "{}{}", ran.out(), ran.err);
    assert_eq!(ran.out().lines().filter(|line| line.starts_with("intact ")).count(), 5);
    assert!(ran.err.starts_with("5 intact, 0 faulty, 0 being written, 0 deleted"), "{}", ran.err);
    let (key, session) = (audited.scratch.path("audit.pub"), audited.directory(3));
    let one = run(&["verify", "--audit-key", &key, session.to_str().unwrap()]);
    assert!(one.success, "{}{}", one.out(), one.err);
    let on_gateway =
        run(&["verify", "--state-dir", &audited.scratch.path("state"), &audited.scratch.path("spool")]);
    assert!(on_gateway.success, "{}", on_gateway.err);
}

#[test]
fn a_cut_file_shows() {
    let audited = Audited::new(2);
    audited.edit(2, "channel-0.log", |bytes| bytes.truncate(587));
    assert_one(&audited.problems(), "cut 1700000000002-session: channel-0.log: cut: 587 of 633 bytes");
}

#[test]
fn a_missing_file_shows() {
    let audited = Audited::new(2);
    fs::remove_file(audited.directory(1).join("00112233445566ff/channel-0.log")).unwrap();
    assert_one(
        &audited.problems(),
        "missing 1700000000001-session: 00112233445566ff/channel-0.log: it is not there",
    );
}

#[test]
fn a_changed_header_and_changed_blocks_are_told_apart() {
    let audited = Audited::new(2);
    audited.edit(1, "channel-0.log", |bytes| bytes[100] ^= 1);
    audited.edit(2, "channel-0.log", |bytes| bytes[600] ^= 1);
    let problems = audited.problems();
    assert_eq!(problems.len(), 2);
    assert!(problems[0].contains("altered: its header was changed"), "{problems:?}");
    assert!(problems[1].contains("altered: its blocks were changed"), "{problems:?}");
}

#[test]
fn an_added_file_shows_and_what_is_no_recording_does_not() {
    let audited = Audited::new(1);
    fs::write(audited.directory(1).join("channel-0.log-decrypted.zip"), "x").unwrap();
    assert_eq!(audited.problems(), [""; 0]);
    fs::copy(audited.scratch.path("streams.log"), audited.directory(1).join("channel-1.log")).unwrap();
    assert_one(&audited.problems(), "added 1700000000001-session: channel-1.log");
}

#[test]
fn a_changed_manifest_shows() {
    let audited = Audited::new(2);
    audited.edit(2, "manifest.json", |bytes| {
        *bytes =
            String::from_utf8(bytes.clone()).unwrap().replace("\"size\":633", "\"size\":587").into_bytes();
    });
    let problems = audited.problems();
    assert_one(&problems, "altered 1700000000002-session: manifest.json: its signature does not fit");
}

#[test]
fn a_missing_manifest_shows_as_that_and_as_a_gap() {
    let audited = Audited::new(3);
    fs::remove_file(audited.directory(2).join("manifest.json")).unwrap();
    let problems = audited.problems();
    assert!(problems[0].starts_with("missing 1700000000002-session: manifest.json"), "{problems:?}");
    assert!(problems[1].ends_with("missing: session 2"), "{problems:?}");
}

#[test]
fn a_session_signed_by_another_key_shows() {
    let (audited, forger) = (Audited::new(1), Audited::new(1));
    fs::remove_dir_all(audited.directory(1)).unwrap();
    fs::rename(forger.directory(1), audited.directory(1)).unwrap();
    assert_one(
        &audited.problems(),
        "unknown-key 1700000000001-session: manifest.json: it is signed by the key ",
    );
}

#[test]
fn a_renamed_session_shows() {
    let audited = Audited::new(1);
    fs::rename(audited.directory(1), audited.spool().join("1600000000000-session")).unwrap();
    assert_one(&audited.problems(), "the directory was renamed: it was 1700000000001-session");
}

#[test]
fn removed_sessions_show_as_gaps_and_are_passed_over_on_demand() {
    let audited = Audited::new(6);
    for number in [1, 4, 5] {
        fs::remove_dir_all(audited.directory(number)).unwrap();
    }
    let problems = audited.problems();
    assert!(problems[0].ends_with("missing: session 1"), "{problems:?}");
    assert!(problems[1].ends_with("missing: sessions 4 to 5"), "{problems:?}");
    assert_one(&audited.problems_with(&["--from", "2"]), "missing: sessions 4 to 5");
    assert_eq!(audited.problems_with(&["--from", "6"]), [""; 0]);
}

#[test]
fn a_removed_tail_shows_by_a_head_in_the_spool_or_kept_elsewhere() {
    let audited = Audited::new(4);
    let (_, kept) = audited.chain.head(UtcTime::from_unix_seconds(9)).unwrap().unwrap();
    let kept = audited.scratch.write("head.json", kept.as_bytes());
    for number in [3, 4] {
        fs::remove_dir_all(audited.directory(number)).unwrap();
    }
    assert_eq!(audited.problems(), [""; 0], "nothing here tells of them");
    let expected = "cut: sessions 3 to 4, of which a signed head tells, are missing at the end";
    assert_one(&audited.problems_with(&["--head", &kept]), expected);
    audited.head();
    assert_one(&audited.problems(), expected);
}

#[test]
fn a_changed_head_shows() {
    let audited = Audited::new(2);
    audited.head();
    let head = fs::read_dir(audited.spool().join("heads")).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&head).unwrap();
    fs::write(&head, text.replacen("\"sequence\":2", "\"sequence\":1", 1)).unwrap();
    assert_one(&audited.problems(), "altered: its signature does not fit");
}

#[test]
fn a_copied_session_and_a_fork_show() {
    let audited = Audited::new(2);
    let copy = audited.spool().join("1700000000009-session");
    fs::create_dir(&copy).unwrap();
    fs::copy(audited.directory(1).join("manifest.json"), copy.join("manifest.json")).unwrap();
    let problems = audited.problems();
    assert!(
        problems.iter().any(|problem| problem.ends_with("session 1 is there more than once")),
        "{problems:?}"
    );
    fs::remove_dir_all(copy).unwrap();
    // The state directory is put back to how it was, and the chain goes on from there.
    let journal = audited.state().join("audit_chain/journal");
    let before = fs::read(&journal).unwrap();
    audited.session(3);
    fs::write(&journal, before).unwrap();
    audited.session(4);
    let problems = audited.problems();
    assert_one(&problems, "fork: there are several sessions 3");
}

#[test]
fn a_recording_that_was_never_closed_shows_and_one_that_is_written_does_not_count() {
    let audited = Audited::new(1);
    let part = audited.spool().join("1700000000007-session.part");
    fs::create_dir(&part).unwrap();
    fs::copy(audited.scratch.path("unfinished.log"), part.join("events.log")).unwrap();
    assert_one(
        &audited.problems(),
        "never-finished 1700000000007-session.part: its recording was never closed",
    );
    let writer = fs::File::open(part.join("events.log")).unwrap();
    writer.lock().unwrap();
    let ran = audited.verify();
    assert!(ran.success && ran.out().contains("being-written"), "{}", ran.out());
}

#[test]
fn what_was_deleted_after_shipping_is_no_gap_and_a_forged_deletion_is() {
    let audited = Audited::new(4);
    for number in [1, 2] {
        let now = UtcTime::from_unix_seconds(9);
        let deletion = audited.chain.deletion(&audited.directory(number), "archive", now).unwrap().unwrap();
        audited.chain.will_delete(&audited.spool(), &[deletion]).unwrap();
        fs::remove_dir_all(audited.directory(number)).unwrap();
    }
    assert_eq!(audited.problems(), [""; 0]);
    assert!(audited.verify().err.contains("2 deleted after shipping"));
    let log = audited.spool().join("shipped.log");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replacen("\"sequence\":2", "\"sequence\":3", 1)).unwrap();
    assert_one(&audited.problems(), "missing: session 2");
    // Cut in the middle of the first, as by a crash.
    fs::write(&log, format!("{}\n{}", &text[..300], text.split_at(text.len() / 2).1)).unwrap();
    assert_one(&audited.problems(), "missing: session 1");
}

#[test]
fn another_key_that_took_over_is_trusted_by_the_first() {
    let audited = Audited::new(1);
    for number in 2..=3 {
        audit::rotate(&audited.state(), UtcTime::from_unix_seconds(5)).unwrap();
        audited.session(number);
    }
    let problems = audited.problems();
    assert!(problems[0].starts_with("unknown-key"), "{problems:?}");
    audited.head();
    assert_eq!(audited.problems(), [""; 0]);
    let (key, session) = (audited.scratch.path("audit.pub"), audited.directory(3));
    assert!(run(&["verify", "--audit-key", &key, session.to_str().unwrap()]).success);
}

#[test]
fn with_the_private_key_blocks_open_and_claims_of_headers_are_compared() {
    let audited = Audited::new(1);
    let key = audited.scratch.key();
    assert_eq!(audited.problems_with(&["--key", &key]), [""; 0]);
    audited.edit(1, "channel-0.log", |bytes| bytes[600] ^= 1);
    let problems = audited.problems_with(&["--key", &key]);
    assert_eq!(problems.len(), 2);
    assert!(problems[1].contains("the block at byte 583 does not open"), "{problems:?}");

    // Signed by a gateway whose header lied, and whose events are none.
    let audited = Audited::new(0);
    let part = audited.directory(1).with_extension("part");
    fs::create_dir(&part).unwrap();
    let file = sealed(LogKind::Events, None, &[(Source::Client, 0, b"{}\nno json\n")]);
    let mut header = Header::decode(&file[4..1204]).unwrap();
    header.data_size = 7;
    fs::write(part.join("events.log"), [header.encode(900).unwrap(), file[1204..].to_vec()].concat())
        .unwrap();
    let facts = scan_file(&mut fs::File::open(part.join("events.log")).unwrap()).unwrap();
    let (files, started) = (vec![FileEntry::new("events.log".into(), &facts)], UtcTime::from_unix_seconds(0));
    audited
        .chain
        .close_all(vec![Closing { part, started, closed: started, ended: Ended::Crash, files }])
        .unwrap();
    assert_eq!(audited.problems(), [""; 0]);
    let problems = audited.problems_with(&["--key", &key]);
    assert!(problems[0].contains("its header tells of 7 bytes of data, 11 open"), "{problems:?}");
    assert!(problems[1].contains("line 2 of its events is no JSON"), "{problems:?}");
}

#[test]
fn links_and_pipes_are_not_followed() {
    let audited = Audited::new(1);
    let file = audited.directory(1).join("channel-0.log");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(audited.scratch.path("streams.log"), &file).unwrap();
    assert_one(&audited.problems(), "unreadable 1700000000001-session: channel-0.log");
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert_one(&audited.problems(), "it is no regular file");
}

#[test]
fn names_cannot_steer_a_terminal() {
    let audited = Audited::new(0);
    fs::create_dir(audited.spool().join("1-\u{1b}[2J")).unwrap();
    let ran = audited.verify();
    assert!(!ran.success && !ran.out().contains('\u{1b}'), "{}", ran.out());
}

#[test]
fn json_has_a_line_for_each_session_each_finding_and_the_whole() {
    let audited = Audited::new(3);
    fs::remove_dir_all(audited.directory(2)).unwrap();
    audited.edit(3, "channel-0.log", |bytes| bytes[100] ^= 1);
    let (key, spool) = (audited.scratch.path("audit.pub"), audited.scratch.path("spool"));
    let ran = run_in(&["verify", "--audit-key", &key, &spool], true, false);
    let lines: Vec<Value> = ran.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        (&lines[0]["state"], &lines[0]["sequence"], &lines[0]["files"]),
        (&"intact".into(), &1.into(), &3.into())
    );
    assert_eq!(lines[1]["problems"][0]["problem"], "altered");
    assert_eq!(lines[1]["problems"][0]["file"], "channel-0.log");
    assert_eq!((&lines[2]["problem"], &lines[2]["from"]), (&"missing".into(), &2.into()));
    assert_eq!(lines[3]["verified"]["faulty"], 1);
    assert!(!ran.success && !ran.out().contains("secret"));
}

#[test]
fn what_cannot_be_verified_is_an_error_that_says_why() {
    let audited = Audited::new(1);
    let spool = audited.scratch.path("spool");
    for (args, reason) in [
        (vec!["verify", "--state-dir", "/nonexistent", &spool], "no --audit-key is given"),
        (
            vec!["verify", "--audit-key", &audited.scratch.path("streams.log"), &spool],
            "cannot read the audit key",
        ),
        (vec!["verify", "--audit-key", &audited.scratch.key(), &spool], "holds no audit key"),
        (
            vec!["verify", "--audit-key", &audited.scratch.path("audit.pub"), "/nonexistent"],
            "cannot read /nonexistent",
        ),
    ] {
        let ran = run(&args);
        assert!(!ran.success && ran.err.contains(reason), "{}", ran.err);
    }
    let empty = audited.scratch.write("none", b"# nothing\n");
    assert!(run(&["verify", "--audit-key", &empty, &spool]).err.contains("no audit key is given"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Whatever byte of whatever file of a session is changed, it shows.
    #[test]
    fn any_changed_byte_of_any_file_of_a_session_shows(
        file in 0..4_usize, at in any::<prop::sample::Index>(), xor in 1..=255_u8,
    ) {
        let audited = Audited::new(1);
        let file = ["events.log", "channel-0.log", "00112233445566ff/channel-0.log", Manifest::FILE][file];
        audited.edit(1, file, |bytes| {
            let at = at.index(bytes.len());
            bytes[at] ^= xor;
        });
        let (key, session) = (audited.scratch.path("audit.pub"), audited.directory(1));
        let ran = run(&["verify", "--audit-key", &key, session.to_str().unwrap()]);
        prop_assert!(!ran.success, "{file}: {}", ran.out());
    }
}
