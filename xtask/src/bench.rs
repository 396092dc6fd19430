//! `cargo xtask bench`: figures of the gateway beside those of other ways to the same target.
//!
//! Everything is measured in one run on one machine, in turn, and given as medians: the ratios are what
//! holds on other machines. docs/benchmarks.md says what each figure means. A figure that misses its aim
//! is shown as such and does not fail the run.

mod appliance;
mod bulk;
mod datapath;
mod latency;
mod memory;
mod process;
mod record;
mod report;
mod routes;
mod sample;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use self::report::Report;
use self::routes::{Programs, Route, Routes};
use crate::{build, setup, workspace};

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// SSH sessions: throughput, CPU time, set-up, keystrokes, memory.
    Ssh(SshArgs),
    /// Kernel programs: cost of each packet, of forwarding, and of changing targets.
    Datapath(datapath::Args),
    /// Recording: on against off, loss, sealing, recovery, typed commands.
    Record(record::Args),
    /// The appliance in a machine: boot, memory, forwarding, sessions through it.
    Appliance(appliance::Args),
}

#[derive(Debug, clap::Args)]
struct SshArgs {
    /// Fewer and shorter rounds: under three minutes once everything is built.
    #[arg(long)]
    quick: bool,
    /// A file for the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How much is measured.
struct Extent {
    bulk_rounds: usize,
    bulk_bytes: usize,
    set_up_rounds: usize,
    keystrokes: usize,
    idle_sessions: &'static [usize],
    floor_megabytes: usize,
}

const QUICK: Extent = Extent {
    bulk_rounds: 1,
    bulk_bytes: 150_000_000,
    set_up_rounds: 4,
    keystrokes: 300,
    idle_sessions: &[200],
    floor_megabytes: 1000,
};
const FULL: Extent = Extent {
    bulk_rounds: 5,
    bulk_bytes: 500_000_000,
    set_up_rounds: 20,
    keystrokes: 2000,
    idle_sessions: &[200, 2000],
    floor_megabytes: 4000,
};

/// Measures and prints.
///
/// # Errors
/// When something cannot be built, started or measured.
pub fn run(args: Args) -> Result<ExitCode> {
    let args = match args.what {
        What::Ssh(args) => args,
        What::Datapath(args) => return datapath::run(&args),
        What::Record(args) => return record::run(&args),
        What::Appliance(args) => return appliance::run(&args),
    };
    setup::ensure(setup::plan::Needs::TESTBED)?;
    let programs = build_programs()?;
    // Before anything is started: an idle session takes a descriptor here and several in the middle.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    portreeve_tests::interrupt::watch(interrupted)?;
    let routes = Routes::start(&programs)?;
    let extent = if args.quick { &QUICK } else { &FULL };
    let report = measure(&routes, &programs, extent)?;
    routes.stop()?;
    println!("{}", report.table());
    if let Some(file) = args.json {
        let text = serde_json::to_string_pretty(&report.json(&machine(args.quick)))?;
        fs::write(&file, text + "\n").with_context(|| file.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(routes: &Routes, programs: &Programs, extent: &Extent) -> Result<Report> {
    let mut report = Report::default();
    // First, while no process in the middle has memory of what went before.
    eprintln!("bench: idle sessions");
    for route in [Route::GatewayRecording, Route::Gateway, Route::RusshProxy] {
        memory::measure(routes, &mut report, route, extent.idle_sessions)?;
    }
    eprintln!("bench: set-up");
    latency::set_up(routes, &mut report, extent.set_up_rounds)?;
    eprintln!("bench: keystrokes");
    latency::keystroke(routes, &mut report, extent.keystrokes)?;
    eprintln!("bench: bulk");
    bulk::measure(routes, &mut report, extent.bulk_rounds, extent.bulk_bytes)?;
    let (speed, cpu) = floor(&programs.packet_floor, extent.floor_megabytes)?;
    report.floor(speed, cpu);
    Ok(report)
}

fn floor(program: &Path, megabytes: usize) -> Result<(f64, f64)> {
    let output = Command::new(program).arg(megabytes.to_string()).output().context("the packet floor")?;
    ensure!(output.status.success(), "the packet floor: {}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout)?;
    let figure = |name: &str| figures.get(name).and_then(Value::as_f64).context("the floor's figures");
    Ok((figure("mb_per_s")?, figure("cpu_s_per_gb")?))
}

fn build_programs() -> Result<Programs> {
    let gateway = build::gateway(&build::Args { release: true, ..build::Args::default() })?;
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--package", "portreeve-tests", "--examples"]);
    workspace::require(&mut cargo)?;
    let examples = workspace::target_dir().join("release/examples");
    Ok(Programs {
        gateway,
        russh_proxy: examples.join("russh-proxy"),
        packet_floor: examples.join("packet-floor"),
    })
}

/// What the figures depend on, for whoever compares them later.
fn machine(quick: bool) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({
        "cpu": model.map(|(_, name)| name),
        "cores": cores,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "quick": quick,
    })
}

#[expect(clippy::exit, reason = "the measurement is stuck in what the signal ends")]
fn interrupted(signal: nix::sys::signal::Signal) {
    portreeve_tests::keeper::tear_down_all().ok();
    std::process::exit(128 + signal as i32);
}
