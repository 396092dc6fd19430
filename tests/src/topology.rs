//! The network of a testbed: client - gateway - server.
//!
//! ```text
//!   client            gateway                 server
//!   eth0 ------------ lan0  wan0 ------------ eth0
//!   10.1.1.2          10.1.1.1  10.1.2.1      10.1.2.3  target      fd00:1:2::3
//!   fd00:1:1::2                               10.1.2.4  no target   fd00:1:2::4
//! ```
//!
//! Owns the addresses and the making of namespaces and links. Every testbed has the same addresses;
//! only the namespaces' names differ. Removing is the keeper's.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::execute::Companion;
use crate::netns::Netns;
use crate::tun;

/// The client's address; the default policy knows the user behind it.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);
/// The client's IPv6 address; the default policy knows the user behind it.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 1, 0, 0, 0, 0, 2);
/// A second address of the client, behind which the default policy knows nobody.
pub const STRANGER4: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 9);
/// The gateway's address towards the client.
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
/// The server's address that is a target.
pub const TARGET4: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
/// The server's IPv6 address that is a target.
pub const TARGET6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 2, 0, 0, 0, 0, 3);
/// A server address that is no target.
pub const OPEN4: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 4);
/// A server IPv6 address that is no target.
pub const OPEN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 2, 0, 0, 0, 0, 4);
/// A server address where nothing listens on port 22: connections are refused.
pub const REFUSING4: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 5);
/// An address of the server's link that no host has.
pub const ABSENT4: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 99);
/// TCP port of SSH.
pub const SSH_PORT: u16 = 22;
/// TCP port of the echo service (RFC 862).
pub const ECHO_PORT: u16 = 7;
/// TCP port of the gateway's metrics.
pub const METRICS_PORT: u16 = 9470;

/// The gateway's interfaces: towards the client, towards the server.
pub const GATEWAY_INTERFACES: [&str; 2] = ["lan0", "wan0"];

/// The gateway's IPv6 address towards the client.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 1, 0, 0, 0, 0, 1);
/// The gateway's address towards the server.
pub const GATEWAY_WAN4: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 1);
/// The gateway's IPv6 address towards the server.
pub const GATEWAY_WAN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 2, 0, 0, 0, 0, 1);

/// The three namespaces.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Where users are.
    pub client: Netns,
    /// The router.
    pub gateway: Netns,
    /// Where the targets are.
    pub server: Netns,
}

/// A host at an end of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where users are.
    Client,
    /// Where the targets are.
    Server,
}

/// `address:port`.
pub fn at(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

impl Topology {
    /// Names the namespaces of testbed `id`; makes nothing.
    pub fn named(id: &str) -> Self {
        let netns = |end: char| Netns::new(format!("{id}-{end}"));
        Self { client: netns('c'), gateway: netns('g'), server: netns('s') }
    }

    /// The namespaces' names.
    pub fn names(&self) -> Vec<String> {
        [&self.client, &self.gateway, &self.server].map(|netns| netns.name().to_owned()).to_vec()
    }

    /// Makes namespaces, links, addresses and routes; the gateway forwards both families.
    ///
    /// # Errors
    /// What the kernel or a tool refused.
    pub fn build(&self) -> Result<()> {
        let (client, gateway, server) = (self.client.name(), self.gateway.name(), self.server.name());
        ip(
            &[],
            &format!(
                "netns add {client}\nnetns add {gateway}\nnetns add {server}\n\
                 link add eth0 netns {client} type veth peer name lan0 netns {gateway}\n\
                 link add eth0 netns {server} type veth peer name wan0 netns {gateway}\n"
            ),
        )?;
        for (netns, devices) in [
            (&self.client, &["all", "eth0"][..]),
            (&self.server, &["all", "eth0"]),
            (&self.gateway, &["all", "lan0", "wan0"]),
        ] {
            // Link-local addresses must be usable at once, not after duplicate address detection: a
            // router asks for neighbours from them.
            for device in devices {
                netns.sysctl(&format!("net/ipv6/conf/{device}/accept_dad"), "0")?;
            }
        }
        ip(&["-n", client], &client_host())?;
        ip(&["-n", server], &server_host())?;
        ip(&["-n", gateway], &format!("link set lo up\n{}{}", router_lan(), router_wan()))?;
        self.gateway.sysctl("net/ipv4/ip_forward", "1")?;
        self.gateway.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        self.offloads()
    }

    /// Makes the namespaces without a link between them: each gets its own by [`Topology::plug`].
    ///
    /// # Errors
    /// What the kernel or a tool refused.
    pub fn build_apart(&self) -> Result<()> {
        let names: String = self.names().iter().map(|name| format!("netns add {name}\n")).collect();
        ip(&[], &names)
    }

    /// Moves a device from the gateway's namespace to a host's, as its `eth0` with its addresses and routes.
    ///
    /// # Errors
    /// What the kernel or a tool refused.
    pub fn plug(&self, end: End, device: &str) -> Result<()> {
        let (netns, addresses) = match end {
            End::Client => (&self.client, client_host()),
            End::Server => (&self.server, server_host()),
        };
        let name = netns.name();
        ip(&["-n", self.gateway.name()], &format!("link set {device} netns {name} name eth0\n"))?;
        netns.sysctl("net/ipv6/conf/eth0/accept_dad", "0")?;
        ip(&["-n", name], &addresses)
    }

    /// Removes the link between client and gateway and makes it anew, as a hot-plugged one would be.
    ///
    /// # Errors
    /// What the kernel or a tool refused.
    pub fn relink_client(&self) -> Result<()> {
        let (client, gateway) = (self.client.name(), self.gateway.name());
        self.relink_client_by(|| {
            ip(&[], &format!("link add eth0 netns {client} type veth peer name lan0 netns {gateway}\n"))
        })?;
        self.offloads()
    }

    /// The same with a link whose packets begin with the IP header.
    ///
    /// # Errors
    /// What the kernel or a tool refused.
    pub fn relink_client_without_frames(&self) -> Result<()> {
        self.relink_client_by(|| tun::join([(&self.client, "eth0"), (&self.gateway, "lan0")]))
    }

    fn relink_client_by(&self, link: impl FnOnce() -> Result<()>) -> Result<()> {
        let (client, gateway) = (self.client.name(), self.gateway.name());
        ip(&["-n", gateway], "link del lan0\n")?;
        link()?;
        for (netns, device) in [(&self.client, "eth0"), (&self.gateway, "lan0")] {
            netns.sysctl(&format!("net/ipv6/conf/{device}/accept_dad"), "0")?;
        }
        ip(&["-n", client], &client_host())?;
        ip(&["-n", gateway], &router_lan())
    }

    /// veth leaves out checksums and segmentation that a packet rewritten or redirected on its way
    /// would need: hosts compute checksums, and receivers of redirected packets use NAPI (GRO).
    fn offloads(&self) -> Result<()> {
        offload(&[
            (&self.client, "eth0", "off"),
            (&self.server, "eth0", "off"),
            (&self.gateway, "lan0", "on"),
            (&self.gateway, "wan0", "on"),
        ])
    }
}

/// Has devices collect what they receive (GRO), and leave checksums and segmentation to others (`on`) or not.
///
/// # Errors
/// When ethtool refuses.
pub fn offload(devices: &[(&Netns, &str, &str)]) -> Result<()> {
    let mut running = Vec::new();
    for (netns, device, tx) in devices {
        let mut command = netns.command("ethtool");
        command.args(["-K", device, "gro", "on", "tx", tx]).stdout(Stdio::null());
        running.push((device, Companion::spawn(&mut command)?));
    }
    for (device, mut ethtool) in running {
        if !ethtool.wait(std::time::Duration::from_secs(60))?.success() {
            bail!("ethtool refused to set offloads of {device}");
        }
    }
    Ok(())
}

fn host(v4: &[Ipv4Addr], v6: &[Ipv6Addr], router: (Ipv4Addr, Ipv6Addr)) -> String {
    let mut lines = String::from("link set lo up\nlink set eth0 up\n");
    for address in v4 {
        lines += &format!("addr add {address}/24 dev eth0\n");
    }
    for address in v6 {
        lines += &format!("addr add {address}/64 dev eth0 nodad\n");
    }
    lines += &format!("route add default via {}\n", router.0);
    // Without a source the kernel may choose any address of the interface.
    let source = v6.first().map(|first| format!(" src {first}")).unwrap_or_default();
    lines + &format!("route add default via {}{source}\n", router.1)
}

fn server_host() -> String {
    host(&[TARGET4, OPEN4, REFUSING4], &[TARGET6, OPEN6], (GATEWAY_WAN4, GATEWAY_WAN6))
}

fn client_host() -> String {
    host(&[CLIENT4, STRANGER4], &[CLIENT6], (GATEWAY4, GATEWAY6))
}

fn router_lan() -> String {
    format!("link set lan0 up\naddr add {GATEWAY4}/24 dev lan0\naddr add {GATEWAY6}/64 dev lan0 nodad\n")
}

fn router_wan() -> String {
    format!(
        "link set wan0 up\naddr add {GATEWAY_WAN4}/24 dev wan0\naddr add {GATEWAY_WAN6}/64 dev wan0 nodad\n"
    )
}

/// Runs lines of `ip -batch`.
///
/// # Errors
/// What the kernel refused.
pub fn ip(args: &[&str], batch: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(args).args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(batch.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_by_testbed_and_side() {
        assert_eq!(Topology::named("pt12ab34").names(), ["pt12ab34-c", "pt12ab34-g", "pt12ab34-s"]);
    }
}
