//! Clients that mean harm cost only themselves.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::raw_client::{Message, RawClient};
use portreeve_tests::topology::{SSH_PORT, TARGET4, at};
use portreeve_tests::{Options, Route, Testbed};

use super::{Check, access_event, policy};
use crate::beds::{Beds, own};
use crate::ssh::{TARGET, noise, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("garbage_ends_only_its_own_connection", garbage),
    Check::new("a_stalled_handshake_ends_at_its_limit", stalled),
    Check::new("a_flood_from_one_source_costs_only_that_source", flood),
    Check::new("a_hundred_connections_that_begin_at_once_are_let_in", crowd),
    Check::new("a_client_that_leaves_at_once", leaves),
    Check::new("a_name_that_ends_in_nul_gets_no_session_past_the_record", nul_names),
];

fn connect(bed: &Testbed) -> Result<TcpStream> {
    let stream = bed.client_netns().connect(at(TARGET4, SSH_PORT))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// Reads until the other side ends the connection, by closing or by a reset.
fn wait_for_end(stream: &mut TcpStream) -> Result<Duration> {
    let begun = Instant::now();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(error.into()),
        _ => Ok(begun.elapsed()),
    }
}

fn garbage(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    for opening in [&b""[..], b"SSH-2.0-x\r\n", b"GET / HTTP/1.0\r\n\r\n"] {
        let mut stream = connect(bed)?;
        stream.write_all(opening)?;
        // A reset while writing is an answer too.
        stream.write_all(&noise(100_000)).ok();
        wait_for_end(&mut stream)?;
    }
    access_event(bed.gateway()?, "an access event of the garbage", |event| {
        event["outcome"] == "client_failed"
    })?;
    ssh(bed, &[TARGET, "true"])?.success()?;
    Ok(())
}

fn stalled(_: &Beds) -> Result<()> {
    let config = Some("[limits]\nhandshake_timeout = \"2s\"\n".to_owned());
    let bed = own(&Options { config, ..Options::default() })?;
    for opening in [&b""[..], b"SSH-2.0-x\r\n"] {
        let mut stream = connect(&bed)?;
        stream.write_all(opening)?;
        let took = wait_for_end(&mut stream)?;
        ensure!((1..8).contains(&took.as_secs()), "it stood for {took:?}");
    }
    ssh(&bed, &[TARGET, "sleep 3"])?.success()?;
    Ok(())
}

fn flood(_: &Beds) -> Result<()> {
    let options = Options {
        config: Some("[limits]\nhandshakes_per_source = 8\n".to_owned()),
        policy: Some(policy("\"alice\"", "")),
        ..Options::default()
    };
    let bed = own(&options)?;
    let mut refused = 0;
    let mut held = Vec::new();
    for _ in 0..40 {
        let Ok(mut stream) = connect(&bed) else {
            refused += 1;
            continue;
        };
        let mut banner = [0; 4];
        match stream.read_exact(&mut banner) {
            Ok(()) => held.push(stream),
            Err(_) => refused += 1,
        }
    }
    ensure!(held.len() <= 8 && refused >= 32, "{} held, {refused} refused", held.len());
    ssh(&bed, &["-b", "10.1.1.9", TARGET, "true"])?.success()?;
    ssh(&bed, &["alice@fd00:1:2::3", "true"])?.success()?;
    for stream in held {
        stream.shutdown(Shutdown::Both).ok();
    }
    portreeve_tests::deadline::until("the source to be let in again", super::SOON, || {
        Ok(ssh(&bed, &[TARGET, "true"])?.status.success().then_some(()))
    })
}

/// As many connections at once as a tool begins that is run for all servers.
fn crowd(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    let mut crowd = Vec::new();
    for number in 0..100 {
        let mut stream = connect(&bed)?;
        let mut banner = [0; 4];
        stream.read_exact(&mut banner).with_context(|| format!("connection {number}"))?;
        ensure!(&banner == b"SSH-", "connection {number}: {banner:?}");
        crowd.push(stream);
    }
    Ok(())
}

fn leaves(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    for _ in 0..20 {
        connect(bed)?.shutdown(Shutdown::Both)?;
    }
    ssh(bed, &[TARGET, "true"])?.success()?;
    Ok(())
}

/// OpenSSH takes `session` and a NUL for `session`.
fn nul_names(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let mut client = RawClient::connect(bed, "alice")?;
    client.send(&Message::open("session\0", 1, 1 << 21, 1 << 15)?)?;
    let answer = client.receive()?;
    ensure!(answer.starts_with("DISCONNECT 2 "), "{answer}");
    let mut client = RawClient::connect(bed, "alice")?;
    let channel = client.open_session(1, 1 << 21, 1 << 15)?;
    client.send(&Message::request(channel, "exec\0", true)?.string(b"echo unrecorded")?)?;
    let answer = client.receive()?;
    ensure!(answer.starts_with("DISCONNECT 2 "), "{answer}");
    Ok(())
}
