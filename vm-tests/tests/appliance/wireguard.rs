//! Users who come in by WireGuard: their devices are peers of the appliance, and peers are identities.
//!
//! The client's end is wireguard-go, the appliance's that of its kernel. The appliance makes its own key, and the client
//! reads the public half where people do, on the console.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{GATEWAY4, OPEN4, SSH_PORT, TARGET4, TARGET6, at};
use portreeve_tests::{Companion, Finished, Netns, run};
use portreeve_vm_tests::bed::Bed;
use tempfile::TempDir;

use crate::MachineCase;
use crate::scene::{LIMIT, Scene};

pub(crate) const CASES: &[MachineCase<Scene>] = &[("knows_wireguard_peers_as_users", knows_peers)];

/// The appliance's end, and the client's.
pub(crate) const INTERFACE: &str = "wg0";
const DEVICE: &str = "wgvm0";
const PORT: u16 = 51_820;
/// The device of a user who has a grant, and that of one who has none.
pub(crate) const ALICE: Device = Device { name: "alice", v4: "10.66.0.2", v6: "fd66::2" };
const BOB: Device = Device { name: "bob", v4: "10.66.0.3", v6: "fd66::3" };
/// The target's addresses, and one that is none.
const ALL: [IpAddr; 3] = [IpAddr::V4(TARGET4), IpAddr::V6(TARGET6), IpAddr::V4(OPEN4)];
/// How long no answer must come before a connection counts as closed, in seconds.
const CLOSED_AFTER: &str = "ConnectTimeout=5";

/// A user's device.
pub(crate) struct Device {
    name: &'static str,
    v4: &'static str,
    pub(crate) v6: &'static str,
}

/// The keys of both devices, which are there before the seed that names their public halves.
pub(crate) struct Keys {
    dir: TempDir,
    public: [String; 2],
}

/// The client's end of the tunnel, which may be either device: both have the addresses of all. Nothing is routed through it unless
/// a case does.
pub(crate) struct Tunnel {
    client: Netns,
    keys: Keys,
    /// The appliance's public key.
    gateway: String,
    _device: Companion,
}

fn knows_peers(scene: &mut Scene) -> Result<()> {
    let tunnel = &scene.tunnel;
    tunnel.enter(&ALICE, &ALL)?;
    serves(scene, &ALICE)?;
    takes_no_address_of_another(scene)?;
    tunnel.enter(&BOB, &ALL)?;
    denies(scene, &BOB)?;
    was_no_way_around(scene)?;
    tunnel.leave(&ALL)
}

impl Keys {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let make = |device: &Device| make_key(&dir.path().join(device.name));
        let public = [make(&ALICE)?, make(&BOB)?];
        Ok(Self { dir, public })
    }

    /// What the seed has of them: an interface whose peers they are.
    pub(crate) fn seed(&self) -> String {
        let peer = |Device { name, v4, v6 }: &Device, key: &str| {
            format!(
                "[[interfaces.wireguard.peers]]\nname = \"{name}\"\npublic_key = \"{key}\"\nallowed_ips = [\"{v4}\", \"{v6}\"]\n\
                 identity = \"{name}@example.com\"\n"
            )
        };
        let [alice, bob] = &self.public;
        format!(
            "[[interfaces]]\nname = \"{INTERFACE}\"\naddresses = [\"10.66.0.1/24\", \"fd66::1/64\"]\n\
             [interfaces.wireguard]\nlisten_port = {PORT}\n{}{}",
            peer(&ALICE, alice),
            peer(&BOB, bob)
        )
    }
}

impl Tunnel {
    /// Makes the client's end; the machine has told its key.
    pub(crate) fn start(bed: &mut Bed, keys: Keys) -> Result<Self> {
        let said = fs::read_to_string(&bed.hardware_mut().console)?;
        let told = said
            .rsplit_once(&format!("WireGuard {INTERFACE} has the public key "))
            .and_then(|(_, key)| key.split_whitespace().next());
        let gateway = told.context("no key on the console")?.to_owned();
        let client = bed.topology().client.clone();
        let mut command = client.command("wireguard-go");
        let log = fs::File::create(bed.dir().join("wireguard-go.log"))?;
        command.args(["-f", DEVICE]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let device =
            Companion::spawn(&mut command).context("Debian package wireguard-go: run `cargo xtask setup`")?;
        let tunnel = Self { client, keys, gateway, _device: device };
        let asked = || Ok(tunnel.client(&format!("wg show {DEVICE} dump")).ok());
        until("the client's device", LIMIT, asked)?;
        for Device { v4, v6, .. } in [ALICE, BOB] {
            tunnel.client(&format!("ip addr add {v4}/32 dev {DEVICE}"))?;
            tunnel.client(&format!("ip addr add {v6}/128 dev {DEVICE} nodad"))?;
        }
        tunnel.client(&format!("ip link set {DEVICE} up"))?;
        Ok(tunnel)
    }

    /// Makes the client's end that of a user, has these addresses reached through it, and waits until they are.
    pub(crate) fn enter(&self, device: &Device, addresses: &[IpAddr]) -> Result<()> {
        let (key, gateway) = (self.keys.dir.path().join(device.name), &self.gateway);
        self.client(&format!(
            "wg set {DEVICE} private-key {} peer {gateway} endpoint {GATEWAY4}:{PORT} allowed-ips 0.0.0.0/0,::/0",
            key.display()
        ))?;
        for to in addresses {
            let from = if to.is_ipv4() { device.v4 } else { device.v6 };
            self.client(&format!("ip route replace {to} dev {DEVICE} src {from}"))?;
        }
        addresses.iter().try_for_each(|to| self.reaches(*to))
    }

    /// Waits until something answers there.
    pub(crate) fn reaches(&self, to: IpAddr) -> Result<()> {
        until("the way through the tunnel", LIMIT, || {
            Ok(self.client.connect_within(at(to, SSH_PORT), Duration::from_secs(2)).ok().map(drop))
        })
    }

    /// Has the client reach these addresses as before.
    pub(crate) fn leave(&self, addresses: &[IpAddr]) -> Result<()> {
        addresses.iter().try_for_each(|to| self.client(&format!("ip route del {to} dev {DEVICE}")))
    }

    fn client(&self, words: &str) -> Result<()> {
        let mut words = words.split(' ');
        let mut command = self.client.command(words.next().context("no program")?);
        run(command.args(words), b"", LIMIT)?.success().map(drop)
    }
}

fn serves(scene: &Scene, device: &Device) -> Result<()> {
    for (target, from) in [(TARGET4.to_string(), device.v4), (TARGET6.to_string(), device.v6)] {
        let said = ssh(scene, from, &target, "echo through the tunnel")?.success()?;
        ensure!(said == "through the tunnel\n", "{target}: {said:?}");
    }
    Ok(())
}

fn takes_no_address_of_another(scene: &Scene) -> Result<()> {
    for (target, from) in [(TARGET4.to_string(), BOB.v4), (TARGET6.to_string(), BOB.v6)] {
        let told = ssh(scene, from, &target, "id")?;
        ensure!(!told.status.success() && told.err().contains("timed out"), "{target}: {told:?}");
    }
    Ok(())
}

fn denies(scene: &Scene, device: &Device) -> Result<()> {
    for (target, from) in [(TARGET4.to_string(), device.v4), (TARGET6.to_string(), device.v6)] {
        let told = ssh(scene, from, &target, "id")?;
        let said = told.err().contains(&format!("{}@example.com", device.name));
        ensure!(!told.status.success() && said, "{target}: {told:?}");
    }
    Ok(())
}

/// Only what is no target has seen a device itself.
fn was_no_way_around(scene: &Scene) -> Result<()> {
    let log = scene.bed.server()?.log()?;
    let targets = [TARGET4.to_string(), TARGET6.to_string()];
    let to_target = |line: &&str| targets.iter().any(|target| line.contains(&format!(" on {target} port ")));
    for line in log.lines().filter(|line| line.starts_with("Connection from ")).filter(to_target) {
        ensure!(!line.contains("from 10.66.") && !line.contains("from fd66:"), "{line}");
    }
    Ok(())
}

fn ssh(scene: &Scene, from: &str, target: &str, command: &str) -> Result<Finished> {
    scene.ssh(&["-b", from, "-o", CLOSED_AFTER, "-l", "alice", target, command], b"")
}

/// Writes a private key, and returns its public half.
fn make_key(path: &Path) -> Result<String> {
    let key = run(Command::new("wg").arg("genkey"), b"", LIMIT)?.success()?;
    fs::write(path, &key)?;
    let public = run(Command::new("wg").arg("pubkey"), key.as_bytes(), LIMIT)?.success()?;
    Ok(public.trim().to_owned())
}
