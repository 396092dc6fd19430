//! Client, gateway and server as network namespaces, the gateway's default route to the server, and a
//! bpffs; gone when dropped.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use portreeve_tests::netns::Netns;
use portreeve_tests::topology::Topology;
use tempfile::TempDir;

pub(crate) struct World {
    pub(crate) topology: Topology,
    directory: TempDir,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        let topology = Topology::named(&format!("ptb{}", std::process::id()));
        let world = Self { topology, directory: TempDir::new()? };
        fs::create_dir(world.bpffs())?;
        mount(Some("bpf"), &world.bpffs(), Some("bpf"), MsFlags::empty(), None::<&str>)?;
        world.topology.build()?;
        let Topology { client, gateway, server } = &world.topology;
        for device in ["lan0", "wan0"] {
            run(gateway, &format!("ethtool -K {device} rxvlan off rx-vlan-stag-hw-parse off gro on"))?;
        }
        run(server, "ip link set eth0 mtu 1500")?;
        let (next, lan) = (mac(server, "eth0")?, mac(client, "eth0")?);
        for words in [
            format!("ip neigh replace 10.1.2.4 lladdr {next} dev wan0 nud permanent"),
            format!("ip neigh replace fd00:1:2::4 lladdr {next} dev wan0 nud permanent"),
            format!("ip neigh replace 10.1.1.2 lladdr {lan} dev lan0 nud permanent"),
            format!("ip neigh replace fd00:1:1::2 lladdr {lan} dev lan0 nud permanent"),
            "ip route replace default via 10.1.2.4".to_owned(),
            "ip -6 route replace default via fd00:1:2::4".to_owned(),
            "ip route replace 10.3.0.0/16 via 10.1.1.2".to_owned(),
        ] {
            run(gateway, &words)?;
        }
        Ok(world)
    }

    pub(crate) fn pin_dir(&self) -> PathBuf {
        self.bpffs().join("portreeve")
    }

    fn bpffs(&self) -> PathBuf {
        self.directory.path().join("bpffs")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in self.topology.names() {
            drop(Command::new("ip").args(["netns", "del", &name]).status());
        }
        umount2(&self.bpffs(), MntFlags::MNT_DETACH).unwrap_or_default();
    }
}

/// Runs a shell command in a namespace.
pub(crate) fn run(netns: &Netns, words: &str) -> Result<String> {
    let output = netns.command("sh").args(["-c", words]).output().context("sh")?;
    ensure!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn mac(netns: &Netns, device: &str) -> Result<String> {
    let shown = run(netns, &format!("ip -o link show {device}"))?;
    let mut words = shown.split_whitespace().skip_while(|word| *word != "link/ether");
    Ok(words.nth(1).context("no hardware address")?.to_owned())
}

/// Hardware addresses of a frame from the client to the gateway, destination first.
pub(crate) fn macs(topology: &Topology) -> Result<[[u8; 6]; 2]> {
    let parse = |text: String| -> Result<[u8; 6]> {
        let bytes: Result<Vec<u8>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
        bytes?.try_into().ok().context("a hardware address")
    };
    Ok([parse(mac(&topology.gateway, "lan0")?)?, parse(mac(&topology.client, "eth0")?)?])
}
