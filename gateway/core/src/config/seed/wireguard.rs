//! `wireguard` of an interface: its keys and peers, as files of systemd-networkd (systemd.netdev(5)).
//!
//! Secrets are not in files that others read: they are credentials, which the service manager hands to networkd
//! (systemd.system-credentials(7)). A key that the seed does not give is made by the caller.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use super::super::reader::{Object, Problems};
use super::super::tree::Node;
use super::{File, host};

const CREDENTIALS: &str = "/run/credstore";

/// What a WireGuard interface has beside addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WireGuard {
    pub(super) listen_port: u16,
    /// Absent: made at the first start.
    pub(super) private_key: Option<Secret>,
    peers: Vec<Peer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Peer {
    name: String,
    public_key: String,
    preshared_key: Option<Secret>,
    /// Where it may send from, and what is sent to it.
    allowed_ips: Vec<IpNet>,
    endpoint: Option<String>,
    keepalive: Option<u16>,
}

/// A key that nobody else may know.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

pub(super) fn read(node: &Node<'_>, problems: &Problems) -> Option<WireGuard> {
    let object = Object::open(node, problems, &["listen_port", "private_key", "peers"])?;
    let listen_port = object
        .need("listen_port", "listen_port = 51820")
        .and_then(|node| problems.integer(node, 1..=u16::MAX));
    let mut peers: Vec<Peer> = Vec::new();
    for node in object.list("peers") {
        let Some(peer) = read_peer(node, problems) else { continue };
        for other in &peers {
            // The kernel would take it away from the first without a word.
            for net in peer.allowed_ips.iter().filter(|net| other.allowed_ips.contains(net)) {
                problems.error(node, format_args!("{net} is an address of {:?} already", other.name));
            }
            if other.public_key == peer.public_key {
                problems.error(node, format_args!("{:?} has this public key already", other.name));
            }
        }
        peers.push(peer);
    }
    let private_key = secret(&object, "private_key", problems);
    Some(WireGuard { listen_port: listen_port?, private_key, peers })
}

fn read_peer(node: &Node<'_>, problems: &Problems) -> Option<Peer> {
    const KEYS: [&str; 7] =
        ["name", "public_key", "preshared_key", "allowed_ips", "endpoint", "keepalive", "identity"];
    let object = Object::open(node, problems, &KEYS)?;
    // Whose it is goes into the policy.
    object.name("identity");
    let name = object.need_name("name", "name = \"laptop of alice\"").map(str::to_owned);
    let public_key = object
        .need("public_key", "public_key = \"KEY\", as `wg pubkey` prints it")
        .and_then(|node| problems.parsed(node, key));
    let allowed_ips = object
        .need("allowed_ips", "allowed_ips = [\"10.66.0.2\"]")
        .map(|node| problems.list(node))
        .unwrap_or_default();
    Some(Peer {
        preshared_key: secret(&object, "preshared_key", problems),
        allowed_ips: allowed_ips
            .iter()
            .filter_map(|node| problems.parsed(node, crate::prefix::parse))
            .collect(),
        endpoint: object.find("endpoint").and_then(|node| problems.parsed(node, endpoint)),
        keepalive: object.find("keepalive").and_then(|node| problems.integer(node, 1..=u16::MAX)),
        name: name?,
        public_key: public_key?,
    })
}

fn secret(object: &Object<'_>, name: &str, problems: &Problems) -> Option<Secret> {
    object.find(name).and_then(|node| problems.parsed(node, key)).map(Secret)
}

/// 32 bytes; the text may be a secret, and is not repeated.
fn key(text: &str) -> Result<String, &'static str> {
    match STANDARD.decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(text.to_owned()),
        Ok(_) | Err(_) => {
            Err("this is no key of WireGuard: 44 characters, as `wg genkey` and `wg pubkey` print them")
        }
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    let wrong =
        || format!("{text:?} is no endpoint: write it as \"192.0.2.7:51820\" or \"[2001:db8::7]:51820\"");
    let (at, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let inner = at.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_good = host::server(inner.unwrap_or(at)).is_ok() && (inner.is_some() || !at.contains(':'));
    if is_good && port.parse::<u16>().is_ok_and(|port| port > 0) { Ok(text.to_owned()) } else { Err(wrong()) }
}

impl WireGuard {
    /// The description of the device, as the text of `STEM.netdev`.
    pub(super) fn device(&self, name: &str, stem: &str) -> String {
        let mut text = format!(
            "[NetDev]\nName={name}\nKind=wireguard\n\n[WireGuard]\nPrivateKey=@{}\nListenPort={}\nRouteTable=main\n",
            private(stem),
            self.listen_port
        );
        for (index, peer) in self.peers.iter().enumerate() {
            // Writing to a String cannot fail.
            write!(text, "\n# {}\n[WireGuardPeer]\nPublicKey={}\n", peer.name, peer.public_key)
                .unwrap_or_default();
            if peer.preshared_key.is_some() {
                writeln!(text, "PresharedKey=@{}", preshared(stem, index)).unwrap_or_default();
            }
            for net in &peer.allowed_ips {
                writeln!(text, "AllowedIPs={net}").unwrap_or_default();
            }
            if let Some(endpoint) = &peer.endpoint {
                writeln!(text, "Endpoint={endpoint}").unwrap_or_default();
            }
            if let Some(seconds) = peer.keepalive {
                writeln!(text, "PersistentKeepalive={seconds}").unwrap_or_default();
            }
        }
        text
    }

    /// Its secrets; `made` is the private key where the seed has none.
    pub(super) fn credentials(&self, stem: &str, made: Option<&str>) -> Vec<File> {
        let own = self.private_key.as_ref().map(|key| key.0.as_str()).or(made);
        let own = own.map(|key| (private(stem), key));
        let shared = self.peers.iter().enumerate().filter_map(|(index, peer)| {
            Some((preshared(stem, index), peer.preshared_key.as_ref()?.0.as_str()))
        });
        let file = |(name, text): (String, &str)| File {
            path: format!("{CREDENTIALS}/{name}"),
            mode: 0o600,
            text: text.to_owned(),
        };
        own.into_iter().chain(shared).map(file).collect()
    }
}

fn private(stem: &str) -> String {
    format!("network.wireguard.private.{stem}")
}

fn preshared(stem: &str, peer: usize) -> String {
    format!("network.wireguard.preshared.{stem}.{peer}")
}
