//! What stands around the gateway: its own host, tunnels that end there, bridges, virtual devices.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use portreeve_tests::frames::ethernet;
use portreeve_tests::netns::Netns;
use portreeve_tests::topology::{
    CLIENT4, GATEWAY_INTERFACES, GATEWAY4, GATEWAY6, SSH_PORT, TARGET4, TARGET6, at,
};
use portreeve_tests::{Options, Route, Testbed};

use super::Check;
use super::case::{Case, FAMILIES, Lan, ethertype};
use super::offloads;
use super::scene::{GHOST, Scene, ip};
use crate::beds::own;
use crate::intercepted::read_line;

pub(super) const CHECKS: &[Check] = &[
    Check::new("the_gateways_own_connections_are_not_intercepted", own_connections),
    Check::new("a_tunnel_is_closed_where_the_interface_it_ends_in_is_configured", tunnel),
    Check::new("sums_that_a_device_writes_lead_to_no_target", written_sums),
    Check::new("frames_that_a_bridge_takes_lead_to_no_target", bridged_before_the_start),
    Check::new("frames_of_a_bridge_that_has_the_route_lead_to_no_target", bridged_with_its_route),
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

/// The gateway does not start on ports of a bridge, and the programs drop what nobody listens for.
fn bridged_before_the_start() -> Result<()> {
    let mut bed = own(&Options::default())?;
    let scene = Scene::open(&bed)?;
    bed.gateway_mut()?.stop()?;
    bridge(&bed.topology().gateway)?;
    let Err(refused) = bed.gateway_mut()?.launch() else { bail!("the gateway starts on ports of a bridge") };
    let told = "interface lan0 is a port of br0, which takes its frames first; configure br0";
    ensure!(format!("{refused:#}").contains(told), "{refused:#}");
    let cases = through_the_bridge(&scene.lan);
    scene.judge_bridged(&cases)
}

/// As an operator would make it: the bridge has the address, and so no source is behind its port.
fn bridged_with_its_route() -> Result<()> {
    let bed = own(&Options::default())?;
    let scene = Scene::open(&bed)?;
    let gateway = &bed.topology().gateway;
    bridge(gateway)?;
    for address in [format!("{GATEWAY4}/24"), format!("{GATEWAY6}/64")] {
        ip(gateway, &format!("addr del {address} dev lan0"))?;
        ip(gateway, &format!("addr add {address} dev br0"))?;
    }
    let cases = through_the_bridge(&scene.lan);
    scene.judge_bridged(&cases)
}

/// Makes the configured interfaces ports of a bridge.
fn bridge(gateway: &Netns) -> Result<()> {
    ip(gateway, "link add br0 type bridge forward_delay 0")?;
    ip(gateway, "link set br0 up")?;
    for port in GATEWAY_INTERFACES {
        ip(gateway, &format!("link set {port} master br0"))?;
    }
    Ok(())
}

/// Frames for the server's hardware, which a bridge sends there.
fn through_the_bridge(lan: &Lan) -> [Case; 2] {
    FAMILIES.map(|family| {
        let packet = family.syn();
        let frame = ethernet(lan.server, GHOST, ethertype(&packet), &packet);
        Case::closed(format!("{}: through a bridge", family.name), vec![frame])
    })
}
