//! The appliance as a router: VLANs of a seed, the native fast path beside targets, and an operator at its console.
//!
//! One machine of its own. Its first card has two VLANs: the client's, and that of a neighbour who has taken the client's
//! address ([`portreeve_vm_tests::vlans`]). Both cards have the fast path in their driver.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{
    CLIENT4, ECHO_PORT, GATEWAY_WAN4, GATEWAY_WAN6, GATEWAY4, GATEWAY6, METRICS_PORT, OPEN4, OPEN6, at,
};
use portreeve_tests::{Companion, Finished, Netns, run};
use portreeve_vm_tests::appliance::Firmware;
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::console::Ready;
use portreeve_vm_tests::image::Image;
use portreeve_vm_tests::seed::{CARDS, break_glass};
use portreeve_vm_tests::vlans::{CLIENT_VLAN, GATEWAY_NEIGHBOUR4, NEIGHBOUR_VLAN, NEIGHBOUR4};

use crate::MachineCase;
use crate::lane::Machine;
use crate::scene::LIMIT;
use crate::shared_address;

pub(crate) const CASES: &[MachineCase<Router>] = &[
    ("router_lets_the_break_glass_account_in", lets_the_break_glass_account_in),
    ("router_serves_vlans_and_each_address_in_its_own", serves_vlans),
    ("router_forwards_natively_around_targets", forwards_natively),
    ("router_follows_a_policy_reload", follows_a_reload),
];

const ACCOUNT: &str = "keeper";
const PASSWORD: &str = "open, says the keeper";
pub(crate) const TARGETS: [&str; 2] = ["alice@10.1.2.3", "alice@fd00:1:2::3"];
/// How often something is sent to and fro.
const ROUNDS: u32 = 50;
/// What a client waits for that gets no answer.
const SILENCE: Duration = Duration::from_secs(4);

/// The machine.
pub(crate) struct Router {
    pub(crate) bed: Bed,
    ready: Ready,
    logged_in: bool,
}

impl Machine for Router {
    fn start() -> Result<Self> {
        let image = Image::built_last()?;
        let firmware = Firmware::Direct {
            image: image.clone(),
            more: "systemd.journald.forward_to_console=1".to_owned(),
        };
        let mut bed = Bed::in_vlans("router", firmware, &image.disk(), &seed()?)?;
        let ready = bed.boot()?;
        Ok(Self { bed, ready, logged_in: false })
    }

    fn said(&mut self) -> String {
        let journal = self.run("journalctl --no-pager --output=short-monotonic --lines=40");
        journal.unwrap_or_else(|error| format!("no journal: {error:#}"))
    }

    fn stop(self) -> Result<()> {
        self.bed.stop()
    }
}

impl Router {
    /// Runs a command on the console, logged in if need be.
    pub(crate) fn run(&mut self, line: &str) -> Result<String> {
        if !self.logged_in {
            self.logged_in = self.bed.appliance()?.log_in(ACCOUNT, PASSWORD)?;
            ensure!(self.logged_in, "the account is refused");
        }
        self.bed.appliance()?.run(line)?.success().with_context(|| line.to_owned())
    }

    /// Runs `ssh ARGS` in a namespace.
    pub(crate) fn ssh(&self, netns: &Netns, args: &[&str]) -> Result<Finished> {
        run(self.bed.ssh_in(netns, "ssh").args(args), b"", LIMIT)
    }

    pub(crate) fn client(&self) -> &Netns {
        &self.bed.topology().client
    }

    /// What the metrics say of a name with its labels; 0 of what is not there yet.
    fn metric(&self, name: &str) -> Result<f64> {
        let url = format!("http://{GATEWAY4}:{METRICS_PORT}/metrics");
        let text =
            run(self.client().command("curl").args(["-sf", "-m", "10", &url]), b"", LIMIT)?.success()?;
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(found.map(str::parse).transpose()?.unwrap_or_default())
    }

    /// Sends to and fro between the client and the service of a host that is no target.
    fn echo(&self, to: std::net::SocketAddr) -> Result<()> {
        let mut stream = self.client().connect_within(to, LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        for round in 0..ROUNDS {
            let mut back = [0; 4];
            stream.write_all(&round.to_be_bytes())?;
            stream.read_exact(&mut back).with_context(|| format!("{to}: answer {round}"))?;
            ensure!(back == round.to_be_bytes(), "{to}: {back:?} is another answer");
        }
        Ok(())
    }
}

fn seed() -> Result<String> {
    let account = break_glass(ACCOUNT, PASSWORD)?;
    let [(lan, lan_mac), (wan, wan_mac)] = CARDS;
    Ok(format!(
        "{account}[firewall]\ndrop_forwarded_to_targets = false\nopen = [{{ protocol = \"vrrp\" }}]\n\
         [routing]\nkeepalived = \"\"\"\n{}\"\"\"\n\
         [gateway.datapath]\n\
         interfaces = [\"{lan}\", \"{lan}.{CLIENT_VLAN}\", \"{lan}.{NEIGHBOUR_VLAN}\", \"{wan}\"]\nfast_path = {{ {lan} = \"native\", {wan} = \"native\" }}\n\
         [[interfaces]]\nname = \"{lan}\"\nmac = \"{lan_mac}\"\n\
         [[interfaces]]\nname = \"{lan}.{CLIENT_VLAN}\"\nvlan = {{ on = \"{lan}\", id = {CLIENT_VLAN} }}\n\
         addresses = [\"{GATEWAY4}/24\", \"{GATEWAY6}/64\"]\n\
         [[interfaces]]\nname = \"{lan}.{NEIGHBOUR_VLAN}\"\nvlan = {{ on = \"{lan}\", id = {NEIGHBOUR_VLAN} }}\n\
         addresses = [\"{GATEWAY_NEIGHBOUR4}/24\"]\n\
         [[interfaces]]\nname = \"{wan}\"\nmac = \"{wan_mac}\"\n\
         addresses = [\"{GATEWAY_WAN4}/24\", \"{GATEWAY_WAN6}/64\"]\n",
        shared_address::keepalived(&format!("{lan}.{CLIENT_VLAN}"))
    ))
}

fn lets_the_break_glass_account_in(router: &mut Router) -> Result<()> {
    if !router.logged_in {
        ensure!(!router.bed.appliance()?.log_in(ACCOUNT, "another word")?, "any password will do");
        ensure!(!router.bed.appliance()?.log_in("root", "")?, "root has no password");
    }
    let who = router.run("id -u; id -un")?;
    ensure!(who == "0\nkeeper" || who == "0\nroot", "{who:?}");
    Ok(())
}

/// Both families from the client's VLAN. A neighbour is not known by the own address, and is nobody by the client's.
fn serves_vlans(router: &mut Router) -> Result<()> {
    for target in TARGETS {
        let out =
            router.ssh(router.client(), &["-o", "LogLevel=ERROR", target, "echo from a VLAN"])?.success()?;
        ensure!(out == "from a VLAN\n", "{target}: {out:?}");
    }
    let neighbour = router.bed.vlans()?.neighbour.clone();
    let as_neighbour = router.ssh(&neighbour, &["-b", &NEIGHBOUR4.to_string(), TARGETS[0], "true"])?;
    let told = as_neighbour.err();
    ensure!(!as_neighbour.status.success() && told.contains(&NEIGHBOUR4.to_string()), "{told}");
    let dropped = "portreeve_datapath_packets_total{reason=\"dropped_reverse_path\"}";
    let before = router.metric(dropped)?;
    let silence = format!("ConnectTimeout={}", SILENCE.as_secs());
    let args = ["-b", &CLIENT4.to_string(), "-o", &silence, TARGETS[0], "true"];
    let as_client = router.ssh(&neighbour, &args)?;
    ensure!(as_client.err().contains("timed out"), "{as_client:?}");
    ensure!(router.metric(dropped)? > before, "the neighbour's packets were dropped for no such reason");
    Ok(())
}

/// What is no target's is forwarded in the driver, both ways; targets are intercepted all the same.
fn forwards_natively(router: &mut Router) -> Result<()> {
    for (card, _) in CARDS {
        let runs = |mode: &str| {
            router.ready.programs.iter().any(|program| program.interface == card && program.mode == mode)
        };
        ensure!(runs("tcx") && runs("xdp-native"), "{card}: {:?}", router.ready);
    }
    let (forwarded, target) = (
        "portreeve_fast_path_frames_total{reason=\"forwarded\"}",
        "portreeve_fast_path_frames_total{reason=\"passed_target\"}",
    );
    for to in [at(OPEN4, ECHO_PORT), at(OPEN6, ECHO_PORT)] {
        let before = router.metric(forwarded)?;
        router.echo(to)?;
        let grown = router.metric(forwarded)? - before;
        ensure!(grown >= f64::from(2 * ROUNDS), "{to}: {grown} frames of {ROUNDS} rounds took the fast path");
    }
    let (passed, served) = (router.metric(target)?, "portreeve_connections_total{outcome=\"closed\"}");
    let before = router.metric(served)?;
    router.ssh(router.client(), &["-o", "LogLevel=ERROR", TARGETS[0], "true"])?.success()?;
    ensure!(router.metric(target)? > passed, "frames of a target were not seen by the fast path");
    until("the session's outcome", LIMIT, || Ok((router.metric(served)? > before).then_some(())))
}

/// An operator takes a login away: who has it is out, and is denied. A policy with an error changes nothing and is told.
fn follows_a_reload(router: &mut Router) -> Result<()> {
    let edit = |from: &str, to: &str| {
        format!("sed -i 's/{from}/{to}/' /etc/portreeve/policy.toml && systemctl reload portreeve@boot")
    };
    let (granted, withdrawn) = ("usernames = \\[\"alice\"\\]", "usernames = [\"carol\"]");
    let mut session = session(router)?;
    router.run(&edit(granted, withdrawn))?;
    let status = session.wait(LIMIT).context("the session of whom the policy grants nothing more")?;
    ensure!(!status.success(), "the session ended as if it were done");
    let mut told = String::new();
    session.child().stderr.take().context("no pipe")?.read_to_string(&mut told)?;
    ensure!(told.contains("policy"), "its user was told {told:?}");
    let denied = router.ssh(router.client(), &[TARGETS[0], "true"])?;
    ensure!(!denied.status.success() && denied.err().contains("alice"), "{denied:?}");

    let rejected = "portreeve_policy_reloads_total{result=\"rejected\"}";
    let before = router.metric(rejected)?;
    router.run("cp -a /etc/portreeve/policy.toml /var/lib/portreeve/good")?;
    router.run("echo 'nonsense = 1' >/etc/portreeve/policy.toml && systemctl reload portreeve@boot")?;
    until("the refusal in the metrics", LIMIT, || Ok((router.metric(rejected)? > before).then_some(())))?;
    ensure!(router.metric("portreeve_policy_rejected")? >= 1.0, "the gauge of a refused policy is 0");
    let journal = router.run("journalctl --no-pager --output=cat --unit=portreeve@boot")?;
    ensure!(journal.contains("the old policy stays in force") && journal.contains("nonsense"), "{journal}");
    let denied = router.ssh(router.client(), &[TARGETS[0], "true"])?;
    ensure!(denied.err().contains("alice"), "another policy than the old one is in force: {denied:?}");

    router.run("cp -a /var/lib/portreeve/good /etc/portreeve/policy.toml")?;
    router.run(&edit("usernames = \\[\"carol\"\\]", "usernames = [\"alice\"]"))?;
    until("the grant", LIMIT, || {
        Ok(router
            .ssh(router.client(), &["-o", "LogLevel=ERROR", TARGETS[0], "true"])?
            .status
            .success()
            .then_some(()))
    })?;
    ensure!(router.metric("portreeve_policy_rejected")? < 1.0, "the policy is good again");
    Ok(())
}

/// A session that goes on, seen to be served.
fn session(router: &Router) -> Result<Companion> {
    let mut command = router.bed.client_ssh("ssh");
    command.args([TARGETS[0], "echo on; exec cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut session = Companion::spawn(&mut command)?;
    let mut said = [0; 3];
    session.child().stdout.as_mut().context("no pipe")?.read_exact(&mut said).context("the session")?;
    ensure!(&said == b"on\n", "{said:?}");
    Ok(session)
}
