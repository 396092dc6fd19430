//! The documents as a whole: what is signed reads again, what was touched does not, the vectors in
//! testdata/manifest hold, and stock OpenSSH agrees.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::envelope::{Header, LogKind};

fn key(seed: u8) -> AuditKey {
    AuditKey::from_seed(&[seed; 32]).unwrap().0
}

fn trusted() -> TrustedKeys {
    let mut trusted = TrustedKeys::default();
    trusted.add(key(11).public_key());
    trusted
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn scan(bytes: &[u8], piece: usize) -> FileFacts {
    let mut scan = FileScan::default();
    for bytes in bytes.chunks(piece.max(1)) {
        scan.feed(bytes);
    }
    scan.finish()
}

fn streams_log() -> Vec<u8> {
    fs::read(testdata("envelope/streams.log")).unwrap()
}

fn manifest() -> Manifest {
    Manifest {
        chain: ChainId::from_random_bytes([0xc4; 16]),
        sequence: 1,
        previous: Sha256::NONE,
        directory: "1700000000000-0b0b0b0b-0b0b-4b0b-8b0b-0b0b0b0b0b0b".to_owned(),
        started_ms: 1_700_000_000_000,
        closed_ms: 1_700_000_002_500,
        ended: Ended::Finished,
        files: vec![FileEntry::new("channel-0.log".to_owned(), &scan(&streams_log(), 4096))],
    }
}

fn head() -> ChainHead {
    let document = sign(&manifest(), &key(11)).unwrap();
    ChainHead {
        chain: manifest().chain,
        sequence: 1,
        manifest: Sha256::of(&document),
        time_ms: 1_700_000_060_000,
    }
}

fn succession() -> KeySuccession {
    KeySuccession { successor: key(12).public_key(), time_ms: 1_700_000_100_000 }
}

fn shipped() -> Shipped {
    let ChainHead { chain, sequence, manifest: sha256, .. } = head();
    Shipped {
        chain,
        sequence,
        manifest: sha256,
        directory: manifest().directory,
        destination: "archive".to_owned(),
        time_ms: 1_700_604_800_000,
    }
}

/// The documents of testdata/manifest.
fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("manifest.json", sign(&manifest(), &key(11)).unwrap()),
        ("head.json", sign(&head(), &key(11)).unwrap()),
        ("key.json", sign(&succession(), &key(11)).unwrap()),
        ("shipped.log", sign(&shipped(), &key(11)).unwrap()),
        ("audit_key.pub", format!("{}\n", key(11).public_key()).into_bytes()),
        ("broken-head-as-manifest.json", sign(&head(), &key(11)).unwrap()),
        ("broken-other-key.json", sign(&manifest(), &key(13)).unwrap()),
        ("broken-changed-body.json", replaced("\"size\":633", "\"size\":632")),
        ("broken-reformatted-signature.json", replaced("{\"key\":", "{ \"key\":")),
        ("broken-without-signature.json", replaced_tail()),
        ("broken-version.json", document::sign_as(2, &manifest(), &key(11)).unwrap()),
    ]
}

fn replaced(from: &str, to: &str) -> Vec<u8> {
    let document = String::from_utf8(sign(&manifest(), &key(11)).unwrap()).unwrap();
    assert!(document.contains(from), "{document}");
    document.replace(from, to).into_bytes()
}

fn replaced_tail() -> Vec<u8> {
    let document = sign(&manifest(), &key(11)).unwrap();
    let newline = document.iter().position(|byte| *byte == b'\n').unwrap();
    document[..=newline].to_vec()
}

#[test]
fn golden_documents_come_out_byte_for_byte_and_read_again() {
    let write = std::env::var_os("PORTREEVE_WRITE_VECTORS").is_some();
    for (name, bytes) in vectors() {
        let path = testdata("manifest").join(name);
        if write {
            fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(String::from_utf8(fs::read(&path).unwrap()), String::from_utf8(bytes), "{name}");
    }
    let file = |name: &str| fs::read(testdata("manifest").join(name)).unwrap();
    let mut trusted = TrustedKeys::default();
    trusted
        .add_lines(&format!("# the auditor's copy\n\n{}", str::from_utf8(&file("audit_key.pub")).unwrap()))
        .unwrap();
    let read: Signed<Manifest> = read(&file("manifest.json"), &trusted).unwrap();
    assert_eq!((read.content, read.signer), (manifest(), key(11).public_key()));
    assert_eq!(read.sha256, head().manifest);
    assert_eq!(super::read::<ChainHead>(&file("head.json"), &trusted).unwrap().content, head());
    assert_eq!(super::read::<KeySuccession>(&file("key.json"), &trusted).unwrap().content, succession());
    assert_eq!(super::read::<Shipped>(&file("shipped.log"), &trusted).unwrap().content, shipped());
}

#[test]
fn broken_documents_are_refused_with_the_reason() {
    for (name, reason) in [
        ("broken-head-as-manifest.json", "it is no signed document, or its signature was altered"),
        ("broken-other-key.json", "it is signed by the key "),
        ("broken-changed-body.json", "its signature does not fit: it was altered"),
        ("broken-reformatted-signature.json", "it is no signed document, or its signature was altered"),
        ("broken-without-signature.json", "it is no signed document, or its signature was altered"),
        ("broken-version.json", "it has version 2, which this program does not know"),
    ] {
        let document = fs::read(testdata("manifest").join(name)).unwrap();
        let error = read::<Manifest>(&document, &trusted()).unwrap_err().to_string();
        assert!(error.starts_with(reason), "{name}: {error}");
    }
}

#[test]
fn stock_openssh_verifies_a_document_as_the_format_says() {
    let scratch = std::env::temp_dir().join(format!("portreeve-sshsig-{}", std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    let document = String::from_utf8(sign(&manifest(), &key(11)).unwrap()).unwrap();
    let (body, line) = document.split_once('\n').unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    fs::write(scratch.join("signature"), line["signature"].as_str().unwrap()).unwrap();
    fs::write(scratch.join("signers"), format!("gateway {}\n", key(11).public_key())).unwrap();
    let verify = |body: &str| {
        let mut ssh_keygen = Command::new("ssh-keygen")
            .args([
                "-Y",
                "verify",
                "-I",
                "gateway",
                "-n",
                "portreeve-manifest",
                "-f",
                "signers",
                "-s",
                "signature",
            ])
            .current_dir(&scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ssh-keygen (package openssh-client) is needed for this test");
        ssh_keygen.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
        ssh_keygen.wait().unwrap().success()
    };
    assert!(verify(body));
    assert!(!verify(&body.replace("\"sequence\":1", "\"sequence\":2")));
    fs::remove_dir_all(&scratch).unwrap();
}

#[test]
fn a_key_file_reads_again_and_names_its_key() {
    let (key, text) = AuditKey::from_seed(&[11; 32]).unwrap();
    let read = AuditKey::from_openssh(text.as_bytes()).unwrap();
    assert_eq!(read.public_key(), key.public_key());
    let line = key.public_key().to_string();
    assert!(
        line.starts_with("ssh-ed25519 ")
            && line.ends_with(&format!(" portreeve-audit-{}", key.public_key().id()))
    );
    assert_eq!(line.parse(), Ok(key.public_key()));
    assert_eq!(AuditKey::from_openssh(b"no key").unwrap_err(), AuditKeyError::Private);
    assert_eq!("ssh-rsa AAAA".parse::<AuditPublicKey>(), Err(AuditKeyError::Public));
    assert!(!format!("{key:?}").contains(&hex::encode([11; 32])));
}

#[test]
fn a_walk_sees_header_and_blocks_whatever_the_pieces() {
    let file = streams_log();
    let facts = scan(&file, file.len());
    assert_eq!((facts.size, facts.blocks), (633, 2));
    assert_eq!(facts.sha256, Sha256::of(&file));
    assert_eq!(facts.header_sha256, Sha256::of(&file[..516]));
    let header = facts.header.clone().unwrap();
    assert_eq!((header.kind, header.blocks), (Some(LogKind::Channel), Some(2)));
    for piece in [1, 2, 3, 5, 516, 517, 600] {
        assert_eq!(scan(&file, piece), facts, "{piece}");
    }
    let cut = scan(&file[..100], 7);
    assert_eq!((cut.blocks, cut.header, cut.header_sha256), (0, None, cut.sha256));
    assert_eq!(scan(&[], 1).sha256, Sha256::of(&[]));
}

#[test]
fn a_length_that_is_no_headers_keeps_little_in_memory() {
    let mut scan = FileScan::default();
    scan.feed(&u32::MAX.to_be_bytes());
    for _ in 0..64 {
        scan.feed(&[0; 65_536]);
    }
    assert!(scan.finish().header.is_none());
}

#[test]
fn what_happened_to_a_file_is_told_apart() {
    let file = streams_log();
    let entry = FileEntry::new("channel-0.log".to_owned(), &scan(&file, 4096));
    let faults = |file: &[u8]| entry.compare(&scan(file, 4096));
    assert_eq!(faults(&file), []);
    assert_eq!(faults(&file[..583]), [FileFault::Cut { size: 583, expected: 633 }]);
    assert_eq!(faults(&[&file, b"x".as_slice()].concat()), [FileFault::Grown { size: 634, expected: 633 }]);
    let flipped = |at: usize| {
        let mut file = file.clone();
        file[at] ^= 1;
        file
    };
    assert_eq!(faults(&flipped(100)), [FileFault::Header]);
    assert_eq!(faults(&flipped(600)), [FileFault::Blocks]);
    let mut both = flipped(100);
    both.truncate(583);
    assert_eq!(faults(&both), [FileFault::Cut { size: 583, expected: 633 }, FileFault::Header]);
}

/// A header that says less than was written, with the tail cut to match.
#[test]
fn a_cut_tail_shows_even_when_the_header_is_made_to_agree() {
    let file = streams_log();
    let mut header = Header::decode(&file[4..516]).unwrap();
    header.blocks = Some(1);
    let forged = [header.encode(384).unwrap(), file[516..583].to_vec()].concat();
    let entry = FileEntry::new("channel-0.log".to_owned(), &scan(&file, 4096));
    assert_eq!(
        entry.compare(&scan(&forged, 4096)),
        [FileFault::Cut { size: 583, expected: 633 }, FileFault::Header]
    );
}

#[test]
fn paths_that_lead_elsewhere_are_not_followed() {
    let entry = |path: &str| FileEntry { path: path.to_owned(), ..manifest().files.remove(0) };
    for path in ["events.log", "0f6d2553ff0c0f44/events.1.log"] {
        assert!(entry(path).path_is_safe(), "{path}");
    }
    for path in ["", "/etc/passwd", "../x", "a/../b", "a/b/c", "a//b", ".", "a\0b"] {
        assert!(!entry(path).path_is_safe(), "{path:?}");
    }
}

fn link(sequence: u64, manifest: u8, previous: Option<u8>) -> Link {
    let of = |byte: u8| if byte == 0 { Sha256::NONE } else { Sha256::of(&[byte]) };
    Link { sequence, manifest: of(manifest), previous: previous.map(of) }
}

/// Five sessions, each with its number as its manifest.
fn whole() -> Vec<Link> {
    (1..=5).map(|n| link(u64::from(n), n, Some(n - 1))).collect()
}

fn findings(links: &[Link], heads: &[(u64, u8)]) -> Vec<ChainFinding> {
    let mut chain = Chain::default();
    for link in links {
        chain.add_link(*link);
    }
    for (sequence, manifest) in heads {
        chain.add_head(*sequence, Sha256::of(&[*manifest]));
    }
    chain.findings(1)
}

#[test]
fn a_whole_chain_has_no_findings_in_any_order() {
    let mut links = whole();
    assert_eq!(findings(&links, &[(3, 3), (5, 5)]), []);
    links.reverse();
    assert_eq!(findings(&links, &[]), []);
    assert_eq!(findings(&[], &[]), []);
}

#[test]
fn removed_sessions_show_as_gaps() {
    let mut links = whole();
    links.drain(1..3);
    assert_eq!(findings(&links, &[]), [ChainFinding::Missing { from: 2, to: 3 }]);
    links.remove(0);
    assert_eq!(findings(&links, &[]), [ChainFinding::Missing { from: 1, to: 3 }]);
}

#[test]
fn a_removed_tail_shows_by_a_head() {
    let links = &whole()[..3];
    assert_eq!(findings(links, &[]), [], "nothing tells of it without a head");
    assert_eq!(findings(links, &[(5, 5), (4, 4)]), [ChainFinding::TailMissing { from: 4, to: 5 }]);
    assert_eq!(findings(&[], &[(2, 2)]), [ChainFinding::TailMissing { from: 1, to: 2 }]);
}

#[test]
fn a_head_of_another_chain_of_events_shows() {
    assert_eq!(findings(&whole(), &[(5, 9)]), [ChainFinding::HeadMismatch { sequence: 5 }]);
}

#[test]
fn two_sessions_of_one_number_are_a_fork_and_one_twice_is_a_copy() {
    let mut links = whole();
    links.push(link(3, 30, Some(2)));
    let found = findings(&links, &[]);
    assert!(found.contains(&ChainFinding::Fork { sequence: 3 }), "{found:?}");
    let mut links = whole();
    links.push(link(3, 3, Some(2)));
    assert_eq!(findings(&links, &[]), [ChainFinding::Twice { sequence: 3 }]);
}

#[test]
fn a_replaced_session_breaks_the_chain() {
    let mut links = whole();
    links[2] = link(3, 33, Some(2));
    assert_eq!(findings(&links, &[]), [ChainFinding::Broken { sequence: 4 }]);
    let first = link(1, 1, Some(9));
    assert_eq!(findings(&[first], &[]), [ChainFinding::Broken { sequence: 1 }]);
}

#[test]
fn a_session_deleted_after_shipping_is_no_gap_and_must_fit() {
    let mut links = whole();
    links[2] = link(3, 3, None);
    assert_eq!(findings(&links, &[(3, 3)]), []);
    links[2] = link(3, 7, None);
    assert_eq!(findings(&links, &[]), [ChainFinding::Broken { sequence: 4 }]);
    let mut announced = whole();
    announced.push(link(3, 3, None));
    assert_eq!(findings(&announced, &[]), [], "announced, and not deleted yet");
}

#[test]
fn a_chain_may_be_looked_at_from_a_number_on() {
    let mut chain = Chain::default();
    for link in whole().split_off(2) {
        chain.add_link(link);
    }
    assert_eq!(chain.clone().findings(3), []);
    assert_eq!(chain.findings(2), [ChainFinding::Missing { from: 2, to: 2 }]);
}

#[test]
fn a_number_at_its_limit_is_no_overflow() {
    let last = link(u64::MAX, 1, Some(2));
    assert_eq!(findings(&[last], &[(u64::MAX, 1)]), [ChainFinding::Missing { from: 1, to: u64::MAX - 1 }]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_changed_byte_of_a_document_shows(at in any::<prop::sample::Index>(), xor in 1..=255_u8) {
        let mut document = sign(&manifest(), &key(11)).unwrap();
        let at = at.index(document.len());
        document[at] ^= xor;
        prop_assert!(read::<Manifest>(&document, &trusted()).is_err(), "byte {at}");
    }

    #[test]
    fn any_changed_byte_of_a_file_shows(at in any::<prop::sample::Index>(), xor in 1..=255_u8) {
        let mut file = streams_log();
        let entry = FileEntry::new("f".to_owned(), &scan(&file, 4096));
        let at = at.index(file.len());
        file[at] ^= xor;
        prop_assert!(!entry.compare(&scan(&file, 4096)).is_empty(), "byte {at}");
    }

    #[test]
    fn any_shorter_or_longer_document_is_refused(cut in any::<prop::sample::Index>(), more in prop::collection::vec(any::<u8>(), 1..9)) {
        let document = sign(&manifest(), &key(11)).unwrap();
        prop_assert!(read::<Manifest>(&document[..cut.index(document.len())], &trusted()).is_err());
        prop_assert!(read::<Manifest>(&[document, more].concat(), &trusted()).is_err());
    }

    #[test]
    fn any_bytes_are_walked_the_same_in_any_pieces(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1..40_usize) {
        prop_assert_eq!(scan(&bytes, piece), scan(&bytes, 4096));
    }

    /// Whatever set of sessions is removed, it shows as long as one after it, or a head, is left.
    #[test]
    fn any_removed_session_shows(removed in prop::collection::vec(any::<bool>(), 5)) {
        let links: Vec<Link> = whole().into_iter().zip(&removed).filter(|(_, gone)| !**gone).map(|(link, _)| link).collect();
        prop_assert_eq!(findings(&links, &[(5, 5)]).is_empty(), !removed.contains(&true));
    }
}
