//! Interfaces as files of systemd-networkd (systemd.network(5), systemd.netdev(5), systemd.link(5)).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::File;
use super::network::{Dhcp, Interface, Kind};

const DIR: &str = "/run/systemd/network";

/// All files, for all interfaces; `made` are private keys of WireGuard that the seed does not give.
pub(super) fn files(interfaces: &[Interface], dns: &[IpAddr], made: &BTreeMap<String, String>) -> Vec<File> {
    interfaces.iter().flat_map(|interface| of_interface(interface, interfaces, dns, made)).collect()
}

fn of_interface(
    interface: &Interface,
    all: &[Interface],
    dns: &[IpAddr],
    made: &BTreeMap<String, String>,
) -> Vec<File> {
    let name = &interface.name;
    let mut files = Vec::new();
    // What a port is has its bond written.
    if !all.iter().any(|bond| bond.has_port(name)) {
        files.push(file(&format!("30-{name}.network"), network(interface, all, dns)));
    }
    if let Some(mac) = &interface.mac {
        let text = format!("[Match]\nPermanentMACAddress={mac}\n\n[Link]\nName={name}\n");
        files.push(file(&format!("10-{name}.link"), text));
    }
    match &interface.kind {
        Kind::Card => {}
        Kind::Vlan { id, .. } => {
            let text = format!("[NetDev]\nName={name}\nKind=vlan\n\n[VLAN]\nId={id}\n");
            files.push(file(&format!("20-{name}.netdev"), text));
        }
        Kind::WireGuard(device) => {
            let stem = format!("20-{name}");
            files.push(file(&format!("{stem}.netdev"), device.device(name, &stem)));
            files.extend(device.credentials(&stem, made.get(name).map(String::as_str)));
        }
        Kind::Bond { ports, mode } => {
            let text =
                format!("[NetDev]\nName={name}\nKind=bond\n\n[Bond]\nMode={mode}\nMIIMonitorSec=100ms\n");
            files.push(file(&format!("20-{name}.netdev"), text));
            for port in ports {
                let text = format!("[Match]\nName={port}\n\n[Network]\nBond={name}\n");
                files.push(file(&format!("30-{port}.network"), text));
            }
        }
    }
    files
}

fn file(name: &str, text: String) -> File {
    File { path: format!("{DIR}/{name}"), mode: 0o644, text }
}

/// Writing to a String cannot fail.
fn network(interface: &Interface, all: &[Interface], dns: &[IpAddr]) -> String {
    let mut text = format!("[Match]\nName={}\n\n", interface.name);
    if let Some(mtu) = interface.mtu {
        write!(text, "[Link]\nMTUBytes={mtu}\n\n").unwrap_or_default();
    }
    // A router has its addresses whether or not a cable is in, and takes no advertisements of others unasked.
    let asks = matches!(interface.dhcp, Dhcp::Ipv6 | Dhcp::Both);
    let accepts = if asks { "yes" } else { "no" };
    write!(text, "[Network]\nConfigureWithoutCarrier=yes\nIPv6AcceptRA={accepts}\n").unwrap_or_default();
    let dhcp = match interface.dhcp {
        Dhcp::No => "no",
        Dhcp::Ipv4 => "ipv4",
        Dhcp::Ipv6 => "ipv6",
        Dhcp::Both => "yes",
    };
    writeln!(text, "DHCP={dhcp}").unwrap_or_default();
    for address in &interface.addresses {
        writeln!(text, "Address={address}").unwrap_or_default();
    }
    for vlan in all.iter().filter(|vlan| matches!(&vlan.kind, Kind::Vlan { on, .. } if *on == interface.name))
    {
        writeln!(text, "VLAN={}", vlan.name).unwrap_or_default();
    }
    offers(&mut text, interface, dns);
    for route in &interface.routes {
        write!(text, "\n[Route]\nDestination={}\nGateway={}\n", route.to, route.via).unwrap_or_default();
    }
    text
}

/// What the router offers to others on the interface.
fn offers(text: &mut String, interface: &Interface, dns: &[IpAddr]) {
    let list = |v4: bool| {
        let of_family = dns.iter().filter(|address| address.is_ipv4() == v4).map(IpAddr::to_string);
        of_family.collect::<Vec<_>>().join(" ")
    };
    if interface.router_advertisements {
        text.push_str("IPv6SendRA=yes\n");
    }
    if interface.dhcp_server {
        text.push_str("DHCPServer=yes\n");
    }
    if interface.router_advertisements {
        let dns = list(false);
        let emits = if dns.is_empty() { "EmitDNS=no".to_owned() } else { format!("DNS={dns}") };
        write!(text, "\n[IPv6SendRA]\n{emits}\n").unwrap_or_default();
        for net in interface.addresses.iter().filter(|net| net.addr().is_ipv6()) {
            write!(text, "\n[IPv6Prefix]\nPrefix={}\n", net.trunc()).unwrap_or_default();
        }
    }
    if interface.dhcp_server {
        let dns = list(true);
        let emits = if dns.is_empty() { "EmitDNS=no".to_owned() } else { format!("DNS={dns}") };
        write!(text, "\n[DHCPServer]\n{emits}\n").unwrap_or_default();
    }
}
