//! What a relayed byte costs without the kernel: open in place, see, seal for the other leg.
//!
//! `cargo run --release -p portreeve-ssh --example relay_speed` prints a line for each cipher.

use std::error::Error;
use std::time::{Duration, Instant};

use portreeve_ssh::cipher::Cipher;
use portreeve_ssh::host_key::HostKeySigner;
use portreeve_ssh::message;
use portreeve_ssh::negotiation::{Preferences, Role};
use portreeve_ssh::relay::{Relay, Side};
use portreeve_ssh::transport::{Config, Event, Transport};
use portreeve_ssh::wire::{put_string, put_u32};
use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;

const PACKET: usize = 32 * 1024;
/// Packets of one read.
const BATCH: usize = 8;
const BATCHES: usize = 4096;

fn side(role: Role, cipher: Cipher) -> Result<Transport, Box<dyn Error>> {
    let preferences = Preferences { ciphers: vec![cipher], ..Preferences::default() };
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[1; 32]));
    let host_keys = vec![HostKeySigner::new(&key, None)?];
    Ok(Transport::new(role, Config { preferences, host_keys, ..Config::default() })?)
}

/// Moves everything from one side to another, and drops the messages.
fn carry(from: &mut Transport, to: &mut Transport) -> Result<(), Box<dyn Error>> {
    let n = feed(from, to)?;
    from.written(n);
    while to.poll()?.is_some() {}
    Ok(())
}

fn feed(from: &Transport, to: &mut Transport) -> Result<usize, Box<dyn Error>> {
    let bytes = from.pending();
    to.spare(bytes.len()).get_mut(..bytes.len()).ok_or("too little room")?.copy_from_slice(bytes);
    to.filled(bytes.len())?;
    Ok(bytes.len())
}

fn leg(cipher: Cipher) -> Result<(Transport, Transport), Box<dyn Error>> {
    let (mut client, mut server) = (side(Role::Client, cipher)?, side(Role::Server, cipher)?);
    for _ in 0..4 {
        carry(&mut client, &mut server)?;
        carry(&mut server, &mut client)?;
    }
    client.authenticated();
    server.authenticated();
    Ok((client, server))
}

fn channel_open(relay: &mut Relay) -> Result<(), Box<dyn Error>> {
    let mut open = vec![message::CHANNEL_OPEN];
    put_string(&mut open, b"session")?;
    let mut confirm = vec![message::CHANNEL_OPEN_CONFIRMATION];
    for value in [0, u32::MAX, u32::MAX] {
        put_u32(&mut open, value);
    }
    for value in [0, 0, u32::MAX, u32::MAX] {
        put_u32(&mut confirm, value);
    }
    relay.see(Side::Downstream, &open)?;
    relay.see(Side::Upstream, &confirm)?;
    Ok(())
}

fn measure(cipher: Cipher) -> Result<Duration, Box<dyn Error>> {
    let ((mut user, mut downstream), (mut upstream, _)) = (leg(cipher)?, leg(cipher)?);
    let mut relay = Relay::default();
    channel_open(&mut relay)?;
    let mut payload = vec![message::CHANNEL_DATA];
    put_u32(&mut payload, 0);
    put_string(&mut payload, &vec![0x5a; PACKET])?;
    let mut spent = Duration::ZERO;
    for _ in 0..BATCHES {
        for _ in 0..BATCH {
            user.send(&[&payload])?;
        }
        let n = feed(&user, &mut downstream)?;
        user.written(n);
        #[expect(clippy::disallowed_methods, reason = "a measurement; the crate itself has no clock")]
        let started = Instant::now();
        while let Some(event) = downstream.poll()? {
            if let Event::Message(range) = event {
                let payload = downstream.payload(range);
                relay.see(Side::Downstream, payload)?;
                upstream.send(&[payload])?;
            }
        }
        spent += started.elapsed();
        let sealed = upstream.pending().len();
        upstream.written(sealed);
    }
    Ok(spent)
}

#[expect(clippy::print_stdout, reason = "the result of the measurement")]
fn main() -> Result<(), Box<dyn Error>> {
    let bytes = u32::try_from(PACKET * BATCH * BATCHES)?;
    for cipher in Cipher::ALL {
        let spent = measure(cipher)?.as_secs_f64();
        let gigabytes = f64::from(bytes) / 1e9;
        println!(
            "{:<30} {:>6.0} MB/s {:>6.3} s/GB",
            cipher.name(),
            gigabytes * 1e3 / spent,
            spent / gigabytes
        );
    }
    Ok(())
}
