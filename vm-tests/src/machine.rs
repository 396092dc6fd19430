//! One machine, from power-on to power-off.
//!
//! The guest has two serial lines: the kernel's console, kept in a file, and one for what the tests say, which is
//! read here as it comes. There is no network to the host: pairs of virtio network cards are joined by hubs, so
//! that one guest is all sides of a network.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::accelerator::accelerator;
use crate::emulator::{Emulator, QEMU, lines};
use crate::kernels::Unpacked;
use crate::{ENDED, READY};

/// How long a machine may take until its program starts.
const BOOT: Duration = Duration::from_secs(90);

/// What to boot.
#[derive(Debug)]
pub struct Machine<'a> {
    /// What stands before its lines.
    pub name: &'a str,
    /// The kernel.
    pub kernel: &'a Unpacked,
    /// The archive of the root.
    pub root: &'a Path,
    /// How many pairs of network cards there are: `eth0` and `eth1` joined, `eth2` and `eth3`, and so on.
    pub pairs: u8,
    /// The program that runs, and its arguments.
    pub program: &'a [&'a str],
    /// How long all of it may take.
    pub limit: Duration,
    /// Where the console's text goes.
    pub console: PathBuf,
}

/// How it went.
#[derive(Debug)]
pub struct Run {
    /// What the program wrote, by lines.
    pub lines: Vec<String>,
    /// The program's exit code.
    pub code: i32,
    /// From power-on to the program's start.
    pub boot: Duration,
    /// From power-on to power-off.
    pub whole: Duration,
}

impl Machine<'_> {
    /// Boots, runs the program, and prints what it writes.
    ///
    /// # Errors
    /// When QEMU cannot be started, or the machine ends, panics or hangs before the program has ended; with the
    /// last lines of its console.
    pub fn run(&self) -> Result<Run> {
        self.supervise().with_context(|| {
            let console = fs::read(&self.console).unwrap_or_default();
            let console = String::from_utf8_lossy(&console).into_owned();
            let last: Vec<_> = console.lines().rev().take(25).collect();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            format!("{}, whose console {} ends with\n{last}", self.kernel.release, self.console.display())
        })
    }

    fn supervise(&self) -> Result<Run> {
        let begun = Instant::now();
        let mut emulator = Emulator::start(&mut self.command())?;
        let lines = lines(emulator.child().stdout.take().context("no pipe")?);
        let mut run = Run { lines: Vec::new(), code: 0, boot: Duration::ZERO, whole: Duration::ZERO };
        let mut code = None;
        while code.is_none() {
            let limit = if run.boot.is_zero() { BOOT } else { self.limit };
            let left = limit.saturating_sub(begun.elapsed());
            let line = match lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => bail!("not done within {limit:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the machine ended before its program"),
            };
            if let Some(release) = line.strip_prefix(READY) {
                ensure!(release == self.kernel.release, "{release} runs instead of {}", self.kernel.release);
                run.boot = begun.elapsed();
            } else if let Some(ended) = line.strip_prefix(ENDED) {
                code = Some(ended.parse().with_context(|| line.clone())?);
            } else {
                self.say(&line);
                run.lines.push(line);
            }
        }
        ensure!(!run.boot.is_zero(), "a program ended on a machine that was never ready");
        run.code = code.unwrap_or_default();
        run.whole = begun.elapsed();
        Ok(run)
    }

    /// With the machine's name before it, since others may run; a result is counted by how its line begins.
    fn say(&self, line: &str) {
        let mut terminal = io::stdout().lock();
        let counted = line.starts_with("test result: ");
        let name = if counted { String::new() } else { format!("{}: ", self.name) };
        // A closed terminal must not stop the machine: what is kept decides.
        drop(writeln!(terminal, "{name}{line}").and_then(|()| terminal.flush()));
    }

    fn command(&self) -> Command {
        let mut command = Command::new(QEMU);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(accelerator()).args(["-machine", "q35", "-smp", "2", "-m", "1536"]);
        command.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(self.root);
        let words = ["console=ttyS0", "loglevel=5", "panic=-1", "net.ifnames=0", "mitigations=off", "--"];
        command.arg("-append").arg([&words[..], self.program].concat().join(" "));
        command.arg("-serial").arg(format!("file:{}", self.console.display())).args(["-serial", "stdio"]);
        for card in 0..self.pairs * 2 {
            command.arg("-netdev").arg(format!("hubport,id=port{card},hubid={}", card / 2));
            let device = format!("virtio-net-pci,netdev=port{card},mac=52:54:00:00:00:{:02x}", card + 1);
            command.arg("-device").arg(device);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}
