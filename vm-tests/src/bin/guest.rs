//! Process 1 of a machine: mounts what programs expect, runs one, and switches the machine off.
//!
//! Its arguments are the program and its arguments; the kernel passes on what stands after `--`. All that is said
//! goes to the second serial line, so that the kernel's console does not come between. Whatever happens, the
//! machine ends.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::utsname::uname;
use portreeve_vm_tests::{ENDED, READY};

/// File systems by kind and place.
const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("bpf", "/sys/fs/bpf"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];
const SERIAL: &str = "/dev/ttyS1";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn main() -> Result<()> {
    let told = run().and_then(|(mut serial, code)| Ok(writeln!(serial, "{ENDED}{code}")?));
    if let Err(error) = told {
        // The console is all that there is left.
        fs::write("/dev/console", format!("guest: {error:#}\n")).ok();
    }
    nix::unistd::sync();
    reboot(RebootMode::RB_POWER_OFF)?;
    Ok(())
}

/// Runs the program; returns the serial line and its exit code.
fn run() -> Result<(File, i32)> {
    for (kind, place) in MOUNTS {
        mount(Some(*kind), *place, Some(*kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount {kind} at {place}"))?;
    }
    let mut serial = OpenOptions::new().write(true).open(SERIAL).context(SERIAL)?;
    for module in ["virtio_pci", "virtio_net", "tun"] {
        require(command("modprobe").arg(module))?;
    }
    require(command("ip").args(["link", "set", "lo", "up"]))?;
    writeln!(serial, "{READY}{}", uname()?.release().display())?;
    let mut words = env::args_os().skip(1);
    let program = words.next().context("no program")?;
    let status = command(&program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(serial.try_clone()?)
        .stderr(serial.try_clone()?)
        .status()
        .with_context(|| format!("start {}", program.display()))?;
    Ok((serial, status.code().unwrap_or(-1)))
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("HOME", "/root");
    command.env("PORTREEVE_DATAPATH_OBJECT", "/portreeve-datapath.o").env("RUST_BACKTRACE", "0");
    command.current_dir("/");
    command
}

fn require(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {:?}", command.get_program()))?;
    anyhow::ensure!(status.success(), "{:?} {:?}: {status}", command.get_program(), command.get_args());
    Ok(())
}
