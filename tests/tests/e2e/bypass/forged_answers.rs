//! Forged answers of a target, to a connection that the gateway dialled.
//!
//! They are given to that connection wherever they come from, and end in its sequence numbers.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::frames::{self, ACK, FIN, PSH, RST, SYN, TCP, Tcp};
use portreeve_tests::topology::{ECHO_PORT, GATEWAY_WAN4, SSH_PORT, TARGET4, at};
use portreeve_tests::{Gateway, Options, Testbed, run};

use super::Check;
use super::case::MARK;
use super::scene::Scene;
use crate::beds::own;
use crate::ssh::{LIMIT, Standing, TARGET};

pub(super) const CHECKS: &[Check] =
    &[Check::new("forged_answers_of_a_target_end_no_session", forged_answers)];

/// Where the session forwards to the server's echo service.
const FORWARD: u16 = 2299;
/// Numbers that are tried, evenly over all.
const GUESSES: u32 = 64;

/// Sent from the users' network, with everything right but the numbers.
fn forged_answers() -> Result<()> {
    let bed = own(&Options::default())?;
    let scene = Scene::open(&bed)?;
    let gateway = bed.gateway()?;
    let forward = format!("{FORWARD}:{TARGET4}:{ECHO_PORT}");
    let mut ssh = Standing::start(&bed, "forged_answers", &["-L", &forward, TARGET])?;
    let local = at(Ipv4Addr::LOCALHOST, FORWARD);
    let mut stream = ssh.until("the forward", || bed.client_netns().connect(local).ok())?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut echoes = |text: &[u8; 6]| -> Result<()> {
        stream.write_all(text)?;
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).context("the session does not go on")?;
        ensure!(answer == *text, "{answer:?}");
        Ok(())
    };
    echoes(b"before")?;
    let dialled = dialled(&bed)?;
    let before = returned(gateway)?;
    let mut sent = 0;
    for guess in 0..GUESSES {
        for flags in [RST, RST | ACK, SYN, SYN | ACK, FIN | ACK, PSH | ACK] {
            let number = u32::from_be_bytes(MARK).wrapping_add(guess.wrapping_mul(u32::MAX / GUESSES));
            let payload = if flags & PSH == 0 { Vec::new() } else { MARK.to_vec() };
            let forged = Tcp {
                sequence: number,
                acknowledgement: number,
                payload,
                ..Tcp::new(SSH_PORT, dialled.port(), flags)
            };
            let (from, to) = (TARGET4.into(), dialled.ip());
            scene.send(&scene.lan.frame(&frames::packet(from, to, TCP, &forged.bytes(from, to))), None)?;
            sent += 1;
        }
    }
    // They are not dropped on the way: the connection itself refuses them.
    until("the forged answers at the connection", LIMIT, || {
        Ok((returned(gateway)? >= before + sent).then_some(()))
    })?;
    echoes(b"behind")
}

/// The end of the session's connection to the target that is the gateway's.
fn dialled(bed: &Testbed) -> Result<SocketAddr> {
    let mut command = bed.topology().gateway.command("ss");
    let target = at(TARGET4, SSH_PORT).to_string();
    let listed = run(command.args(["-Htn", "state", "established"]), b"", LIMIT)?.success()?;
    let end = |line: &str| {
        let ends: Vec<_> = line.split_whitespace().skip(2).collect();
        let [own, peer] = ends[..] else { return None };
        let own: SocketAddr = own.parse().ok()?;
        (peer == target && own.ip() == IpAddr::V4(GATEWAY_WAN4)).then_some(own)
    };
    listed.lines().find_map(end).with_context(|| format!("no connection to the target: {listed}"))
}

/// Packets that were given to a connection which the gateway dialled.
fn returned(gateway: &Gateway) -> Result<u64> {
    gateway.datapath_status()?["packets"]["steered_return"].as_u64().context("no counter")
}
