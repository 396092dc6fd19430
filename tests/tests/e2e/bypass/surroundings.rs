//! What stands around the gateway: its own host, tunnels that end there, bridges, virtual devices.

use std::fs;

use anyhow::{Context, Result, ensure};
use portreeve_tests::frames::ethernet;
use portreeve_tests::netns::Netns;
use portreeve_tests::topology::{CLIENT4, GATEWAY4, SSH_PORT, TARGET4, TARGET6, at};
use portreeve_tests::{Options, Route, Testbed};

use super::Check;
use super::case::{Case, FAMILIES, ethertype};
use super::offloads;
use super::scene::{GHOST, Scene, ip};
use crate::beds::own;
use crate::intercepted::read_line;

pub(super) const CHECKS: &[Check] = &[
    Check::new("the_gateways_own_connections_are_not_intercepted", own_connections),
    Check::new("a_tunnel_is_closed_where_the_interface_it_ends_in_is_configured", tunnel),
    Check::new("sums_that_a_device_writes_lead_to_no_target", written_sums)
        .known_open("the programs match before the sum is written"),
    Check::new("frames_that_a_bridge_takes_lead_to_no_target", bridged)
        .known_open("a bridge forwards a packet that has a socket"),
];

/// Programs on the gateway's host are trusted as the daemon is, which connects like this itself.
fn own_connections() -> Result<()> {
    let mut bed = own(&Options::default())?;
    bed.gateway_mut()?.stop()?;
    for target in [at(TARGET4, SSH_PORT), at(TARGET6, SSH_PORT)] {
        let line = read_line(bed.topology().gateway.connect(target)?)?;
        ensure!(line.contains("OpenSSH"), "{target} answers {line:?}");
    }
    Ok(())
}

/// The packets in a tunnel come out of an interface of its own.
fn tunnel() -> Result<()> {
    let mut bed = own(&Options::default())?;
    let (client, gateway) = (bed.topology().client.clone(), bed.topology().gateway.clone());
    let end = |netns: &Netns, device: &str, remote, address: &str| {
        ip(netns, &format!("link add vxlan0 type vxlan id 7 dstport 4789 remote {remote} dev {device}"))?;
        ip(netns, &format!("addr add {address}/24 dev vxlan0"))?;
        ip(netns, "link set vxlan0 up")
    };
    end(&client, "eth0", GATEWAY4, "10.9.0.2")?;
    end(&gateway, "lan0", CLIENT4, "10.9.0.1")?;
    ip(&client, &format!("route add {TARGET4}/32 via 10.9.0.1"))?;
    bed.gateway_mut()?.stop()?;
    let target = at(TARGET4, SSH_PORT);
    let line = read_line(client.connect(target)?).context("the interface is not configured")?;
    ensure!(line.contains("OpenSSH"), "{target} answers {line:?}");
    let file = bed.gateway()?.files().config_file();
    let config = fs::read_to_string(&file)?;
    let wider = config.replace("\"wan0\"", "\"wan0\", \"vxlan0\"");
    ensure!(wider != config, "no interfaces in {config}");
    fs::write(&file, wider)?;
    bed.gateway_mut()?.launch()?;
    bed.gateway_mut()?.stop()?;
    ensure!(client.connect(target).is_err(), "{target} answers through the tunnel");
    Ok(())
}

/// Without a gateway the target answers such frames; with one it does not see them.
fn written_sums() -> Result<()> {
    let direct = Testbed::start(Route::Direct, &Options::default())?;
    let scene = Scene::open(&direct)?;
    scene.prove(&offloads::rewritten(&scene.lan))?;
    let bed = own(&Options::default())?;
    let scene = Scene::open(&bed)?;
    scene.judge(&offloads::rewritten(&scene.lan))
}

/// The configured interfaces become ports of a bridge, and the frames are for the server's hardware.
fn bridged() -> Result<()> {
    let bed = own(&Options::default())?;
    let scene = Scene::open(&bed)?;
    let gateway = &bed.topology().gateway;
    ip(gateway, "link add br0 type bridge forward_delay 0")?;
    ip(gateway, "link set br0 up")?;
    for port in portreeve_tests::topology::GATEWAY_INTERFACES {
        ip(gateway, &format!("link set {port} master br0"))?;
    }
    let cases = FAMILIES.map(|family| {
        let packet = family.syn();
        let frame = ethernet(scene.lan.server, GHOST, ethertype(&packet), &packet);
        Case::closed(format!("{}: through a bridge", family.name), vec![frame])
    });
    scene.judge_bridged(&cases)
}
