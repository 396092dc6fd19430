//! The measurements of `cargo xtask bench datapath`.
//!
//! `datapath-cost OBJECT BENCH_OBJECT ROUNDS REPEAT FRAMES SIZE..`: prints one JSON object per figure, `{"what",
//! "size", "value"}`, as it goes. Needs root. What the figures mean is in docs/benchmarks.md.

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "its output is the result, and a step that fails ends it"
)]

mod frames;
mod programs;
mod world;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use ipnet::IpNet;
use nix::net::if_::if_nametoindex;
use portreeve::datapath::Datapath;
use portreeve::listener::socket::Listeners;
use portreeve_core::config::daemon::{DatapathConfig, FastPathMode, ReversePath};
use portreeve_core::port::PortSet;
use portreeve_core::target::Steered;
use portreeve_tests::netns::{self, Netns};
use serde_json::json;

use self::frames::{Kind, MANY, PORT, TARGETS, frame, last_hop, syn};
use self::programs::{Hook, Measuring, under_test};
use self::world::{World, macs, run};

struct Arguments {
    object: PathBuf,
    bench_object: PathBuf,
    /// Rounds and runs of one frame.
    runs: (u32, u32),
    /// Frames sent through, in each of as many rounds.
    frames: u32,
    sizes: Vec<u32>,
}

struct Cost {
    arguments: Arguments,
    world: World,
    measuring: Measuring,
    macs: [[u8; 6]; 2],
    lan: u32,
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    let world = World::new()?;
    let mut measuring = Measuring::load(&arguments.bench_object)?;
    let macs = macs(&world.topology)?;
    inside(&world.topology.server, || measuring.drop_at("eth0"))?;
    // Pins, interfaces and runs are the gateway's.
    netns::join(&world.topology.gateway.path())?;
    let lan = if_nametoindex("lan0")?;
    let mut cost = Cost { arguments, world, measuring, macs, lan };
    cost.without_programs()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cost.with_programs())
}

fn arguments() -> Result<Arguments> {
    let mut words = std::env::args().skip(1);
    let mut next = || words.next().context("datapath-cost OBJECT BENCH_OBJECT ROUNDS REPEAT FRAMES SIZE..");
    let (object, bench_object) = (next()?.into(), next()?.into());
    let runs = (next()?.parse()?, next()?.parse()?);
    let frames = next()?.parse()?;
    let sizes = words.map(|word| Ok(word.parse()?)).collect::<Result<_>>()?;
    Ok(Arguments { object, bench_object, runs, frames, sizes })
}

fn say(what: &str, size: u32, value: f64) {
    println!("{}", json!({ "what": what, "size": size, "value": value }));
}

/// Calls `work` on this thread's behalf in another namespace.
fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    netns.enter(work)
}

impl Cost {
    /// What forwarding costs when nothing of ours is there.
    fn without_programs(&mut self) -> Result<()> {
        let link = self.measuring.drop_at("lan0")?;
        self.forward("sent and dropped at once", Kind::OtherPort, 0)?;
        self.measuring.undo_drop(link)?;
        self.forward("forwarded by the kernel", Kind::OtherPort, 0)?;
        let gateway = self.world.topology.gateway.clone();
        run(
            &gateway,
            "nft 'add table inet f; add chain inet f forward { type filter hook forward priority 0; }; add rule inet f forward ct state established,related,new counter accept'",
        )?;
        self.forward("forwarded by the kernel, conntrack", Kind::OtherPort, 0)?;
        run(&gateway, "nft flush ruleset")?;
        // Any rule of one's own takes the kernel off its shortest way, for good; steering needs one.
        run(&gateway, "ip rule add fwmark 1 lookup 99 priority 70")?;
        self.forward("forwarded by the kernel, a routing rule", Kind::OtherPort, 0)?;
        run(&gateway, "ip rule del priority 70")?;
        Ok(())
    }

    async fn with_programs(&mut self) -> Result<()> {
        let listeners = Listeners::bind()?;
        let datapath = self.start(false, &listeners).await?;
        self.forward("forwarded by the kernel, tc", Kind::OtherPort, 0)?;
        datapath.stop().await?;
        let mut datapath = self.start(true, &listeners).await?;
        let _accepting = listeners.into_tokio()?;
        let mut ebpf = under_test(&self.world.pin_dir(), &self.arguments.object)?;
        for size in self.arguments.sizes.clone() {
            let begin = Instant::now();
            datapath.apply(&targets(size, TARGETS))?;
            say("apply, ms", size, begin.elapsed().as_secs_f64() * 1e3);
            self.runs(&mut datapath, &mut ebpf, size)?;
            datapath.ensure_attached();
            self.forward("forwarded by xdp", Kind::OtherPort, size)?;
            datapath.ensure_attached();
            self.forward("forwarded by xdp, target port", Kind::OtherAddress, size)?;
        }
        let size = self.arguments.sizes.last().copied().unwrap_or(0);
        self.flood(size)?;
        // Half of them are others.
        let moved = Ipv4Addr::from(u32::from(TARGETS) + size / 2);
        let begin = Instant::now();
        datapath.apply(&targets(size, moved))?;
        say("apply with half changed, ms", size, begin.elapsed().as_secs_f64() * 1e3);
        datapath.stop().await?;
        Ok(())
    }

    async fn start(&self, fast: bool, listeners: &Listeners) -> Result<Datapath> {
        let (mut datapath, _) = Datapath::attach(&self.config(fast)).await?;
        datapath.listen(listeners.fds()).await?;
        Ok(datapath)
    }

    fn config(&self, fast: bool) -> DatapathConfig {
        let interfaces = ["lan0", "wan0"].map(str::to_owned);
        let modes = interfaces.clone().map(|name| (name, FastPathMode::Native));
        DatapathConfig {
            interfaces: interfaces.into(),
            pin_dir: self.world.pin_dir(),
            mark: 0x7072,
            route_table: 28_786,
            reverse_path: ReversePath::Strict,
            new_connections: 0,
            new_connections_per_source: 0,
            kernel_log: false,
            fast_path: if fast { modes.into() } else { [].into() },
            fast_path_ignores_firewall: false,
        }
    }

    /// Nanoseconds of each program by kind of packet, hot and random keys; looks at the host as a gateway does
    /// all the time.
    fn runs(&mut self, datapath: &mut Datapath, ebpf: &mut Ebpf, size: u32) -> Result<()> {
        for kind in Kind::ALL {
            for (keys, count) in [("hot", 1), ("random", MANY)] {
                let macs = self.macs;
                self.measuring.set_frames((0..count).map(|n| frame(kind, n, size, macs)))?;
                datapath.ensure_attached();
                for hook in [Hook::Tc, Hook::Xdp] {
                    let value = self.measuring.cost(ebpf, hook, self.lan, self.arguments.runs)?;
                    say(&format!("{}: {}, {keys}", hook.name(), kind.name()), size, value);
                }
                if matches!(kind, Kind::OtherPort | Kind::OtherPortV6) {
                    // Known for no target's, such a frame goes to the stack without a look at the routes.
                    self.measuring.set_frames((0..count).map(|n| last_hop(frame(kind, n, size, macs))))?;
                    let value = self.measuring.cost(ebpf, Hook::Xdp, self.lan, self.arguments.runs)?;
                    say(&format!("xdp classifies: {}, {keys}", kind.name()), size, value);
                }
            }
        }
        Ok(())
    }

    /// CPU nanoseconds of a frame from the client's device to the server's.
    fn forward(&mut self, what: &str, kind: Kind, size: u32) -> Result<()> {
        let (macs, frames) = (self.macs, self.arguments.frames);
        self.measuring.set_frames((0..1024).map(|n| frame(kind, n, size, macs)))?;
        self.send(what, size, Some(frames))
    }

    /// CPU nanoseconds of a SYN to a target from random sources, with a listener that nobody takes from.
    fn flood(&mut self, size: u32) -> Result<()> {
        let macs = self.macs;
        self.measuring.set_frames((0..MANY).map(|n| syn(n, size, macs)))?;
        self.send("SYN to a target, random sources", size, None)
    }

    fn send(&mut self, what: &str, size: u32, expected: Option<u32>) -> Result<()> {
        let (client, frames) = (self.world.topology.client.clone(), self.arguments.frames);
        let (rounds, _) = self.arguments.runs;
        let before = self.measuring.dropped()?;
        let measuring = &mut self.measuring;
        let mut costs = inside(&client, || {
            let device = if_nametoindex("eth0")?;
            // The first round warms the caches.
            (0..=rounds).map(|_| measuring.generate(device, frames)).skip(1).collect::<Result<Vec<_>>>()
        })?;
        costs.sort_by(f64::total_cmp);
        let arrived = self.measuring.dropped()? - before;
        if let Some(frames) = expected {
            let sent = u64::from(frames) * u64::from(rounds);
            ensure!(arrived * 100 >= sent * 95, "{what}: {arrived} of {sent} frames arrived");
        }
        say(what, size, costs.get(costs.len() / 2).copied().unwrap_or_default());
        Ok(())
    }
}

fn targets(size: u32, first: Ipv4Addr) -> Steered {
    let Ok(ports) = PortSet::of(PORT) else { return Steered::new() };
    let first = u32::from(first);
    (first..first + size).map(|n| (IpNet::from(IpAddr::from(Ipv4Addr::from(n))), ports.clone())).collect()
}
