//! Targets that are dialled from the user's address: what the server sees, and what may be in the way.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use portreeve_tests::template::POLICY;
use portreeve_tests::topology::{CLIENT4, CLIENT6, SSH_PORT, TARGET4};
use portreeve_tests::{Options, Route, Testbed};

use super::{Check, access_event, dialled_by_the_gateway, ensure_refused};
use crate::beds::{Beds, own};
use crate::ssh::{TARGET, TARGET_V6, noise, ssh, ssh_with};

pub(super) const CHECKS: &[Check] = &[
    Check::new("the_server_sees_the_users_address_and_port", same_address_and_port),
    Check::new("a_port_that_is_taken_on_the_gateway_is_replaced", port_taken),
    Check::new("a_port_that_an_earlier_connection_uses_is_replaced", connection_taken),
    Check::new("sessions_from_the_users_address_run_side_by_side", several),
    Check::new("an_unconfigured_way_back_is_told", unconfigured_way_back),
];

/// The port that users connect from where a case needs to know it.
const PORT: u16 = 45_000;

fn options() -> Options {
    let policy = POLICY.replace("[[targets]]\n", "[[targets]]\nsource_address = \"client\"\n");
    Options { policy: Some(policy), ..Options::default() }
}

/// Address and port that the server sees a session come from.
fn seen(bed: &Testbed, target: &str) -> Result<SocketAddr> {
    let said = ssh(bed, &[target, "echo $SSH_CONNECTION"])?.success()?;
    let mut words = said.split_whitespace();
    let (Some(address), Some(port)) = (words.next(), words.next()) else {
        bail!("SSH_CONNECTION is {said:?}")
    };
    Ok(SocketAddr::new(address.parse()?, port.parse()?))
}

/// Has all connections of the client come from [`PORT`].
fn fix_port(bed: &Testbed) -> Result<()> {
    bed.client_netns().sysctl("net/ipv4/ip_local_port_range", &format!("{PORT} {PORT}"))
}

fn same_address_and_port(_: &Beds) -> Result<()> {
    let bed = own(&options())?;
    for (target, address) in [(TARGET, IpAddr::from(CLIENT4)), (TARGET_V6, IpAddr::from(CLIENT6))] {
        let seen = seen(&bed, target)?;
        ensure!(seen.ip() == address, "the server sees {seen}");
        let event = access_event(bed.gateway()?, "an access event", |event| {
            event["outcome"] == "closed" && event["dialled_from"] == seen.to_string()
        })?;
        ensure!(event["client"] == event["dialled_from"], "{event}");
        let log = bed.server().log()?;
        ensure!(log.contains(&format!("Connection from {} port {} ", seen.ip(), seen.port())), "{log}");
    }
    ensure!(dialled_by_the_gateway(&bed)? == 0, "the server sees the gateway's own address");
    Ok(())
}

fn port_taken(_: &Beds) -> Result<()> {
    let bed = own(&options())?;
    let listen = |address: &str| {
        let address = format!("{address}:{PORT}");
        bed.topology().gateway.enter(|| TcpListener::bind(&address).with_context(|| address.clone()))
    };
    // The IPv6 one takes IPv4 too.
    let _taken = listen("[::]")?;
    fix_port(&bed)?;
    for (target, address) in [(TARGET, IpAddr::from(CLIENT4)), (TARGET_V6, IpAddr::from(CLIENT6))] {
        let seen = seen(&bed, target)?;
        ensure!(seen.ip() == address && seen.port() != PORT, "the server sees {seen}");
    }
    Ok(())
}

fn connection_taken(_: &Beds) -> Result<()> {
    let bed = own(&options())?;
    let _earlier = bed.topology().gateway.enter(|| {
        dial_as(SocketAddrV4::new(CLIENT4, PORT), SocketAddrV4::new(TARGET4, SSH_PORT))
            .context("an earlier connection")
    })?;
    fix_port(&bed)?;
    let seen = seen(&bed, TARGET)?;
    ensure!(seen.ip() == CLIENT4 && seen.port() != PORT, "the server sees {seen}");
    Ok(())
}

/// Dials as the gateway does.
fn dial_as(from: SocketAddrV4, to: SocketAddrV4) -> Result<TcpStream> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::IpTransparent, &true)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(from))?;
    connect(fd.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(TcpStream::from(fd))
}

fn several(_: &Beds) -> Result<()> {
    let bed = own(&options())?;
    let input = noise(4 << 20);
    let one = |target: &str| -> Result<String> {
        let finished = ssh_with(&bed, &[target, "echo $SSH_CONNECTION >&2; cat"], &input)?;
        ensure!(finished.status.success() && finished.stdout == input, "{}", finished.err());
        Ok(finished.err().split(" 22").next().unwrap_or_default().to_owned())
    };
    let mut seen: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> =
            [TARGET, TARGET_V6].repeat(4).into_iter().map(|target| scope.spawn(|| one(target))).collect();
        let ended = running.into_iter().map(|session| session.join());
        ended
            .map(|session| session.map_err(|_| anyhow::anyhow!("a session panicked"))?)
            .collect::<Result<_>>()
    })?;
    seen.sort();
    seen.dedup();
    ensure!(seen.len() == 8, "the server sees {seen:?}");
    ensure!(dialled_by_the_gateway(&bed)? == 0, "the server sees the gateway's own address");
    Ok(())
}

fn unconfigured_way_back(_: &Beds) -> Result<()> {
    let config = "[datapath]\ninterfaces = [\"lan0\"]\n[upstream]\nconnect_timeout = \"2s\"\n";
    let bed = Testbed::start(Route::Intercepted, &Options { config: Some(config.to_owned()), ..options() })?;
    let texts =
        ["does not answer", "dialled from your address", "interfaces that the gateway is configured for"];
    for target in [TARGET, TARGET_V6] {
        ensure_refused(&ssh(&bed, &[target, "id"])?, &texts)?;
    }
    Ok(())
}
