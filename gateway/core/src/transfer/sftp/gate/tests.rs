//! What the gate lets through, and that nothing is lost, added or moved.

use proptest::prelude::*;

use super::*;

const UPLOAD: TransferRights = TransferRights { upload: true, download: false };
const DOWNLOAD: TransferRights = TransferRights { upload: false, download: true };

fn packet(kind: u8, id: u32, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fields.len() + 5).unwrap();
    [&length.to_be_bytes()[..], &[kind], &id.to_be_bytes(), fields].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn open(id: u32, path: &str, flags: u32) -> Vec<u8> {
    packet(kind::OPEN, id, &[string(path.as_bytes()), flags.to_be_bytes().to_vec(), vec![0; 4]].concat())
}

fn status(id: u32, code: u32, text: &str) -> Vec<u8> {
    packet(kind::STATUS, id, &[code.to_be_bytes().to_vec(), string(text.as_bytes()), string(b"en")].concat())
}

fn unknown(request: &[u8]) -> bool {
    request[4] == kind::EXTENDED && needed(kind::EXTENDED, &request[9..]) == TransferRights::ALL
}

#[test]
fn requests_that_are_not_granted_become_ones_that_no_server_knows() {
    let rename = [string(b"a"), string(b"b")].concat();
    for (rights, request, passes) in [
        (UPLOAD, open(1, "/etc/passwd", 1), false),
        (DOWNLOAD, open(1, "/etc/passwd", 1), true),
        (UPLOAD, open(1, "/tmp/x", 2 | 8 | 16), true),
        (DOWNLOAD, open(1, "/tmp/x", 2 | 8 | 16), false),
        (UPLOAD, open(1, "/tmp/x", 3), false),
        (DOWNLOAD, open(1, "", 2), false),
        (DOWNLOAD, packet(kind::RENAME, 1, &rename), false),
        (DOWNLOAD, packet(kind::REMOVE, 1, &string(b"")), false),
        (DOWNLOAD, packet(kind::EXTENDED, 1, &[string(b"posix-rename@openssh.com"), rename].concat()), false),
        (UPLOAD, packet(kind::EXTENDED, 1, &string(b"copy-data")), false),
        (DOWNLOAD, packet(kind::EXTENDED, 1, &string(b"limits@openssh.com")), true),
        (TransferRights::NONE, packet(kind::OPENDIR, 1, &string(b"/")), true),
        (UPLOAD, packet(77, 1, &string(b"new")), false),
    ] {
        let mut gate = SftpGate::new(rights);
        let judged = gate.requests(&request).unwrap();
        assert_eq!(
            (judged.len(), &judged[..4], &judged[5..9]),
            (request.len(), &request[..4], &request[5..9])
        );
        assert_eq!(judged == request, passes, "{request:?}");
        assert_eq!(unknown(&judged), !passes, "{judged:?}");
    }
}

#[test]
fn the_answer_to_a_refused_request_denies_and_no_other() {
    let mut gate = SftpGate::new(UPLOAD);
    gate.requests(&open(7, "/etc/passwd", 1)).unwrap();
    let others = [status(6, 8, "Operation unsupported"), packet(kind::HANDLE, 9, &string(b"h"))].concat();
    assert_eq!(gate.answers(&others).unwrap(), others);
    let answer = gate.answers(&status(7, 8, "Operation unsupported")).unwrap();
    assert_eq!(answer, status(7, 3, "not granted by policy"));
    // The id may be used again.
    let again = status(7, 2, "No such file");
    assert_eq!(gate.answers(&again).unwrap(), again);
    for (said, told) in
        [("", ""), ("short", "not g"), ("Operation is not supported here", "not granted by policy          ")]
    {
        gate.requests(&open(8, "/x", 1)).unwrap();
        assert_eq!(gate.answers(&status(8, 8, said)).unwrap(), status(8, 3, told));
    }
}

#[test]
fn only_version_three_is_spoken() {
    let version = |kind: u8, version: u32| packet(kind, version, b"");
    let mut gate = SftpGate::new(UPLOAD);
    assert_eq!(gate.requests(&version(kind::INIT, 6)), Ok(version(kind::INIT, 3)));
    assert_eq!(gate.requests(&version(kind::INIT, 3)), Ok(version(kind::INIT, 3)));
    assert_eq!(gate.answers(&version(kind::VERSION, 3)), Ok(version(kind::VERSION, 3)));
    assert_eq!(gate.answers(&version(kind::VERSION, 4)), Err(SftpFault::Version(4)));
}

#[test]
fn a_request_is_held_until_it_is_judged_and_contents_never_are() {
    let mut gate = SftpGate::new(UPLOAD);
    let request = open(1, "/some/where/far/away/from/here", 1);
    for byte in &request[..request.len() - 5] {
        assert_eq!(gate.requests(&[*byte]), Ok(Vec::new()), "not judged yet");
    }
    assert!(unknown(&gate.requests(&request[request.len() - 5..]).unwrap()));
    let contents = [string(b"hand"), vec![0; 8], string(&[5; 30_000])].concat();
    let write = packet(kind::WRITE, 2, &contents);
    assert_eq!(gate.requests(&write[..100]).unwrap().len(), 100);
    assert_eq!(gate.requests(&write[100..]).unwrap().len(), write.len() - 100);
}

#[test]
fn a_name_that_is_too_long_to_be_held_is_a_fault() {
    let mut gate = SftpGate::new(UPLOAD);
    let request = open(1, &"x".repeat(60_000), 1);
    let mut pieces = request.chunks(16_000);
    assert!(pieces.by_ref().take(2).all(|piece| gate.requests(piece).is_ok()));
    assert_eq!(gate.requests(pieces.next().unwrap()), Err(SftpFault::LongName(MAX_HELD)));
}

#[test]
fn what_is_no_request_is_a_fault() {
    for bytes in
        [&b"\0\0\0\0"[..], b"\xff\xff\xff\xff", b"\0\0\0\x01\x03\0\0\0\0", b"\0\0\0\x05\x06\0\0\0\x01"]
    {
        assert!(SftpGate::new(DOWNLOAD).requests(bytes).is_err(), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_bytes(cuts in proptest::collection::vec(1_usize..60, 1..30)) {
        let stream = [
            packet(kind::INIT, 3, b""),
            open(1, "/upload/this", 2 | 8),
            open(2, "/download/that", 1),
            packet(kind::WRITE, 3, &[string(b"hand"), vec![0; 8], string(&[5; 500])].concat()),
            packet(kind::READ, 4, &[string(b"hand"), vec![0; 12]].concat()),
            packet(kind::RENAME, 5, &[string(b"from"), string(b"to")].concat()),
        ]
        .concat();
        for rights in [UPLOAD, DOWNLOAD, TransferRights::NONE] {
            let whole = SftpGate::new(rights).requests(&stream).unwrap();
            prop_assert_eq!(whole.len(), stream.len());
            let (mut gate, mut judged, mut left) = (SftpGate::new(rights), Vec::new(), stream.as_slice());
            for cut in cuts.iter().cycle() {
                let (piece, after) = left.split_at((*cut).min(left.len()));
                judged.extend(gate.requests(piece).unwrap());
                left = after;
                if left.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(judged, whole);
        }
    }

    #[test]
    fn no_byte_is_lost_or_added(pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(0_u8..8, 0..40)), 0..20)) {
        let mut gate = SftpGate::new(UPLOAD);
        let (mut sent, mut passed) = (0, 0);
        for (client, data) in &pieces {
            let through = if *client { gate.requests(data) } else { gate.answers(data) };
            let Ok(through) = through else { return Ok(()) };
            sent += data.len();
            passed += through.len();
        }
        prop_assert_eq!(passed + gate.last_request().len() + gate.last_answer().len(), sent);
    }
}
