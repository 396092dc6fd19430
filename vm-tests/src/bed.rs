//! An appliance between a client and a server: the testbed of package portreeve-tests with a machine as its router.
//!
//! The server is a real sshd that trusts the appliance's CA, which the seed gives. Names, addresses and the way down are
//! the testbed's: whichever way the value or its process ends, its keeper ends what runs in the namespaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::net::if_::if_nametoindex;
use portreeve_tests::Netns;
use portreeve_tests::deadline::until;
use portreeve_tests::gateway::GatewayFiles;
use portreeve_tests::keeper::{self, Keeper, Record};
use portreeve_tests::requirement;
use portreeve_tests::server::Server;
use portreeve_tests::testbed::new_id;
use portreeve_tests::topology::{End, Topology};

use crate::appliance::{Appliance, Card, CardEnd, Firmware, Hardware};
use crate::console::{Missed, Ready};
use crate::devices::Devices;
use crate::seed::CARDS;
use crate::vlans::Vlans;
use crate::{disk, kernels, seed};

/// How long QEMU may take to open the taps.
const TAPS: Duration = Duration::from_secs(20);

/// The machine, and the hosts at its ends.
#[derive(Debug)]
pub struct Bed {
    dir: PathBuf,
    topology: Topology,
    files: GatewayFiles,
    hardware: Hardware,
    appliance: Option<Appliance>,
    server: Option<Server>,
    vlans: Option<Vlans>,
    // Last: it must end what the fields above have started.
    keeper: Arc<Keeper>,
}

impl Bed {
    /// Makes hosts, keys, seed and disk; `name` names the console's file, `more` is laid over the seed. Nothing runs.
    ///
    /// # Errors
    /// What the machine lacks, or what cannot be made; nothing is left behind.
    pub fn new(name: &str, firmware: Firmware, base: &Path, more: &str) -> Result<Self> {
        Self::make(name, firmware, base, more, false)
    }

    /// As [`Bed::new`], with the client in a VLAN of the first card and a neighbour in another: [`Vlans`]. The devices of the VLANs
    /// are `more`'s to make.
    ///
    /// # Errors
    /// As [`Bed::new`].
    pub fn in_vlans(name: &str, firmware: Firmware, base: &Path, more: &str) -> Result<Self> {
        Self::make(name, firmware, base, more, true)
    }

    fn make(name: &str, firmware: Firmware, base: &Path, more: &str, in_vlans: bool) -> Result<Self> {
        requirement::check()?;
        let binary = requirement::gateway_binary(None)?;
        let _open = keeper::starting()?;
        keeper::remove_leftovers()?;
        let id = new_id()?;
        fs::create_dir_all(kernels::directory())?;
        let dir = kernels::directory().canonicalize()?.join(format!("bed-{id}"));
        fs::create_dir(&dir)?;
        let topology = Topology::named(&id);
        let neighbour = in_vlans.then(|| Vlans::neighbour(&id));
        let namespaces = [topology.names(), neighbour.iter().map(|netns| netns.name().to_owned()).collect()];
        let record = Record { id, dir: dir.clone(), keep_dir: false, namespaces: namespaces.concat() };
        let keeper = Keeper::start(&record)?;
        topology.build_apart()?;
        let vlans = neighbour.map(|netns| Vlans::build(&topology, netns, &dir)).transpose()?;
        let files = GatewayFiles::prepare(&dir.join("gateway"), binary, None, None)?;
        Server::prepare(&dir.join("server"), "")?;
        let volume = seed::volume(&seed::text(&files, more)?, &dir)?;
        let disk = dir.join("disk.qcow2");
        disk::overlay(base, &disk)?;
        let hardware = Hardware {
            firmware: firmware.with_variables_in(&dir)?,
            disk,
            seed: Some(volume),
            volumes: Vec::new(),
            devices: Devices::default(),
            tpm: None,
            netns: topology.gateway.clone(),
            cards: cards(in_vlans.then_some(&dir)),
            dir: dir.clone(),
            console: kernels::directory().join(format!("{name}.console")),
        };
        let bed = Self { dir, topology, files, hardware, appliance: None, server: None, vlans, keeper };
        bed.write_client_files()?;
        Ok(bed)
    }

    /// Switches the machine on, plugs its cards, and starts the server if it does not run.
    ///
    /// # Errors
    /// When a part of that fails.
    pub fn switch_on(&mut self) -> Result<()> {
        let mut appliance = self.hardware.switch_on()?;
        for (card, end) in self.hardware.cards.iter().zip([End::Client, End::Server]) {
            let CardEnd::Tap(tap) = &card.end else { continue };
            let there = || self.topology.gateway.enter(|| Ok(if_nametoindex(tap.as_str()).ok()));
            until("QEMU's tap", TAPS, there).with_context(|| appliance.console().tail())?;
            self.topology.plug(end, tap)?;
        }
        self.appliance = Some(appliance);
        if self.server.is_none() {
            let server = Server::start(&self.topology.server, &self.dir.join("server"))?;
            server.trust(&self.files.ca_public_key()?)?;
            self.server = Some(server);
        }
        Ok(())
    }

    /// Switches the machine on and waits until its gateway serves. A machine that says nothing in time is tried once
    /// more, which is told; any other failure is final.
    ///
    /// # Errors
    /// Why it does not serve, with the end of its console.
    pub fn boot(&mut self) -> Result<Ready> {
        self.switch_on()?;
        match self.appliance()?.wait_for_ready() {
            Err(Missed::TimedOut(limit)) => {
                say(&format!("{}: not ready within {limit:?}: once more", self.hardware.console.display()));
                self.cut()?;
                self.switch_on()?;
                self.ready()
            }
            Ok(ready) => Ok(ready),
            Err(missed) => Err(missed).with_context(|| self.tail()),
        }
    }

    /// Waits until the gateway of a machine that is on serves.
    ///
    /// # Errors
    /// As [`Bed::boot`].
    pub fn ready(&mut self) -> Result<Ready> {
        let ready = self.appliance()?.wait_for_ready();
        ready.with_context(|| self.tail())
    }

    /// The machine.
    ///
    /// # Errors
    /// When it is off.
    pub fn appliance(&mut self) -> Result<&mut Appliance> {
        self.appliance.as_mut().context("the machine is off")
    }

    /// Cuts the machine's power.
    ///
    /// # Errors
    /// When it is off.
    pub fn cut(&mut self) -> Result<()> {
        self.appliance.take().context("the machine is off")?.cut();
        Ok(())
    }

    /// Shuts the machine down in order.
    ///
    /// # Errors
    /// When it does not end.
    pub fn shut_down(&mut self) -> Result<()> {
        self.appliance.take().context("the machine is off")?.shut_down()
    }

    /// Its hosts.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Its VLANs, if it was made with any.
    ///
    /// # Errors
    /// When it was not.
    pub fn vlans(&self) -> Result<&Vlans> {
        self.vlans.as_ref().context("a bed without VLANs")
    }

    /// Keys that the seed gives, and the `portreeve` program of the host.
    pub fn files(&self) -> &GatewayFiles {
        &self.files
    }

    /// What is switched on, to be changed while it is off.
    pub fn hardware_mut(&mut self) -> &mut Hardware {
        &mut self.hardware
    }

    /// The server.
    ///
    /// # Errors
    /// Before the machine was switched on.
    pub fn server(&self) -> Result<&Server> {
        self.server.as_ref().context("no server runs")
    }

    /// Its directory, which goes with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `ssh`, `scp` or `sftp` in the client's namespace with the client's configuration.
    pub fn client_ssh(&self, program: &str) -> Command {
        self.ssh_in(&self.topology.client, program)
    }

    /// The same in another namespace.
    pub fn ssh_in(&self, netns: &Netns, program: &str) -> Command {
        let mut command = netns.command(program);
        command.env_remove("SSH_AUTH_SOCK").arg("-F").arg(self.dir.join("client/ssh_config"));
        command
    }

    fn write_client_files(&self) -> Result<()> {
        let dir = self.dir.join("client");
        fs::create_dir(&dir)?;
        let known_hosts = dir.join("known_hosts");
        let config = format!(
            "UserKnownHostsFile \"{}\"\nGlobalKnownHostsFile none\nStrictHostKeyChecking accept-new\n",
            known_hosts.display()
        );
        Ok(fs::write(dir.join("ssh_config"), config)?)
    }

    fn tail(&self) -> String {
        self.appliance.as_ref().map(Appliance::tail).unwrap_or_default()
    }

    /// Takes everything down and says whether all is gone.
    ///
    /// # Errors
    /// When something is left behind.
    pub fn stop(mut self) -> Result<()> {
        self.appliance = None;
        let down = self.keeper.tear_down();
        if self.dir.exists() {
            bail!("{} is left", self.dir.display());
        }
        down
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.appliance = None;
        self.keeper.tear_down().ok();
    }
}

/// All with taps, which have these names while they are QEMU's own; or the first at the switch whose sockets are in `trunk`.
fn cards(trunk: Option<&PathBuf>) -> Vec<Card> {
    let end = |name: &str| match trunk {
        Some(dir) if name == CARDS[0].0 => Vlans::trunk(dir),
        _ => CardEnd::Tap(format!("vm-{name}")),
    };
    CARDS.iter().map(|(name, mac)| Card { address: (*mac).to_owned(), end: end(name) }).collect()
}

#[expect(clippy::print_stderr, reason = "a second try is to be seen in what a test says")]
fn say(text: &str) {
    eprintln!("{text}");
}
