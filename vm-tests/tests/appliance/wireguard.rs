//! Users who come in by WireGuard: their devices are peers of the appliance, and peers are identities. Its servers are
//! behind a bond.
//!
//! The client's end is wireguard-go, the appliance's that of its kernel. The appliance makes its own key, and the client
//! reads the public half where people do, on the console.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{GATEWAY_WAN4, GATEWAY_WAN6, GATEWAY4, GATEWAY6, OPEN4, SSH_PORT, at};
use portreeve_tests::{Companion, Finished, run};
use portreeve_vm_tests::appliance::Firmware;
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::image::Image;
use portreeve_vm_tests::seed::CARDS;

use crate::Case;
use crate::hosts::{Prober, Witness};
use crate::scene::LIMIT;

pub(crate) const CASES: &[Case] = &[("knows_wireguard_peers_as_users", knows_peers)];

/// The client's device.
const DEVICE: &str = "wgvm0";
const PORT: u16 = 51_820;
/// What the appliance makes of its card towards the servers.
const BOND: &str = "bond0";
/// Addresses of two devices: that of alice, who has a grant, and that of bob, who has none.
const ALICE: [&str; 2] = ["10.66.0.2", "fd66::2"];
const BOB: [&str; 2] = ["10.66.0.3", "fd66::3"];
const TARGETS: [&str; 2] = ["10.1.2.3", "fd00:1:2::3"];
/// How long no answer must come before a connection counts as closed, in seconds.
const CLOSED_AFTER: &str = "ConnectTimeout=5";

/// The machine, and the client's end of its tunnel.
struct Tunnel {
    bed: Bed,
    /// The appliance's public key.
    gateway: String,
    _device: Companion,
}

fn knows_peers() -> Result<()> {
    let mut tunnel = Tunnel::start()?;
    tunnel.become_peer("alice", ALICE)?;
    tunnel.serves_alice()?;
    tunnel.takes_no_address_of_another()?;
    tunnel.become_peer("bob", BOB)?;
    tunnel.denies_bob()?;
    tunnel.was_no_way_around()?;
    tunnel.become_peer("alice", ALICE)?;
    tunnel.is_closed_until_it_serves()?;
    tunnel.serves_alice()?;
    tunnel.bed.stop()
}

impl Tunnel {
    fn start() -> Result<Self> {
        let image = Image::built_last()?;
        let firmware = Firmware::Direct { image: image.clone(), more: String::new() };
        // The keys of the devices are there before the seed, which names their public halves.
        let keys = tempfile::tempdir()?;
        let [alice, bob] = ["alice", "bob"].map(|name| make_key(&keys.path().join(name)));
        let mut bed = Bed::new("wireguard", firmware, &image.disk(), &seed(&alice?, &bob?))?;
        for name in ["alice", "bob"] {
            fs::copy(keys.path().join(name), bed.dir().join(name))?;
        }
        let ready = bed.boot()?;
        let said = fs::read_to_string(&bed.hardware_mut().console)?;
        let told = said
            .rsplit_once("WireGuard wg0 has the public key ")
            .and_then(|(_, key)| key.split_whitespace().next());
        let gateway = told.context("no key on the console")?.to_owned();
        for interface in ["wg0", BOND] {
            let mut programs = ready.programs.iter();
            let is_there = programs.any(|program| program.interface == interface && program.mode == "tcx");
            ensure!(is_there, "{interface} has no program: {ready:?}");
        }
        let device = device(&bed)?;
        Ok(Self { bed, gateway, _device: device })
    }

    /// Makes the client's device that of somebody; both have been given the addresses of all.
    fn become_peer(&self, name: &str, [v4, v6]: [&str; 2]) -> Result<()> {
        let (key, gateway) = (self.bed.dir().join(name).display().to_string(), &self.gateway);
        self.client(&format!(
            "wg set {DEVICE} private-key {key} peer {gateway} endpoint {GATEWAY4}:{PORT} allowed-ips 0.0.0.0/0,::/0"
        ))?;
        for to in [TARGETS[0], &OPEN4.to_string()] {
            self.client(&format!("ip route replace {to}/32 dev {DEVICE} src {v4}"))?;
        }
        self.client(&format!("ip route replace {}/128 dev {DEVICE} src {v6}", TARGETS[1]))?;
        let client = &self.bed.topology().client;
        until("the way through the tunnel", LIMIT, || {
            Ok(client.connect_within(at(OPEN4, SSH_PORT), Duration::from_secs(2)).ok().map(drop))
        })
    }

    fn serves_alice(&self) -> Result<()> {
        for (target, from) in TARGETS.into_iter().zip(ALICE) {
            let said = self.ssh(from, target, "echo through the tunnel")?.success()?;
            ensure!(said == "through the tunnel\n", "{target}: {said:?}");
        }
        Ok(())
    }

    fn takes_no_address_of_another(&self) -> Result<()> {
        for (target, from) in TARGETS.into_iter().zip(BOB) {
            let told = self.ssh(from, target, "id")?;
            ensure!(!told.status.success() && told.err().contains("timed out"), "{target}: {told:?}");
        }
        Ok(())
    }

    fn denies_bob(&self) -> Result<()> {
        for (target, from) in TARGETS.into_iter().zip(BOB) {
            let told = self.ssh(from, target, "id")?;
            ensure!(!told.status.success() && told.err().contains("bob@example.com"), "{target}: {told:?}");
        }
        Ok(())
    }

    /// Only what is no target has seen a device itself.
    fn was_no_way_around(&self) -> Result<()> {
        let log = self.bed.server()?.log()?;
        let to_target =
            |line: &&str| TARGETS.iter().any(|target| line.contains(&format!(" on {target} port ")));
        for line in log.lines().filter(|line| line.starts_with("Connection from ")).filter(to_target) {
            ensure!(!line.contains("from 10.66.") && !line.contains("from fd66:"), "{line}");
        }
        Ok(())
    }

    /// The power goes, and the client never stops asking.
    fn is_closed_until_it_serves(&mut self) -> Result<()> {
        let (client, server) = (self.bed.topology().client.clone(), self.bed.topology().server.clone());
        self.bed.cut()?;
        let prober = Prober::start(&client);
        self.bed.switch_on()?;
        let [v4, v6] = ALICE.map(str::parse::<IpAddr>);
        let witness = Witness::of(&server, [v4?, v6?])?;
        self.bed.ready()?;
        until("the tunnel anew", LIMIT, || {
            Ok(client.connect_within(at(OPEN4, SSH_PORT), Duration::from_secs(2)).ok().map(drop))
        })?;
        prober.stop()?;
        let seen = witness.stop()?;
        ensure!(seen.to_targets == 0 && seen.to_open > 0, "{seen:?}");
        // What the prober has left fills the bounds of its source for a moment.
        until("a session", LIMIT, || {
            Ok(self.ssh(ALICE[0], TARGETS[0], "true")?.status.success().then_some(()))
        })
    }

    fn ssh(&self, from: &str, target: &str, command: &str) -> Result<Finished> {
        let args = ["-b", from, "-o", CLOSED_AFTER, "-l", "alice", target, command];
        run(self.bed.client_ssh("ssh").args(args), b"", LIMIT)
    }

    fn client(&self, words: &str) -> Result<()> {
        in_client(&self.bed, words)
    }
}

/// The client's device, with the addresses of both peers.
fn device(bed: &Bed) -> Result<Companion> {
    let mut command = bed.topology().client.command("wireguard-go");
    let log = fs::File::create(bed.dir().join("wireguard-go.log"))?;
    command.args(["-f", DEVICE]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let device =
        Companion::spawn(&mut command).context("Debian package wireguard-go: run `cargo xtask setup`")?;
    let asked = || Ok(in_client(bed, &format!("wg show {DEVICE} dump")).ok());
    until("the client's device", LIMIT, asked)?;
    for [v4, v6] in [ALICE, BOB] {
        in_client(bed, &format!("ip addr add {v4}/32 dev {DEVICE}"))?;
        in_client(bed, &format!("ip addr add {v6}/128 dev {DEVICE} nodad"))?;
    }
    in_client(bed, &format!("ip link set {DEVICE} up"))?;
    Ok(device)
}

fn in_client(bed: &Bed, words: &str) -> Result<()> {
    let mut words = words.split(' ');
    let mut command = bed.topology().client.command(words.next().context("no program")?);
    run(command.args(words), b"", LIMIT)?.success().map(drop)
}

/// Writes a private key, and returns its public half.
fn make_key(path: &PathBuf) -> Result<String> {
    let key = run(std::process::Command::new("wg").arg("genkey"), b"", LIMIT)?.success()?;
    fs::write(path, &key)?;
    let public = run(std::process::Command::new("wg").arg("pubkey"), key.as_bytes(), LIMIT)?.success()?;
    Ok(public.trim().to_owned())
}

/// What the seed has in place of the ordinary one: a further interface, whose peers are both users.
fn seed(alice: &str, bob: &str) -> String {
    let [(lan, lan_mac), (wan, wan_mac)] = CARDS;
    let peer = |name: &str, key: &str, [v4, v6]: [&str; 2]| {
        format!(
            "[[interfaces.wireguard.peers]]\nname = \"{name}\"\npublic_key = \"{key}\"\nallowed_ips = [\"{v4}\", \"{v6}\"]\n\
             identity = \"{name}@example.com\"\n"
        )
    };
    format!(
        "[[interfaces]]\nname = \"{lan}\"\nmac = \"{lan_mac}\"\naddresses = [\"{GATEWAY4}/24\", \"{GATEWAY6}/64\"]\n\
         [[interfaces]]\nname = \"{wan}\"\nmac = \"{wan_mac}\"\n\
         [[interfaces]]\nname = \"{BOND}\"\nbond = {{ ports = [\"{wan}\"], mode = \"active-backup\" }}\n\
         addresses = [\"{GATEWAY_WAN4}/24\", \"{GATEWAY_WAN6}/64\"]\n\
         [[interfaces]]\nname = \"wg0\"\naddresses = [\"10.66.0.1/24\", \"fd66::1/64\"]\n\
         [interfaces.wireguard]\nlisten_port = {PORT}\n{}{}\
         [gateway.datapath]\ninterfaces = [\"{lan}\", \"{BOND}\", \"wg0\"]\n\
         [[policy.identities]]\nemail = \"alice@example.com\"\ngroups = [\"staff\"]\n\
         [[policy.identities]]\nemail = \"bob@example.com\"\n",
        peer("alice", alice, ALICE),
        peer("bob", bob, BOB)
    )
}
