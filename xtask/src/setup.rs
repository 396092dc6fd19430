//! `cargo xtask setup`: installs what builds and tests need and the machine misses.
//!
//! Idempotent, and quick when nothing is missing. Debian packages come by apt, bpf-linker,
//! cargo-deny and s3s-fs by cargo into its usual directory, where later clones find them, kernels for virtual machines
//! into `target/vm`. What it does not do: install rustup toolchains, or leave a service running that was not there.

pub(crate) mod debian;
mod machine;
pub mod plan;
pub mod toolchain;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context, anyhow};

use self::plan::{CargoTool, Needs, Plan};
use self::toolchain::KernelCompiler;
use crate::workspace::{self, require};

/// Units that Debian would start, and enable for the next boot, with a package.
const UNITS: &[(&str, &[&str])] = &[
    ("openssh-server", &["ssh.service", "ssh.socket"]),
    ("prometheus", &["prometheus.service"]),
    ("rsyslog", &["rsyslog.service"]),
];

/// Arguments of `cargo xtask setup`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Installs what is missing.
///
/// # Errors
/// When something cannot be installed; the text says what to do.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    if !ensure(Needs::ALL)? {
        println!("setup: nothing is missing");
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing of what `needs` names; returns whether anything was.
///
/// # Errors
/// As [`run`].
pub fn ensure(needs: Needs) -> anyhow::Result<bool> {
    let plan = plan::plan(&machine::observe(), needs).map_err(|told| anyhow!("{told}"))?;
    if plan == Plan::default() {
        return Ok(false);
    }
    install_packages(&plan.packages)?;
    install_from_backports(&plan.backports)?;
    if !plan.kernels.is_empty() {
        debian::fetch_kernels(&plan.kernels)?;
    }
    install_tools(&plan.tools)?;
    if needs.kernel_programs {
        kernel_compiler()?;
    }
    Ok(true)
}

/// The compiler for the kernel programs.
///
/// # Errors
/// When there is none, with what it lacks.
pub fn kernel_compiler() -> anyhow::Result<KernelCompiler> {
    toolchain::choose(&machine::compilers()).map_err(|missing| anyhow!("{missing}"))
}

fn install_packages(packages: &[&str]) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    println!("setup: installing Debian packages: {}", packages.join(" "));
    let booted = Path::new("/run/systemd/system").exists();
    let brought = UNITS.iter().filter(|(package, _)| booted && packages.contains(package));
    let units: Vec<&str> = brought.flat_map(|(_, units)| units.iter().copied()).collect();
    if !units.is_empty() {
        println!("setup: keeping off what would start with them: {}", units.join(" "));
        require(Command::new("systemctl").args(["mask", "--runtime"]).args(&units))?;
    }
    let installed = install_or_update_first(packages);
    if !units.is_empty() {
        require(Command::new("systemctl").args(["unmask", "--runtime"]).args(&units))?;
        require(Command::new("systemctl").arg("disable").args(&units))?;
    }
    installed
}

/// Package lists may be absent or old: then the first try fails, and one update mends it.
fn install_or_update_first(packages: &[&str]) -> anyhow::Result<()> {
    let install = || {
        let mut command = apt();
        command.args(["install", "--yes", "--no-install-recommends"]).args(packages);
        command
    };
    if require(&mut install()).is_ok() {
        return Ok(());
    }
    println!("setup: updating the package lists");
    require(apt().arg("update"))?;
    require(&mut install()).context("these packages are in Debian 12 with its security updates")
}

fn install_from_backports(packages: &[&str]) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    println!("setup: installing Debian packages: {}", packages.join(" "));
    debian::install_or_backport(packages)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// All at once: each spends half its time on one core.
fn install_tools(tools: &[CargoTool]) -> anyhow::Result<()> {
    let outcomes: Vec<anyhow::Result<()>> = thread::scope(|scope| {
        let started: Vec<_> = tools
            .iter()
            .map(|tool| {
                let mut command = installer(*tool);
                println!("setup: {} (takes a minute or two)", workspace::shown(&command));
                scope.spawn(move || require(&mut command))
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("an installing thread ended early")))
        };
        started.into_iter().map(join).collect()
    });
    outcomes.into_iter().collect()
}

/// A release profile spends minutes to save a second of each run.
fn build_quickly(command: &mut Command) {
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
    command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
}

fn installer(tool: CargoTool) -> Command {
    let mut command = workspace::cargo();
    command.args(["install", "--quiet", "--locked", "--force", "--no-default-features"]);
    // The host's build flags are meant for this workspace.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET");
    match tool {
        CargoTool::BpfLinker => {
            let features = format!("llvm-{}", toolchain::LLVM);
            let prefix = format!("/usr/lib/llvm-{}", toolchain::LLVM);
            command.args(["--features", &features, "--version"]).arg(toolchain::BPF_LINKER.to_string());
            command.arg("bpf-linker").env("LLVM_PREFIX", prefix);
        }
        CargoTool::CargoDeny => {
            command.arg("--version").arg(plan::CARGO_DENY.to_string()).arg("cargo-deny");
            build_quickly(&mut command);
        }
        CargoTool::S3Server => {
            command
                .args(["--features", "binary", "--version"])
                .arg(plan::S3_SERVER.to_string())
                .arg("s3s-fs");
            build_quickly(&mut command);
        }
    }
    command
}
