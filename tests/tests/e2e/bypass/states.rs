//! The whole corpus in every state that a gateway may be in.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use portreeve_ebpf::names;
use portreeve_ebpf::targets::{
    ALL_PORTS, FAMILY_V4, PREFIX_KEY_HEAD_BITS, PortSetId, TargetKey, words_of_ipv4,
};
use portreeve_tests::deadline::until;
use portreeve_tests::frames::{self, ACK, FIN, PSH, RST, SYN, TCP, Tcp};
use portreeve_tests::topology::{SSH_PORT, TARGET4, TARGET6, at};
use portreeve_tests::{Gateway, Options, Route, Testbed, run};

use super::Check;
use super::case::{Case, marked};
use super::corpus;
use super::scene::Scene;
use crate::beds::own;
use crate::intercepted::fast_path::{fast, forwarded};
use crate::intercepted::{metric, sample};
use crate::ssh::{LIMIT, TARGET, TARGET_V6, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("what_should_arrive_without_a_gateway_does", direct),
    Check::new("nothing_passes_while_the_gateway_serves", serving),
    Check::new("nothing_passes_while_the_policy_file_is_broken", broken_policy),
    Check::new("nothing_passes_while_policies_are_reloaded", reloading),
    Check::new("nothing_passes_while_a_target_map_is_full", full_map),
    Check::new("nothing_passes_while_the_gateway_restarts", restarting),
    Check::new("nothing_passes_after_an_orderly_stop", stopped),
    Check::new("nothing_passes_after_a_kill", killed),
    Check::new("nothing_passes_while_the_gateway_cannot_start", unable_to_start),
    Check::new("nothing_passes_by_the_fast_path", fast_path),
    Check::new("nothing_passes_to_a_connection_in_time_wait", time_wait),
];

/// How often a state that changes is changed at least.
const CHANGES: usize = 6;

/// Proves the corpus and the judge.
fn direct() -> Result<()> {
    let bed = Testbed::start(Route::Direct, &Options::default())?;
    let scene = Scene::open(&bed)?;
    scene.prove(&corpus::cases(&scene.lan))
}

/// Judges the corpus, and that the programs saw every frame of it.
fn judge(bed: &Testbed) -> Result<()> {
    let scene = Scene::open(bed)?;
    let gateway = bed.gateway()?;
    let before = packets(gateway)?;
    scene.judge(&corpus::cases(&scene.lan))?;
    let seen = packets(gateway)? - before;
    ensure!(seen >= scene.sent(), "the programs saw {seen} of {} frames", scene.sent());
    Ok(())
}

/// Packets that the programs have seen so far.
fn packets(gateway: &Gateway) -> Result<u64> {
    let status = gateway.datapath_status()?;
    let packets = status["packets"].as_object().context("no counters")?;
    Ok(packets.values().filter_map(serde_json::Value::as_u64).sum())
}

fn ensure_serves(bed: &Testbed) -> Result<()> {
    for target in [TARGET, TARGET_V6] {
        ssh(bed, &[target, "true"])?.success()?;
    }
    Ok(())
}

fn serving() -> Result<()> {
    let bed = own(&Options::default())?;
    judge(&bed)?;
    ensure_serves(&bed)
}

fn broken_policy() -> Result<()> {
    let bed = own(&Options::default())?;
    refuse_policy(&bed, "targets = [ broken")?;
    judge(&bed)?;
    ensure_serves(&bed)
}

/// Writes a policy that the gateway does not take over.
fn refuse_policy(bed: &Testbed, policy: &str) -> Result<()> {
    let gateway = bed.gateway()?;
    let before = metric(gateway, sample::RELOADS_REJECTED)?;
    gateway.files().write_policy(policy)?;
    until("a refused policy", LIMIT, || {
        Ok((metric(gateway, sample::RELOADS_REJECTED)? > before).then_some(()))
    })
}

/// The testbed's policy with a target more.
fn wider(net: &str) -> String {
    let target = format!("\n[[targets]]\nhostname = \"more\"\nip.ipv4.ip_addr = \"{net}\"\n");
    portreeve_tests::template::POLICY.to_owned() + &target
}

fn reloading() -> Result<()> {
    let bed = own(&Options::default())?;
    let scene = Scene::open(&bed)?;
    let gateway = bed.gateway()?;
    beside(scene, || {
        for round in 0..CHANGES {
            let before = metric(gateway, sample::RELOADS_APPLIED)?;
            gateway.files().write_policy(&wider(&format!("10.1.2.{}", 100 + round)))?;
            until("a policy", LIMIT, || {
                Ok((metric(gateway, sample::RELOADS_APPLIED)? > before).then_some(()))
            })?;
        }
        Ok(())
    })?;
    ensure_serves(&bed)
}

/// One prefix more has no room: the gateway keeps to what it has.
fn full_map() -> Result<()> {
    let bed = own(&Options::default())?;
    fill_prefix_map(bed.gateway()?)?;
    refuse_policy(&bed, &wider("10.1.3.0/24"))?;
    let log = bed.gateway()?.log()?;
    ensure!(log.contains(names::PREFIXES), "the full map is not named: {log}");
    judge(&bed)?;
    ensure_serves(&bed)
}

/// Adds entries for addresses of nobody (RFC 1112, section 4) until there is no room.
fn fill_prefix_map(gateway: &Gateway) -> Result<()> {
    let pin = gateway.files().map_pin(names::PREFIXES)?;
    let map = MapData::from_pin(&pin).with_context(|| pin.display().to_string())?;
    let room = map.info()?.max_entries();
    let mut map: LpmTrie<MapData, TargetKey, PortSetId> = Map::LpmTrie(map).try_into()?;
    for number in 0..=room {
        let [_, b, c, d] = number.to_be_bytes();
        let address = TargetKey::new(FAMILY_V4, words_of_ipv4([240, b, c, d]));
        if map.insert(&Key::new(PREFIX_KEY_HEAD_BITS + 32, address), ALL_PORTS, 0).is_err() {
            return Ok(());
        }
    }
    bail!("{room} entries more have found room")
}

fn restarting() -> Result<()> {
    let mut bed = own(&Options::default())?;
    let scene = Scene::open(&bed)?;
    let gateway = bed.gateway_mut()?;
    beside(scene, || {
        for round in 0..CHANGES {
            if round % 2 == 0 {
                gateway.kill9()?;
            } else {
                ensure!(gateway.stop()?.success(), "the gateway did not stop in order");
            }
            gateway.launch()?;
        }
        Ok(())
    })?;
    ensure_serves(&bed)
}

/// Judges the corpus again and again, whole rounds, while `change` goes on.
fn beside(scene: Scene, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let changed = AtomicBool::new(false);
    thread::scope(|scope| {
        let judging = scope.spawn(|| {
            // The scene goes to this thread.
            let scene = scene;
            let cases = corpus::cases(&scene.lan);
            loop {
                let last = changed.load(Ordering::Relaxed);
                scene.judge(&cases)?;
                if last {
                    return Ok(());
                }
            }
        });
        let change = change();
        changed.store(true, Ordering::Relaxed);
        match judging.join() {
            Ok(judged) => judged.and(change),
            Err(_) => bail!("the judge panicked"),
        }
    })
}

fn stopped() -> Result<()> {
    let mut bed = own(&Options::default())?;
    ensure!(bed.gateway_mut()?.stop()?.success(), "the gateway did not stop in order");
    judge(&bed)?;
    bed.gateway_mut()?.launch()?;
    ensure_serves(&bed)
}

fn killed() -> Result<()> {
    let mut bed = own(&Options::default())?;
    bed.gateway_mut()?.kill9()?;
    judge(&bed)?;
    bed.gateway_mut()?.launch()?;
    ensure_serves(&bed)
}

fn unable_to_start() -> Result<()> {
    let mut bed = own(&Options::default())?;
    let gateway = bed.gateway_mut()?;
    gateway.kill9()?;
    gateway.files().write_policy("targets = [ broken")?;
    ensure!(gateway.launch().is_err(), "the gateway starts on a broken policy");
    judge(&bed)
}

/// In the mode that takes frames longer than a page, which the corpus has.
fn fast_path() -> Result<()> {
    let mut bed = fast("generic")?;
    let scene = Scene::open(&bed)?;
    let cases = corpus::cases(&scene.lan);
    scene.judge(&cases)?;
    bed.gateway_mut()?.kill9()?;
    scene.judge(&cases)?;
    ensure!(forwarded(&bed)? >= 2 * u64::try_from(cases.len())?, "the control packets took another way");
    bed.gateway_mut()?.launch()?;
    ensure_serves(&bed)
}

/// The gateway closes first, and keeps TIME_WAIT for the client's port.
fn time_wait() -> Result<()> {
    let config = Some("[limits]\nhandshake_timeout = \"1s\"\n".to_owned());
    let bed = own(&Options { config, ..Options::default() })?;
    let mut flows = Vec::new();
    for target in [TARGET4.into(), TARGET6.into()] {
        let mut stream = bed.client_netns().connect(at(target, SSH_PORT))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.read_to_end(&mut Vec::new())?;
        flows.push((stream.local_addr()?, target));
    }
    let sockets = || {
        let mut command = bed.topology().gateway.command("ss");
        run(command.args(["-Htan", "state", "time-wait"]), b"", LIMIT)?.success()
    };
    until("TIME_WAIT", LIMIT, || {
        let listed = sockets()?;
        let in_wait = |(client, _): &(SocketAddr, IpAddr)| {
            listed.split_whitespace().any(|word| word == client.to_string())
        };
        Ok(flows.iter().all(in_wait).then_some(()))
    })?;
    let scene = Scene::open(&bed)?;
    let mut cases = Vec::new();
    for (name, flags) in
        [("FIN", FIN | ACK), ("data", PSH | ACK), ("RST", RST), ("SYN", SYN), ("SYN again", SYN)]
    {
        for (client, target) in &flows {
            let segment = Tcp { src_port: client.port(), ..marked(flags) };
            let packet = frames::packet(client.ip(), *target, TCP, &segment.bytes(client.ip(), *target));
            cases.push(Case::closed(format!("{name} from {client}"), vec![scene.lan.frame(&packet)]));
        }
    }
    scene.judge(&cases)
}
