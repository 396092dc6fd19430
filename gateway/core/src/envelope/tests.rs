//! The format as a whole: what is sealed opens again, what is damaged says so, and the vectors in
//! testdata/envelope hold.

use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use rand_core::{TryCryptoRng, TryRng};

use super::packet::Malformed;
use super::*;
use crate::record::{Exit, Source};

/// Gives one byte for ever: the vectors must come out the same each time.
struct FixedRng(u8);

impl TryRng for FixedRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes([self.0; 4]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_be_bytes([self.0; 8]))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(self.0);
        Ok(())
    }
}

impl TryCryptoRng for FixedRng {}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    source: Source,
    code: u32,
    elapsed: u64,
    data: Vec<u8>,
}

fn private_key() -> RecipientPrivateKey {
    RecipientPrivateKey::from_bytes([7; 32])
}

fn header(sealer: &Sealer, blocks: Option<u64>) -> Header {
    Header {
        started_at: 1_700_000_000,
        encapsulated_key: sealer.encapsulated_key(),
        kind: Some(LogKind::Channel),
        recipient: Some(private_key().recipient_key().id()),
        blocks,
        ..Header::default()
    }
}

/// A file of `packets`, sealed in batches of `batch_size`.
fn seal(packets: &[Owned], batch_size: usize, finished: bool) -> Vec<u8> {
    let mut sealer = Sealer::new(&private_key().recipient_key(), &mut FixedRng(9)).unwrap();
    let mut packer = Packer::default();
    let (mut body, mut data_bytes) = (Vec::new(), 0);
    for batch in packets.chunks(batch_size.max(1)) {
        for Owned { source, code, elapsed, data } in batch {
            packer.push(Packet { source: *source, code: *code, elapsed: *elapsed, data });
        }
        let batch = packer.take(Vec::new());
        data_bytes += batch.data_bytes();
        body.extend(sealer.seal(batch).unwrap());
    }
    let data_size = if finished { data_bytes } else { 0 };
    let header = Header { data_size, ..header(&sealer, finished.then_some(sealer.blocks())) };
    [header.encode(384).unwrap(), body].concat()
}

/// What opens of `file`, fed in pieces of `piece` bytes, and how it ends.
fn open(file: &[u8], piece: usize) -> (Vec<Owned>, Result<Header, OpenError>) {
    open_with(&private_key(), file, piece)
}

fn open_with(
    key: &RecipientPrivateKey,
    file: &[u8],
    piece: usize,
) -> (Vec<Owned>, Result<Header, OpenError>) {
    let mut opener = Opener::new(key);
    let mut packets = Vec::new();
    for bytes in file.chunks(piece.max(1)) {
        opener.feed(bytes);
        loop {
            match opener.next_packet() {
                Ok(Some(Packet { source, code, elapsed, data })) => {
                    packets.push(Owned { source, code, elapsed, data: data.to_vec() });
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(opener.next_packet().unwrap_err().to_string(), error.to_string());
                    return (packets, Err(error));
                }
            }
        }
    }
    let end = opener.finish();
    let header = opener.header().cloned();
    (packets, end.map(|()| header.unwrap()))
}

fn stream(packets: &[Owned], source: Source) -> Vec<u8> {
    packets.iter().filter(|p| p.source == source).flat_map(|p| p.data.clone()).collect()
}

/// Where blocks start and end, the header's end first.
fn boundaries(file: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while at < file.len() {
        let length = u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
        at += 4 + usize::try_from(length).unwrap();
        ends.push(at);
    }
    ends
}

fn any_packet() -> impl Strategy<Value = Owned> {
    let data = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (60_000_usize..140_000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ];
    (any::<bool>(), 0..2_u32, 0..1_000_000_u64, data).prop_map(|(client, code, elapsed, data)| Owned {
        source: if client { Source::Client } else { Source::Target },
        code,
        elapsed,
        data,
    })
}

fn any_packets() -> impl Strategy<Value = Vec<Owned>> {
    prop::collection::vec(any_packet(), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn what_is_sealed_opens_again(packets in any_packets(), batch in 1..6_usize, piece in 1..70_000_usize) {
        let file = seal(&packets, batch, true);
        let (read, end) = open(&file, piece);
        prop_assert!(end.is_ok(), "{end:?}");
        for source in [Source::Client, Source::Target] {
            prop_assert!(stream(&read, source) == stream(&packets, source));
        }
        prop_assert!(read.is_sorted_by_key(|packet| packet.elapsed));
    }

    #[test]
    fn blocks_are_bounded_and_never_empty(packets in any_packets(), batch in 1..6_usize) {
        let file = seal(&packets, batch, true);
        let ends = boundaries(&file);
        for (start, end) in ends.iter().zip(ends.iter().skip(1)) {
            let plaintext = end - start - PREFIX - TAG;
            prop_assert!((1..=MAX_BLOCK).contains(&plaintext), "{plaintext}");
        }
    }

    #[test]
    fn any_cut_gives_whole_blocks_and_says_so(
        packets in any_packets(),
        batch in 1..6_usize,
        cut in any::<prop::sample::Index>(),
        finished in any::<bool>(),
    ) {
        let file = seal(&packets, batch, finished);
        let cut = cut.index(file.len());
        let ends = boundaries(&file);
        let (whole, _) = open(&file, 4096);
        let (read, end) = open(&file[..cut], 4096);
        prop_assert!(whole.starts_with(&read));
        let last_whole = ends.iter().copied().take_while(|end| *end <= cut).last();
        let at_boundary = last_whole == Some(cut);
        match end {
            Err(OpenError::TruncatedHeader) => prop_assert!(last_whole.is_none()),
            Err(OpenError::Truncated { offset }) => {
                prop_assert_eq!(Some(usize::try_from(offset).unwrap()), last_whole);
                prop_assert!(!at_boundary);
            }
            Err(OpenError::MissingBlocks { .. }) => prop_assert!(finished && at_boundary),
            Ok(_) => prop_assert!(!finished && at_boundary),
            Err(other) => prop_assert!(false, "{other}"),
        }
        let (expected, _) = open(&file[..last_whole.unwrap_or(0)], 4096);
        prop_assert!(read == expected);
    }

    #[test]
    fn any_flipped_byte_after_the_header_is_detected(
        packets in any_packets().prop_filter("needs a block", |p| p.iter().any(|p| !p.data.is_empty())),
        batch in 1..6_usize,
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let mut file = seal(&packets, batch, true);
        let (whole, _) = open(&file, 65_536);
        let start = boundaries(&file)[0];
        let at = start + at.index(file.len() - start);
        file[at] ^= 1 << bit;
        let (read, end) = open(&file, 65_536);
        prop_assert!(end.is_err());
        prop_assert!(whole.starts_with(&read));
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2_000), piece in 1..50_usize) {
        let (read, end) = open(&bytes, piece);
        prop_assert!(read.is_empty() && end.is_err());
    }

    #[test]
    fn whole_blocks_finds_the_last_boundary(
        packets in any_packets(),
        cut in any::<prop::sample::Index>(),
        zeros in 0..10_000_usize,
    ) {
        let file = seal(&packets, 2, false);
        let cut = cut.index(file.len());
        let whole = |bytes: &[u8]| {
            whole_blocks(bytes.len() as u64, |into, offset| {
                let offset = usize::try_from(offset).unwrap();
                into.copy_from_slice(&bytes[offset..offset + into.len()]);
                Ok::<_, Infallible>(())
            })
            .unwrap()
        };
        let ends: Vec<_> = boundaries(&file).into_iter().take_while(|end| *end <= cut).collect();
        let expected = ends.last().map(|end| Whole { end: *end as u64, blocks: ends.len() as u64 - 1 });
        prop_assert_eq!(whole(&file[..cut]), expected);
        // As after a loss of power, unless the zeros begin within a tag, and so may be its own bytes.
        if boundaries(&file).into_iter().all(|end| !(end - TAG + 1..end).contains(&cut)) {
            let zeroed = [&file[..cut], &vec![0; zeros]].concat();
            prop_assert_eq!(whole(&zeroed), expected);
        }
    }
}

#[test]
fn wrong_key_is_named() {
    let file = seal(&vector_packets(), 1, true);
    let other = RecipientPrivateKey::from_bytes([8; 32]);
    let (read, end) = open_with(&other, &file, 100);
    assert!(read.is_empty());
    assert!(matches!(end, Err(OpenError::WrongKey { .. })), "{end:?}");
}

#[test]
fn wrong_key_without_a_recipient_in_the_header_is_still_an_error() {
    let mut sealer = Sealer::new(&private_key().recipient_key(), &mut FixedRng(1)).unwrap();
    let mut packer = Packer::default();
    packer.push(Packet { source: Source::Client, code: 0, elapsed: 0, data: b"x" });
    let foreign = Header { recipient: None, kind: None, ..header(&sealer, None) };
    let mut file = foreign.encode(300).unwrap();
    file.extend(sealer.seal(packer.take(Vec::new())).unwrap());
    let (_, end) = open_with(&RecipientPrivateKey::from_bytes([8; 32]), &file, 100);
    assert!(matches!(end, Err(OpenError::WrongKeyOrAltered)), "{end:?}");
    assert_eq!(open(&file, 100).0.len(), 1);
}

fn vector_packets() -> Vec<Owned> {
    let packet = |source, code, elapsed, data: &[u8]| Owned { source, code, elapsed, data: data.to_vec() };
    vec![
        packet(Source::Client, 0, 1_000, b"hello\n"),
        packet(Source::Target, 0, 2_500, b"hello\r\n"),
        packet(Source::Target, 1, 2_600, b"no such file\n"),
    ]
}

fn vector_file() -> Vec<u8> {
    seal(&vector_packets(), 2, true)
}

/// The pty vector: as the plain one, with a terminal and exit data in the header.
fn vector_pty_file() -> Vec<u8> {
    let mut sealer = Sealer::new(&private_key().recipient_key(), &mut FixedRng(5)).unwrap();
    let mut packer = Packer::default();
    packer.push(Packet { source: Source::Client, code: 0, elapsed: 0, data: b"exit 3\r" });
    packer.push(Packet {
        source: Source::Target,
        code: 0,
        elapsed: 1_250_000,
        data: b"\x1b[1m$\x1b[0m exit 3\r\n",
    });
    let batch = packer.take(Vec::new());
    let data_size = batch.data_bytes();
    let body = sealer.seal(batch).unwrap();
    let header = Header {
        data_size,
        pty: Some(PtyHeader {
            term: Some("xterm-256color".into()),
            width: 80,
            height: 24,
            modes: vec![("ECHO".into(), 1), ("TTY_OP_ISPEED".into(), 38_400)],
        }),
        exit_data: Some(ExitHeader::new(&Exit::Status(3), 1_700_000_002)),
        ..header(&sealer, Some(sealer.blocks()))
    };
    [header.encode(510).unwrap(), body].concat()
}

/// A block that opens and holds no whole packet.
fn vector_malformed_packet() -> Vec<u8> {
    let mut sealer = Sealer::new(&private_key().recipient_key(), &mut FixedRng(9)).unwrap();
    let mut packer = Packer::default();
    packer.push(Packet { source: Source::Client, code: 0, elapsed: 0, data: b"x" });
    let (mut bytes, ends) = packer.take(Vec::new()).into_parts();
    bytes[PREFIX + 3] += 1;
    assert_eq!(super::packet::split_packet(&bytes[PREFIX..bytes.len() - TAG]), Err(Malformed));
    let body = sealer.seal(Batch::from_parts(bytes, ends)).unwrap();
    [header(&sealer, Some(1)).encode(384).unwrap(), body].concat()
}

fn broken(change: impl FnOnce(&mut Vec<u8>, &[usize])) -> Vec<u8> {
    let mut file = vector_file();
    let ends = boundaries(&file);
    change(&mut file, &ends);
    file
}

fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    let overwrite = |file: &mut Vec<u8>, at: usize, bytes: [u8; 4]| file[at..at + 4].copy_from_slice(&bytes);
    vec![
        ("streams.log", vector_file()),
        ("pty.log", vector_pty_file()),
        ("unfinished.log", seal(&vector_packets(), 2, false)),
        ("broken-truncated-in-header.log", broken(|file, ends| file.truncate(ends[0] - 1))),
        ("broken-truncated-in-block.log", broken(|file, ends| file.truncate(ends[2] - 1))),
        ("broken-truncated-in-length.log", broken(|file, ends| file.truncate(ends[1] + 2))),
        ("broken-missing-block.log", broken(|file, ends| file.truncate(ends[1]))),
        ("broken-flipped-in-first-block.log", broken(|file, ends| file[ends[0] + 10] ^= 1)),
        ("broken-flipped-in-last-tag.log", broken(|file, ends| file[ends[2] - 1] ^= 0x80)),
        ("broken-oversized-header.log", broken(|file, _| overwrite(file, 0, [0x7f, 0, 0, 0]))),
        ("broken-oversized-block.log", broken(|file, ends| overwrite(file, ends[0], [0, 1, 0, 0x11]))),
        ("broken-empty-block.log", broken(|file, ends| overwrite(file, ends[0], [0, 0, 0, 16]))),
        ("broken-header-not-base64.log", broken(|file, _| file[6] = b'!')),
        ("broken-malformed-packet.log", vector_malformed_packet()),
    ]
}

fn vector_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/envelope").join(name)
}

fn vector(name: &str) -> Vec<u8> {
    fs::read(vector_path(name)).unwrap()
}

#[test]
fn vectors_come_out_the_same() {
    for (name, bytes) in vectors() {
        assert!(vector(name) == bytes, "{name} differs");
    }
    let key = fs::read_to_string(vector_path("recipient.key")).unwrap();
    assert_eq!(key, *private_key().to_base64());
    let public = fs::read_to_string(vector_path("recipient.key.pub")).unwrap();
    assert_eq!(public, private_key().recipient_key().to_string());
}

#[test]
#[ignore = "writes the vectors anew after a deliberate change of the format"]
fn write_vectors() {
    for (name, bytes) in vectors() {
        fs::write(vector_path(name), bytes).unwrap();
    }
    fs::write(vector_path("recipient.key"), private_key().to_base64().as_bytes()).unwrap();
    fs::write(vector_path("recipient.key.pub"), private_key().recipient_key().to_string()).unwrap();
}

#[test]
fn vector_in_the_documentation_is_the_one_in_testdata() {
    let page = include_str!("../../../../docs/log-format.md");
    let (_, after) = page.split_once("```hex\n").unwrap();
    let (vector_text, _) = after.split_once("```").unwrap();
    let bytes: String = vector_text.split_whitespace().collect();
    assert_eq!(bytes, hex::encode(vector("streams.log")));
}

#[test]
fn vector_streams_opens() {
    let (packets, end) = open(&vector("streams.log"), 11);
    assert_eq!(packets, vector_packets());
    assert_eq!(end.unwrap().blocks, Some(2));
}

#[test]
fn vector_pty_opens() {
    let (packets, end) = open(&vector("pty.log"), 11);
    assert_eq!(packets.len(), 2);
    let header = end.unwrap();
    assert_eq!(header.pty.unwrap().modes[1], ("TTY_OP_ISPEED".to_owned(), 38_400));
    assert_eq!(header.exit_data.unwrap().status, Some(3));
    assert_eq!(header.data_size, 25);
}

#[test]
fn vector_unfinished_opens_as_far_as_it_goes() {
    let (packets, end) = open(&vector("unfinished.log"), 11);
    assert_eq!(packets, vector_packets());
    assert_eq!(end.unwrap().blocks, None);
}

/// The packets before the damage, and the damage.
fn assert_broken(name: &str, intact: usize, expected: &str) {
    let (packets, end) = open(&vector(name), 64);
    assert_eq!(packets, vector_packets()[..intact], "{name}");
    assert_eq!(end.unwrap_err().to_string(), expected, "{name}");
}

#[test]
fn vector_broken_truncated_in_header() {
    assert_broken("broken-truncated-in-header.log", 0, "the file is truncated: it ends inside its header");
}

#[test]
fn vector_broken_truncated_in_block() {
    let expected = "the file is truncated: its last whole block ends at byte 583";
    assert_broken("broken-truncated-in-block.log", 2, expected);
}

#[test]
fn vector_broken_truncated_in_length() {
    let expected = "the file is truncated: its last whole block ends at byte 583";
    assert_broken("broken-truncated-in-length.log", 2, expected);
}

#[test]
fn vector_broken_missing_block() {
    let expected = "the file is truncated: it was finished with 2 blocks and has 1";
    assert_broken("broken-missing-block.log", 2, expected);
}

#[test]
fn vector_broken_flipped_in_first_block() {
    let expected = "the file was altered: the block at byte 516 does not open";
    assert_broken("broken-flipped-in-first-block.log", 0, expected);
}

#[test]
fn vector_broken_flipped_in_last_tag() {
    let expected = "the file was altered: the block at byte 583 does not open";
    assert_broken("broken-flipped-in-last-tag.log", 2, expected);
}

#[test]
fn vector_broken_oversized_header() {
    let expected = "not a log file: its header would have 2130706432 bytes";
    assert_broken("broken-oversized-header.log", 0, expected);
}

#[test]
fn vector_broken_oversized_block() {
    let expected = "the file was altered: the block at byte 516 would have 65553 bytes";
    assert_broken("broken-oversized-block.log", 0, expected);
}

#[test]
fn vector_broken_empty_block() {
    let expected = "the file was altered: the block at byte 516 would have 16 bytes";
    assert_broken("broken-empty-block.log", 0, expected);
}

#[test]
fn vector_broken_header_not_base64() {
    assert_broken("broken-header-not-base64.log", 0, "not a log file, or its header was altered");
}

#[test]
fn vector_broken_malformed_packet() {
    let expected = "the block that ends at byte 554 does not hold whole packets";
    assert_broken("broken-malformed-packet.log", 0, expected);
}
