//! What each part of recording costs for a byte, beside the cipher alone.
//!
//! Subjects take turns within a round. Time is that of the thread's own clock, so that other work on the machine
//! shows as little as it can.

use std::hint::black_box;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use nix::time::{ClockId, clock_gettime};
use portreeve_core::command::{InputRules, TerminalInspector};
use portreeve_core::envelope::{Batch, MAX_BLOCK, Packer, Packet, RecipientPrivateKey, Sealer};
use portreeve_core::inspection::ChannelInspector;
use portreeve_core::manifest::{FileScan, Sha256};
use portreeve_core::record::{ChannelNumber, Source};
use serde_json::json;

/// Bytes that a recorder seals at once.
const BATCH: usize = 4 * MAX_BLOCK;

/// Bytes of a packet of OpenSSH.
const MESSAGE: usize = 32 * 1024;

/// Bytes that a pty hands over at once.
const PTY: usize = 4096;

/// One pass over so many bytes; nanoseconds that count.
type Pass = fn(usize) -> Result<f64>;

const SUBJECTS: [(&str, Pass); 7] = [
    ("the cipher alone", cipher),
    ("sealing", |bytes| packed_and_sealed(bytes).map(|(_, sealing)| sealing)),
    ("packing and sealing", |bytes| packed_and_sealed(bytes).map(|(packing, sealing)| packing + sealing)),
    ("SHA-256 alone", hash),
    ("hashing for the manifest", scan),
    ("a terminal's flood", |bytes| flood(bytes, b"y\r\n")),
    ("a terminal's long lines", |bytes| flood(bytes, LONG)),
];

const LONG: &[u8] =
    b"\x1b[32mdrwxr-xr-x\x1b[0m  2 alice staff   4096 Nov  3 11:02 a directory with a long name\r\n";

/// Prints the samples of each subject.
pub(super) fn measure(rounds: usize, megabytes: usize) -> Result<()> {
    let bytes = megabytes * 1_000_000;
    let mut samples = [const { Vec::new() }; SUBJECTS.len()];
    for _ in 0..rounds {
        for ((_, pass), samples) in SUBJECTS.iter().zip(&mut samples) {
            samples.push(pass(bytes)? / bytes as f64);
        }
    }
    for ((what, _), samples) in SUBJECTS.iter().zip(samples) {
        println!("{}", json!({ "what": what, "ns_per_byte": samples }));
    }
    Ok(())
}

/// Nanoseconds that this thread has run.
fn clock() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(std::time::Duration::from(time).as_secs_f64() * 1e9)
}

fn cipher(bytes: usize) -> Result<f64> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).ok().context("a key")?;
    let key = LessSafeKey::new(key);
    let mut buffer = vec![0; BATCH];
    let mut number = 0_u64;
    let began = clock()?;
    for _ in 0..bytes / BATCH {
        for block in buffer.chunks_exact_mut(MAX_BLOCK) {
            number += 1;
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&number.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), block).ok().context("a tag")?;
            ensure!(black_box(tag).as_ref().len() == CHACHA20_POLY1305.tag_len(), "no tag");
        }
    }
    Ok(clock()? - began)
}

/// Nanoseconds for gathering the packets of batches, and for sealing those.
fn packed_and_sealed(bytes: usize) -> Result<(f64, f64)> {
    let recipient = RecipientPrivateKey::from_bytes([7; 32]).recipient_key();
    let mut sealer = Sealer::new(&recipient, &mut rand::rng())?;
    let (message, mut packer, mut spare) = (vec![b'x'; MESSAGE], Packer::default(), Vec::new());
    let (mut packing, mut sealing) = (0.0, 0.0);
    for _ in 0..bytes / BATCH {
        let began = clock()?;
        let batch = packed(&mut packer, &message, BATCH, spare);
        let packed = clock()?;
        spare = sealer.seal(batch)?;
        packing += packed - began;
        sealing += clock()? - packed;
    }
    ensure!(sealer.blocks() >= (bytes / BATCH) as u64, "nothing was sealed");
    Ok((packing, sealing))
}

/// A batch of messages, about `bytes` long.
fn packed(packer: &mut Packer, message: &[u8], bytes: usize, spare: Vec<u8>) -> Batch {
    for elapsed in 0..bytes / message.len() {
        packer.push(Packet { source: Source::Target, code: 0, elapsed: elapsed as u64, data: message });
    }
    packer.take(spare)
}

fn hash(bytes: usize) -> Result<f64> {
    let piece = vec![b'x'; BATCH];
    let began = clock()?;
    for _ in 0..bytes / BATCH {
        black_box(Sha256::of(black_box(&piece)));
    }
    Ok(clock()? - began)
}

fn scan(bytes: usize) -> Result<f64> {
    let block = [&u32::try_from(MAX_BLOCK)?.to_be_bytes()[..], &[b'x'; MAX_BLOCK]].concat();
    let blocks = bytes / MAX_BLOCK;
    let mut scan = FileScan::default();
    let began = clock()?;
    (0..blocks).for_each(|_| scan.feed(&block));
    let facts = scan.finish();
    let spent = clock()? - began;
    ensure!(facts.blocks == blocks as u64 - 1, "{} blocks", facts.blocks);
    Ok(spent)
}

/// Looks at `line` again and again, as it comes out of a pty.
fn flood(bytes: usize, line: &[u8]) -> Result<f64> {
    let mut inspector = TerminalInspector::new(ChannelNumber(0), 80, 24, InputRules::default());
    let output = line.repeat(BATCH / line.len());
    let (mut found, mut spent, mut kept) = (Vec::new(), 0.0, 0);
    let mut packer = Packer::default();
    for now in 0..bytes / output.len() {
        for data in output.chunks(PTY) {
            packer.push(Packet { source: Source::Target, code: 0, elapsed: now as u64, data });
        }
        let batch = packer.take(Vec::new());
        let began = clock()?;
        kept += inspector.packets(batch, now as u64, &mut found).data_bytes();
        spent += clock()? - began;
    }
    ensure!(
        kept == (bytes / output.len() * output.len()) as u64 && found.is_empty(),
        "{kept} bytes are kept"
    );
    Ok(spent)
}
