//! `cargo xtask bench appliance`: the image as a router in a machine.
//!
//! Owns the order and the extent. One machine, emulated or run by KVM, between two hosts; it is measured with the fast path, then with
//! the gateway alone, then without the gateway, as a plain router. A figure is never judged: emulation costs each way
//! something else, which docs/benchmarks.md tells.

mod figures;
mod forwarding;
mod machine;
mod sessions;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use portreeve_vm_tests::image::Image;

use self::figures::{Figures, Measure};
use self::machine::{Router, Way};
use super::machine as host;
use crate::setup;

/// Arguments of `cargo xtask bench appliance`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Fewer and shorter rounds.
    #[arg(long)]
    quick: bool,
    /// A file for the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How much is measured.
struct Extent {
    rounds: usize,
    /// Of each flow.
    flow: Duration,
    connections: usize,
    /// Bytes of a transfer by ssh.
    bulk: usize,
}

const QUICK: Extent = Extent { rounds: 1, flow: Duration::from_secs(3), connections: 3, bulk: 10_000_000 };
const FULL: Extent = Extent { rounds: 3, flow: Duration::from_secs(6), connections: 10, bulk: 50_000_000 };

/// Boots the image that was built last, measures and prints.
///
/// # Errors
/// When something is not there, or cannot be started or measured.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(setup::plan::Needs::MACHINES)?;
    let image = Image::built_last()?;
    portreeve_tests::interrupt::watch(super::interrupted)?;
    let extent = if args.quick { &QUICK } else { &FULL };
    let mut figures = Figures::default();
    sizes(&image, &mut figures)?;
    let (mut router, boot) = Router::start(&image)?;
    figures.sample(Measure::Boot, Way::FastPath, boot.as_secs_f64());
    figures.note(router.parts()?);
    for way in Way::ALL {
        router.turn(way)?;
        eprintln!("bench: {}", way.name());
        for (measure, bytes) in router.memory()? {
            figures.sample(measure, way, bytes / 1e6);
        }
        forwarding::measure(&mut router, way, extent.rounds, extent.flow, &mut figures)?;
        // Nothing of a target is on the fast path.
        if way != Way::FastPath {
            sessions::measure(&mut router, way, extent.connections, extent.bulk, &mut figures)?;
        }
    }
    router.stop()?;
    println!("{}", figures.table());
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&figures.json(&host(args.quick)))?;
        fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Of the image's files, where they are: an image for tests is the raw disk alone.
fn sizes(image: &Image, figures: &mut Figures) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    // Blocks of 512 bytes (stat(2)): the raw disk has holes.
    let raw = fs::metadata(image.disk())?.blocks() * 512;
    figures.sample(Measure::RawSize, Way::FastPath, raw as f64 / 1e6);
    if let Ok(qcow2) = fs::metadata(image.qcow2()) {
        figures.sample(Measure::Qcow2Size, Way::FastPath, qcow2.len() as f64 / 1e6);
    }
    Ok(())
}
