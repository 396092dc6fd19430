//! `cargo xtask build`: the kernel programs, then the gateway that embeds them.
//!
//! The object is copied to `target/portreeve-datapath.o` only when its bytes changed, so that the
//! gateway, whose build script watches that file, is not built again for nothing.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::setup;
use crate::setup::plan::Needs;
use crate::setup::toolchain::KernelCompiler;
use crate::workspace::{self, require};

const KERNEL_TARGET: &str = "bpfel-unknown-none";
const KERNEL_PROGRAM: &str = "portreeve-datapath";
const BENCH_PROGRAM: &str = "portreeve-datapath-bench";

/// Variables by which the host's build would leak into the kernel programs' build.
const HOST_BUILD_VARIABLES: &[&str] = &[
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
];

/// Arguments of `cargo xtask build`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Build the gateway with optimisation.
    #[arg(long)]
    pub release: bool,
    /// Build the gateway on the FIPS module, as docs/fips.md says.
    #[arg(long)]
    pub fips: bool,
}

/// Builds, after installing what is missing.
///
/// # Errors
/// When a build fails.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    setup::ensure(Needs { fips: args.fips, ..Needs::BUILD })?;
    let gateway = gateway(&args)?;
    println!("build: {}", gateway.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the kernel programs and the gateway; returns the gateway's path.
///
/// # Errors
/// When a build fails.
pub fn gateway(args: &Args) -> anyhow::Result<PathBuf> {
    build_gateway(args, workspace::cargo())
}

/// Builds the gateway that others get, in a package or an image; returns its path. Optimised, it is the same wherever
/// the sources lie: no path of this machine is in what [`strip`] leaves of it.
///
/// # Errors
/// When a build fails.
pub fn gateway_for_others(debug: bool) -> anyhow::Result<PathBuf> {
    let mut cargo = workspace::cargo();
    if !debug {
        cargo.env("CARGO_ENCODED_RUSTFLAGS", remapped(&crate_sources()?).join("\x1f"));
        cargo.env("CARGO_INCREMENTAL", "0");
    }
    build_gateway(&Args { release: !debug, fips: false }, cargo)
}

/// Copies a program without what only debuggers need, and without the sum over all of that.
///
/// # Errors
/// When it cannot be read or written.
pub fn strip(program: &Path, to: &Path) -> anyhow::Result<()> {
    require(Command::new("strip").arg("--remove-section=.note.gnu.build-id").arg("-o").args([to, program]))
}

fn build_gateway(args: &Args, mut cargo: Command) -> anyhow::Result<PathBuf> {
    kernel_programs(KERNEL_PROGRAM)?;
    let profile = if args.release { "release" } else { "debug" };
    cargo.args(["build", "--package", "portreeve"]);
    if args.release {
        cargo.arg("--release");
    }
    if args.fips {
        cargo.args(["--features", "fips"]);
    }
    require(&mut cargo)?;
    Ok(workspace::target_dir().join(profile).join("portreeve"))
}

/// Directories of unpacked crates, one for each registry. Those of the workspace are compiled by relative paths.
fn crate_sources() -> anyhow::Result<Vec<PathBuf>> {
    let sources = home_of("CARGO_HOME", ".cargo")?.join("registry/src");
    let entries = match fs::read_dir(&sources) {
        // All crates are those of a `vendor` directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {}", sources.display()))?,
    };
    Ok(entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?)
}

/// Where rustup has compilers, with the sources of their libraries.
fn rustup_home() -> anyhow::Result<PathBuf> {
    home_of("RUSTUP_HOME", ".rustup")
}

/// The directory that a variable names, else one of the user's.
fn home_of(variable: &str, name: &str) -> anyhow::Result<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from);
    named.or_else(|| env::home_dir().map(|home| home.join(name))).context("no home directory")
}

/// Flags by which rustc writes one name for each of these directories.
fn remapped(directories: &[PathBuf]) -> Vec<String> {
    directories.iter().map(|from| format!("--remap-path-prefix={}=/crates", from.display())).collect()
}

/// Builds the kernel programs that measure the others; returns their object file.
///
/// # Errors
/// When the build fails.
pub fn bench_programs() -> anyhow::Result<PathBuf> {
    kernel_programs(BENCH_PROGRAM)
}

/// Builds an object file and copies it to `target/`.
fn kernel_programs(name: &str) -> anyhow::Result<PathBuf> {
    let target_dir = workspace::root().join("target/bpf");
    let mut command = kernel_cargo(&setup::kernel_compiler()?);
    command.args(["build", "--package", "portreeve-ebpf", "--bin", name, "--release"]);
    command.args(["-Z", "build-std=core", "--target", KERNEL_TARGET, "--target-dir"]).arg(&target_dir);
    command.env(
        "CARGO_ENCODED_RUSTFLAGS",
        kernel_flags(&crate_sources()?, workspace::root(), &rustup_home()?).join("\x1f"),
    );
    require(&mut command)?;
    let built = target_dir.join(KERNEL_TARGET).join("release").join(name);
    let embedded = workspace::root().join("target").join(format!("{name}.o"));
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let bytes = without_debug_sections(&bytes).with_context(|| format!("in {}", built.display()))?;
    write_if_changed(&bytes, &embedded).with_context(|| format!("cannot write {}", embedded.display()))?;
    Ok(embedded)
}

/// The kernel calls a function back (`bpf_loop`) only where type information (BTF) names it, which is made of all that debuggers
/// get, and has the names of source files.
fn kernel_flags(crates: &[PathBuf], root: &Path, rustup: &Path) -> Vec<String> {
    let mut flags = vec!["-Cdebuginfo=2".to_owned(), "-Clink-arg=--btf".to_owned()];
    flags.extend(remapped(crates));
    for (from, to) in [(root, "/portreeve"), (rustup, "/rustup")] {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    flags
}

/// What only debuggers read is four fifths of an object file.
fn without_debug_sections(object: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut builder = object::build::elf::Builder::read(object)?;
    for section in &mut builder.sections {
        section.delete = [&b".debug_"[..], b".rel.debug_"].iter().any(|name| section.name.starts_with(name));
    }
    // The compiler keeps the names of sections and of symbols in one, which the library does not.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = object::build::elf::SectionData::SectionString;
    let mut written = Vec::new();
    builder.write(&mut written)?;
    Ok(written)
}

fn kernel_cargo(compiler: &KernelCompiler) -> Command {
    let mut command = match compiler {
        KernelCompiler::Distribution(_) => workspace::cargo(),
        KernelCompiler::Nightly(name) => {
            let mut command = Command::new("rustup");
            command.args(["run", name, "cargo"]).current_dir(workspace::root());
            workspace::drop_package_variables(&mut command);
            command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
            command
        }
    };
    for name in HOST_BUILD_VARIABLES {
        command.env_remove(name);
    }
    // Empty turns off a wrapper that a configuration file names.
    command.env("RUSTC_WRAPPER", "");
    // Other units of code are inlined in other places, and the verifier refuses what comes of it.
    command.env("CARGO_INCREMENTAL", "0");
    if let KernelCompiler::Distribution(rustc) = compiler {
        command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
    }
    command
}

/// Writes by way of a temporary file, unless the bytes are the same; returns whether it did.
fn write_if_changed(bytes: &[u8], to: &Path) -> io::Result<bool> {
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let partial = to.with_extension("partial");
    fs::write(&partial, bytes)?;
    fs::rename(partial, to)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn an_unchanged_object_keeps_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("embedded.o");
        assert!(write_if_changed(b"first", &to).unwrap());
        assert!(!write_if_changed(b"first", &to).unwrap());
        assert!(write_if_changed(b"second", &to).unwrap());
        assert_eq!(fs::read_to_string(&to).unwrap(), "second");
        assert!(write_if_changed(b"first", &directory.path().join("absent/embedded.o")).is_err());
    }

    #[test]
    fn crates_of_all_registries_have_one_name() {
        let flags = remapped(&["/home/a/.cargo/registry/src/one-1".into(), "/b/registry/src/two".into()]);
        assert_eq!(flags[0], "--remap-path-prefix=/home/a/.cargo/registry/src/one-1=/crates");
        assert_eq!(flags.len(), 2);
    }

    #[test]
    fn kernel_programs_have_types_and_no_paths_of_the_machine() {
        let [crates, root, rustup] =
            ["/home/a/.cargo/registry/src/one-1", "/home/a/portreeve", "/home/a/.rustup"];
        let flags = kernel_flags(&[crates.into()], Path::new(root), Path::new(rustup));
        for from in [crates, root, rustup] {
            let remapped = |flag: &String| flag.starts_with(&format!("--remap-path-prefix={from}=/"));
            assert!(flags.iter().any(remapped), "{from} is not remapped: {flags:?}");
        }
        let embedded = workspace::root().join("target").join(format!("{KERNEL_PROGRAM}.o"));
        let object = fs::read(embedded).expect("run `cargo xtask build`");
        let object = object::build::elf::Builder::read(object.as_slice()).unwrap();
        let names: Vec<_> = object.sections.iter().map(|section| section.name.to_string()).collect();
        for name in [".BTF", ".BTF.ext", ".rel.BTF.ext", "classifier", "xdp"] {
            assert!(names.iter().any(|there| there == name), "{name} is not among {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("debug")), "{names:?}");
    }

    #[test]
    fn the_hosts_build_flags_do_not_reach_the_kernel_programs() {
        let distribution = kernel_cargo(&KernelCompiler::Distribution("/usr/bin/rustc".into()));
        let nightly = kernel_cargo(&KernelCompiler::Nightly("nightly".into()));
        let set = |command: &Command, name: &str| {
            command.get_envs().find(|(key, _)| *key == name).map(|(_, value)| value.map(OsStr::to_owned))
        };
        assert_eq!(set(&distribution, "RUSTC"), Some(Some("/usr/bin/rustc".into())));
        assert_eq!(set(&distribution, "RUSTC_BOOTSTRAP"), Some(Some("1".into())));
        assert_eq!(set(&nightly, "RUSTC"), Some(None));
        assert_eq!(set(&nightly, "RUSTUP_TOOLCHAIN"), Some(None));
        for command in [&distribution, &nightly] {
            assert_eq!(set(command, "RUSTFLAGS"), Some(None));
            assert_eq!(set(command, "LD_LIBRARY_PATH"), Some(None));
            assert_eq!(set(command, "RUSTC_WRAPPER"), Some(Some("".into())));
            assert_eq!(set(command, "CARGO_INCREMENTAL"), Some(Some("0".into())));
        }
    }
}
