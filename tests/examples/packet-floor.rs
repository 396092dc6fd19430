//! The floor of `cargo xtask bench ssh`: what moving packets costs and nothing else.
//!
//! `packet-floor MEGABYTES`: over loopback, one thread seals packets of 32 KB under aes128-gcm, the
//! relay opens each in place, changes the channel number, seals it under another key and writes, and a
//! third thread reads. Prints the relay's throughput and CPU time as one line of JSON. No key
//! exchange, no channels, no policy, no recording: a relay cannot be cheaper without doing less.

#![allow(clippy::print_stdout, reason = "its output is the result")]

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use portreeve_ssh::cipher::{Cipher, KeyMaterial, LENGTH_FIELD, Opener, Protection, Sealer};
use portreeve_ssh::message;

/// Bytes of data in a packet: OpenSSH's.
const DATA: usize = 32 * 1024;
/// Bytes asked of one read.
const READ: usize = 256 * 1024;
const PROTECTION: Protection = Protection { cipher: Cipher::Aes128Gcm, mac: None };
/// Where a CHANNEL_DATA packet has its channel number: behind length, padding length and number.
const CHANNEL: std::ops::Range<usize> = LENGTH_FIELD + 2..LENGTH_FIELD + 6;

fn main() -> Result<()> {
    let megabytes: usize = env::args().nth(1).context("usage: packet-floor MEGABYTES")?.parse()?;
    let packets = megabytes * 1_000_000 / DATA;
    let (source, inlet) = pair()?;
    let (outlet, sink) = pair()?;
    let sending = thread::spawn(move || send(source, packets));
    let receiving = thread::spawn(move || drain(sink));
    let began = Instant::now();
    let relaying = thread::spawn(move || relay(inlet, outlet));
    let (cpu, relayed) = join(relaying)?;
    join(receiving)?;
    join(sending)?;
    anyhow::ensure!(relayed == packets, "{relayed} of {packets} packets were relayed");
    let bytes = (packets * DATA) as f64;
    let throughput = bytes / 1e6 / began.elapsed().as_secs_f64();
    println!("{{\"mb_per_s\": {throughput:.1}, \"cpu_s_per_gb\": {:.4}}}", cpu * 1e9 / bytes);
    Ok(())
}

fn join<T>(thread: thread::JoinHandle<Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| bail!("a thread panicked"))
}

fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let dialled = TcpStream::connect(listener.local_addr()?)?;
    let (accepted, _) = listener.accept()?;
    dialled.set_nodelay(true)?;
    Ok((dialled, accepted))
}

fn keys(seed: u8) -> KeyMaterial {
    KeyMaterial {
        iv: vec![seed; PROTECTION.cipher.iv_len()].into(),
        key: vec![seed; PROTECTION.cipher.key_len()].into(),
        mac_key: Vec::new().into(),
    }
}

fn send(mut to: TcpStream, packets: usize) -> Result<()> {
    let mut sealer = Sealer::new(PROTECTION, &keys(1))?;
    let mut payload = vec![message::CHANNEL_DATA, 0, 0, 0, 0];
    payload.extend(u32::try_from(DATA)?.to_be_bytes());
    payload.resize(payload.len() + DATA, b'x');
    let padding = sealer.padding_for(payload.len());
    let mut clear = u32::try_from(1 + payload.len() + padding)?.to_be_bytes().to_vec();
    clear.push(u8::try_from(padding)?);
    clear.extend(payload);
    clear.resize(clear.len() + padding + sealer.tag_len(), 0);
    let mut packet = clear.clone();
    for number in 0..packets {
        packet.copy_from_slice(&clear);
        sealer.seal(u32::try_from(number)?, &mut packet)?;
        to.write_all(&packet)?;
    }
    Ok(())
}

/// Returns this thread's CPU time in seconds and the packets relayed.
fn relay(mut from: TcpStream, mut to: TcpStream) -> Result<(f64, usize)> {
    let mut opener = Opener::new(PROTECTION, &keys(1))?;
    let mut sealer = Sealer::new(PROTECTION, &keys(2))?;
    let mut buffer = vec![0; READ + 2 * DATA];
    let (mut end, mut sequence) = (0, 0_u32);
    loop {
        let room = buffer.get_mut(end..).context("no room")?;
        let read = from.read(room)?;
        if read == 0 {
            return Ok((cpu_seconds()?, usize::try_from(sequence)?));
        }
        end += read;
        let mut start = 0;
        while let Some(packet) = whole(&mut opener, sequence, &mut buffer, start, end)? {
            opener.open(sequence, packet)?;
            packet.get_mut(CHANNEL).context("a short packet")?.copy_from_slice(&7_u32.to_be_bytes());
            sealer.seal(sequence, packet)?;
            start += packet.len();
            sequence += 1;
        }
        to.write_all(buffer.get(..start).unwrap_or_default())?;
        buffer.copy_within(start..end, 0);
        end -= start;
    }
}

/// The packet at `start`, when all of it is there. The length field of GCM is in clear.
fn whole<'a>(
    opener: &mut Opener,
    sequence: u32,
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
) -> Result<Option<&'a mut [u8]>> {
    let here = buffer.get_mut(start..end).unwrap_or_default();
    let Some(head) = here.get_mut(..LENGTH_FIELD) else { return Ok(None) };
    let length = LENGTH_FIELD + usize::try_from(opener.packet_length(sequence, head)?)? + opener.tag_len();
    Ok(here.get_mut(..length))
}

fn drain(mut from: TcpStream) -> Result<()> {
    let mut buffer = vec![0; READ];
    while from.read(&mut buffer)? > 0 {}
    Ok(())
}

/// CPU time of the calling thread; the first field is nanoseconds.
fn cpu_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().context("no schedstat")?.parse::<f64>()? / 1e9)
}
