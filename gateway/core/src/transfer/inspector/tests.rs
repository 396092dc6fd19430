//! Streams that real programs made (OpenSSH 9.2), and what anybody may send.
//!
//! A file of `testdata/transfer` is a list of u8 source (0 client, 1 target), u32 length, data, as it was read.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::record::{Change, FileChange};

const CHANNEL: ChannelNumber = ChannelNumber(4);

fn golden(name: &str) -> Vec<(Source, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/transfer").join(name);
    let bytes = fs::read(path).unwrap();
    let mut left = bytes.as_slice();
    let mut pieces = Vec::new();
    while !left.is_empty() {
        let length = u32::from_be_bytes(left[1..5].try_into().unwrap()) as usize;
        let source = if left[0] == 0 { Source::Client } else { Source::Target };
        pieces.push((source, left[5..5 + length].to_vec()));
        left = &left[5 + length..];
    }
    pieces
}

fn exec(command: &str) -> RecordEvent {
    RecordEvent::Exec { channel: CHANNEL, command: command.into() }
}

fn sftp() -> RecordEvent {
    RecordEvent::Subsystem { channel: CHANNEL, name: "sftp".into() }
}

/// What is found in a stream whose pieces are cut into ones of at most `most` bytes.
fn found(request: &RecordEvent, pieces: &[(Source, Vec<u8>)], most: usize) -> Vec<RecordEvent> {
    let mut inspector = TransferInspector::for_request(request, TransferRights::ALL).unwrap();
    let mut found = Vec::new();
    for (source, data) in pieces {
        for piece in data.chunks(most) {
            inspector.data(*source, piece, 7, &mut found);
        }
    }
    inspector.end(&mut found);
    found
}

/// All that is told of files that go on, asked after each piece of at most `most` bytes: path and name, bytes.
fn moved(request: &RecordEvent, pieces: &[(Source, Vec<u8>)], most: usize) -> Vec<(String, Vec<u64>)> {
    let mut inspector = TransferInspector::for_request(request, TransferRights::ALL).unwrap();
    let (mut found, mut moved) = (Vec::new(), Vec::new());
    for (source, data) in pieces {
        for piece in data.chunks(most) {
            inspector.data(*source, piece, 7, &mut found);
            moved.extend(inspector.moved());
        }
    }
    inspector.end(&mut found);
    moved.extend(inspector.moved());
    let mut files: Vec<(String, Vec<u64>)> = Vec::new();
    for FileProgress { path, name, told, bytes, .. } in moved {
        let name = name.map(|name| format!(" {name:?}")).unwrap_or_default();
        let file = format!("{path:?}{name}");
        match told {
            None => files.push((file, vec![bytes])),
            Some(told) => {
                let known = files.iter_mut().rev().find(|(known, _)| *known == file).unwrap();
                assert_eq!(known.1.last(), Some(&told), "what was told last");
                known.1.push(bytes);
            }
        }
    }
    files
}

/// One line for each event: direction or change, name, bytes, result.
fn told(events: &[RecordEvent]) -> Vec<String> {
    let ended = |outcome: &FileOutcome| match outcome {
        FileOutcome::Complete => String::from("complete"),
        FileOutcome::Partial => String::from("partial"),
        FileOutcome::Failed { status } => format!("failed: {}", String::from_utf8_lossy(&status.0)),
        FileOutcome::Refused => String::from("refused"),
        FileOutcome::NotFollowed => String::from("not followed"),
    };
    let text = |text: &Text| String::from_utf8_lossy(&text.0).replace("/tmp/tr-golden/srv", "");
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other event is found")]
    events
        .iter()
        .map(|event| match event {
            RecordEvent::FileTransfer { channel: CHANNEL, transfer } => {
                let name = transfer.name.as_ref().map(|name| format!(" {}", text(name))).unwrap_or_default();
                let bytes = (transfer.uploaded, transfer.downloaded);
                let (path, ended) = (text(&transfer.path), ended(&transfer.outcome));
                format!("{:?} {path}{name} {bytes:?} {ended}", transfer.direction)
            }
            RecordEvent::FileChange { channel: CHANNEL, change: FileChange { path, change, outcome } } => {
                let change = match change {
                    Change::Rename { to } => format!("rename to {}", text(to)),
                    Change::Symlink { to } => format!("symlink to {}", text(to)),
                    Change::Hardlink { to } => format!("hardlink to {}", text(to)),
                    other => format!("{other:?}").to_lowercase(),
                };
                format!("{change} {} {}", text(path), ended(outcome))
            }
            other => format!("{other:?}"),
        })
        .collect()
}

fn hashes(events: &[RecordEvent]) -> Vec<Option<String>> {
    let hash = |event: &RecordEvent| {
        let RecordEvent::FileTransfer { transfer, .. } = event else { return None };
        assert_eq!(transfer.sha256.is_none(), transfer.sha256_missing.is_some());
        Some(transfer.sha256.clone())
    };
    events.iter().filter_map(hash).collect()
}

fn sha256(bytes: &[u8]) -> Option<String> {
    Some(hex::encode(Sha256::digest(bytes)))
}

#[test]
fn an_sftp_session_is_told_file_by_file() {
    let events = found(&sftp(), &golden("sftp.bin"), usize::MAX);
    let expected = [
        "Upload /up (40000, 0) complete",
        "setstat /small complete",
        "Upload /small (6, 0) complete",
        "Upload /empty (0, 0) complete",
        "mkdir /d complete",
        "rename to /d/moved /up complete",
        "setstat /d/moved complete",
        "symlink to moved /d/link complete",
        "hardlink to /d/hard /d/moved complete",
        "Download /d/moved (0, 40000) complete",
        "Download /empty (0, 0) complete",
        "remove /missing failed: No such file",
        "remove /d/link complete",
        "remove /d/hard complete",
        "remove /d/moved complete",
        "rmdir /d complete",
        "mkdir /proc/x failed: No such file",
    ];
    assert_eq!(told(&events), expected);
    let (large, empty) = (sha256(&[b'x'; 40_000]), sha256(b""));
    assert_eq!(hashes(&events), [large.clone(), sha256(b"small\n"), empty.clone(), large, empty]);
}

#[test]
fn scp_is_told_file_by_file() {
    let up = found(&exec("scp -r -p -t /tmp/tr-golden/srv/"), &golden("scp-up.bin"), usize::MAX);
    let mut lines = told(&up);
    lines.sort();
    assert_eq!(lines, ["Upload / tree/one (4, 0) complete", "Upload / tree/sub/two words (4, 0) complete"]);
    let down = found(&exec("scp -r -f /tmp/tr-golden/srv/tree"), &golden("scp-down.bin"), usize::MAX);
    let expected =
        ["Download /tree tree/one (0, 4) complete", "Download /tree tree/sub/two words (0, 4) complete"];
    assert_eq!(told(&down), expected);
    assert_eq!(hashes(&down), [sha256(b"one\n"), sha256(b"two\n")]);
}

#[test]
fn scp_that_fails_says_why() {
    let missing = found(&exec("scp -f /tmp/tr-golden/srv/nothing"), &golden("scp-missing.bin"), usize::MAX);
    let expected =
        ["Download /nothing (0, 0) failed: scp: /tmp/tr-golden/srv/nothing: No such file or directory"];
    assert_eq!(told(&missing), expected);
    let denied = found(&exec("scp -d -t /tmp/tr-golden/srv/ro"), &golden("scp-denied.bin"), usize::MAX);
    let expected = [
        "Upload /ro small (0, 0) failed: scp: /tmp/tr-golden/srv/ro/small: Is a directory",
        "Upload /ro empty (0, 0) complete",
    ];
    assert_eq!(told(&denied), expected);
}

#[test]
fn what_is_cut_is_partial() {
    let mut pieces = golden("sftp.bin");
    let close = pieces.iter().position(|(source, data)| *source == Source::Client && data.len() > 30_000);
    pieces.truncate(close.unwrap() + 1);
    let events = found(&sftp(), &pieces, usize::MAX);
    assert!(
        told(&events)[0].starts_with("Upload /up (") && told(&events)[0].ends_with(" partial"),
        "{events:?}"
    );
    assert_eq!(hashes(&events), [None]);
}

#[test]
fn rsync_is_told_as_one_run() {
    let pieces = [(Source::Client, b"abc".to_vec()), (Source::Target, b"de".to_vec())];
    let events = found(&exec("rsync --server --sender -e.L . /etc"), &pieces, usize::MAX);
    assert_eq!(told(&events), ["Download /etc (3, 2) not followed"]);
}

#[test]
fn what_is_not_the_protocol_ends_the_looking_once() {
    let noise = [(Source::Target, b"Welcome!\n".to_vec()), (Source::Target, b"more".to_vec())];
    for request in [sftp(), exec("scp -f x")] {
        let events = found(&request, &noise, usize::MAX);
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(matches!(&events[0], RecordEvent::InspectionEnded { channel: CHANNEL, .. }), "{events:?}");
    }
}

#[test]
fn events_survive_json() {
    let events = found(&sftp(), &golden("sftp.bin"), usize::MAX);
    for event in &events {
        let json = serde_json::to_string(event).unwrap();
        assert_eq!(&serde_json::from_str::<RecordEvent>(&json).unwrap(), event, "{json}");
    }
    assert_eq!(
        serde_json::to_string(&events[5]).unwrap(),
        r#"{"event":"file-change","channel":4,"path":"/tmp/tr-golden/srv/up","change":"rename","to":"/tmp/tr-golden/srv/d/moved","result":"complete"}"#
    );
}

fn any_pieces() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    // Packets whose length and type are likely to be right, or anything.
    let packet = (1_u8..22, proptest::collection::vec(any::<u8>(), 0..60)).prop_map(|(kind, body)| {
        let length = u32::try_from(body.len() + 1).unwrap();
        [&length.to_be_bytes()[..], &[kind], &body].concat()
    });
    let piece = prop_oneof![packet, proptest::collection::vec(any::<u8>(), 0..60)];
    proptest::collection::vec((any::<bool>(), piece), 0..30)
}

#[test]
fn every_file_is_told_when_it_begins_and_at_last_with_all_its_bytes() {
    for (request, name) in [
        (sftp(), "sftp.bin"),
        (exec("scp -r -p -t /tmp/tr-golden/srv/"), "scp-up.bin"),
        (exec("scp -r -f /tmp/tr-golden/srv/tree"), "scp-down.bin"),
        (exec("scp -f /tmp/tr-golden/srv/nothing"), "scp-missing.bin"),
        (exec("rsync --server -e.LsfxC . /srv/"), "scp-up.bin"),
    ] {
        let mut whole = Vec::new();
        for event in found(&request, &golden(name), usize::MAX) {
            if let RecordEvent::FileTransfer { transfer, .. } = event {
                let name = transfer.name.map(|name| format!(" {name:?}")).unwrap_or_default();
                whole.push((format!("{:?}{name}", transfer.path), transfer.uploaded + transfer.downloaded));
            }
        }
        whole.sort();
        assert!(!whole.is_empty());
        for most in [7, 1000, usize::MAX] {
            let mut told: Vec<_> = moved(&request, &golden(name), most)
                .into_iter()
                .map(|(file, bytes)| {
                    assert!(bytes.is_sorted_by(|before, after| before < after), "{file}: {bytes:?}");
                    (file, *bytes.last().unwrap())
                })
                .collect();
            told.sort();
            assert_eq!(told, whole, "{name} in pieces of {most}");
        }
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(most in 1_usize..5000) {
        for (request, name) in [(sftp(), "sftp.bin"), (exec("scp -r -t /"), "scp-up.bin")] {
            let pieces = golden(name);
            prop_assert_eq!(found(&request, &pieces, most), found(&request, &pieces, usize::MAX));
        }
    }

    #[test]
    fn nothing_that_is_sent_panics(pieces in any_pieces()) {
        let source = |client: bool| if client { Source::Client } else { Source::Target };
        let pieces: Vec<_> = pieces.into_iter().map(|(client, data)| (source(client), data)).collect();
        for request in [sftp(), exec("scp -t x"), exec("scp -f x"), exec("rsync --server . x")] {
            found(&request, &pieces, usize::MAX);
        }
    }
}
