//! `cargo xtask bench record`: what recording costs, and whether anything is lost.
//!
//! Owns the order and the extent. Each measure takes the ways in turn within a round. Everything that a session
//! recorded is opened and compared with what was sent: a byte that is missing fails the run, as does a measure that
//! measured nothing. A figure that misses its aim is marked and does not.

mod crowd;
mod figures;
mod files;
mod loss;
mod parts;
mod scene;
mod streams;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::figures::Figures;
use self::scene::{Cores, Scene};
use crate::{build, setup, workspace};

/// Arguments of `cargo xtask bench record`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Fewer and shorter rounds: under two minutes once everything is built.
    #[arg(long)]
    quick: bool,
    /// Only measures whose names begin so: streams, apart, sessions, files, parts, spool, typed.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// A file for the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How much is measured.
struct Extent {
    stream_rounds: usize,
    /// How often a stream has the noise of [`scene::NOISE`] bytes.
    stream_repeats: usize,
    flood_bytes: usize,
    sessions: usize,
    session_rounds: usize,
    files: usize,
    part_rounds: usize,
    spool_files: usize,
    /// The real programs are typed at; else what was kept of that.
    typing: bool,
}

const QUICK: Extent = Extent {
    stream_rounds: 1,
    stream_repeats: 4,
    flood_bytes: 30_000_000,
    sessions: 50,
    session_rounds: 1,
    files: 1000,
    part_rounds: 3,
    spool_files: 20_000,
    typing: false,
};
const FULL: Extent = Extent {
    stream_rounds: 3,
    stream_repeats: 20,
    flood_bytes: 90_000_000,
    sessions: 500,
    session_rounds: 3,
    files: 10_000,
    part_rounds: 7,
    spool_files: 100_000,
    typing: true,
};

/// Measures and prints.
///
/// # Errors
/// When something cannot be built, started or measured, and when something that was recorded is not there.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(setup::plan::Needs::TESTBED)?;
    let gateway = build::gateway(&build::Args { release: true, ..build::Args::default() })?;
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--package", "portreeve-tests", "--example", "recording-cost"]);
    workspace::require(&mut cargo)?;
    let program = workspace::target_dir().join("release/examples/recording-cost");
    let extent = if args.quick { &QUICK } else { &FULL };
    let wanted = |name: &str| args.only.as_deref().is_none_or(|only| name.starts_with(only));
    let mut figures = Figures::default();
    if wanted("parts") {
        eprintln!("bench: parts");
        parts::costs(&program, extent.part_rounds, &mut figures)?;
    }
    if wanted("spool") {
        eprintln!("bench: a spool of many files");
        parts::recovery(&program, extent.spool_files, &mut figures)?;
    }
    if wanted("typed") {
        eprintln!("bench: typed commands");
        parts::typed_commands(extent.typing, &mut figures)?;
    }
    let shared = ["streams", "sessions", "files"].into_iter().any(wanted);
    if shared || wanted("apart") {
        // A session of the crowd takes a descriptor here and several in the gateway.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        portreeve_tests::interrupt::watch(super::interrupted)?;
    }
    if shared {
        let scene = Scene::start(&gateway, program.clone(), Cores::Shared)?;
        sessions(&scene, extent, wanted, &mut figures)?;
        scene.stop()?;
    }
    if wanted("apart") {
        let scene = Scene::start(&gateway, program, Cores::Apart)?;
        streams(&scene, Cores::Apart, extent, &mut figures)?;
        scene.stop()?;
    }
    println!("{}", figures.tables());
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&figures.json(&super::machine(args.quick)))?;
        std::fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
    }
    ensure!(figures.lost() == 0, "{} bytes or files were not recorded", figures.lost());
    Ok(ExitCode::SUCCESS)
}

fn sessions(
    scene: &Scene,
    extent: &Extent,
    wanted: impl Fn(&str) -> bool,
    figures: &mut Figures,
) -> Result<()> {
    if wanted("sessions") {
        eprintln!("bench: sessions that start at once");
        for _ in 0..extent.session_rounds {
            crowd::measure(scene, extent.sessions, figures)?;
        }
    }
    if wanted("files") {
        eprintln!("bench: small files");
        files::measure(scene, extent.files, figures)?;
    }
    if wanted("streams") {
        streams(scene, Cores::Shared, extent, figures)?;
    }
    Ok(())
}

fn streams(scene: &Scene, cores: Cores, extent: &Extent, figures: &mut Figures) -> Result<()> {
    for round in 1..=extent.stream_rounds {
        eprintln!("bench: streams ({cores:?}), round {round} of {}", extent.stream_rounds);
        streams::measure(scene, cores, (extent.stream_repeats, extent.flood_bytes), figures)?;
    }
    Ok(())
}
