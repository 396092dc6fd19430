//! A machine that runs the appliance's image.
//!
//! Its network cards are taps. QEMU opens them where it runs, in the gateway's namespace, and they are moved from there
//! to the hosts at their other ends; they are gone when QEMU is. The first serial line is the console. Dropping
//! the machine cuts its power.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use portreeve_tests::Netns;
use portreeve_tests::deadline::until;

use crate::console::{Console, Missed, Ready};
use crate::emulator::{EMULATED, Emulator, QEMU};
use crate::image::Image;

/// How long a machine may take from power-on until its gateway serves.
pub const BOOT: Duration = Duration::from_secs(150);
const LIMIT: Duration = Duration::from_secs(20);
const SHUTDOWN: Duration = Duration::from_secs(90);

/// What is switched on.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// What boots.
    pub firmware: Firmware,
    /// Disks, the one with the system first: qcow2.
    pub disk: PathBuf,
    /// A volume with a seed.
    pub seed: Option<PathBuf>,
    /// Where QEMU runs.
    pub netns: Netns,
    /// Network cards: the tap's name, and the card's hardware address.
    pub cards: Vec<(String, String)>,
    /// A directory of its own, for sockets.
    pub dir: PathBuf,
    /// Where the console's text goes.
    pub console: PathBuf,
}

/// How a machine starts.
#[derive(Clone, Debug)]
pub enum Firmware {
    /// QEMU loads the kernel.
    Direct {
        /// The kernel, the initrd and the command line.
        image: Image,
        /// Words after the image's own.
        more: String,
    },
    /// UEFI loads it from the disk.
    Uefi {
        /// The firmware.
        code: PathBuf,
        /// Its variables, which it changes.
        variables: PathBuf,
    },
}

/// A machine that is on.
#[derive(Debug)]
pub struct Appliance {
    emulator: Emulator,
    console: Console,
    control: PathBuf,
}

impl Hardware {
    /// Switches it on.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn switch_on(&self) -> Result<Appliance> {
        let control = self.dir.join("qmp");
        if control.exists() {
            fs::remove_file(&control)?;
        }
        let mut emulator = Emulator::start(&mut self.command(&control)?)?;
        let output = emulator.child().stdout.take().context("no pipe")?;
        let console = Console::follow(output, &self.console)?;
        Ok(Appliance { emulator, console, control })
    }

    fn command(&self, control: &Path) -> Result<Command> {
        let mut command = self.netns.command(QEMU);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(EMULATED).args(["-smp", "2", "-m", "1024", "-device", "virtio-rng-pci"]);
        command.args(["-serial", "stdio", "-qmp"]).arg(format!("unix:{},server,nowait", control.display()));
        self.firmware.add_to(&mut command)?;
        let disk = format!("if=virtio,format=qcow2,file={}", self.disk.display());
        command.arg("-drive").arg(disk);
        if let Some(seed) = &self.seed {
            command.arg("-drive").arg(format!("if=virtio,format=raw,readonly=on,file={}", seed.display()));
        }
        for (tap, address) in &self.cards {
            command.arg("-netdev").arg(format!("tap,id={tap},ifname={tap},script=no,downscript=no"));
            command.arg("-device").arg(format!("virtio-net-pci,netdev={tap},mac={address}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(command)
    }
}

impl Firmware {
    fn add_to(&self, command: &mut Command) -> Result<()> {
        match self {
            Self::Direct { image, more } => {
                command.args(["-machine", "q35"]).arg("-kernel").arg(image.kernel());
                command.arg("-initrd").arg(image.initrd());
                command.arg("-append").arg(format!("{} {more}", image.command_line()?));
            }
            Self::Uefi { code, variables } => {
                command.args(["-machine", "q35,smm=on"]);
                command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
                let flash = |unit: u8, file: &Path| {
                    format!("if=pflash,format=raw,unit={unit},file={}", file.display())
                };
                command.arg("-drive").arg(format!("{},readonly=on", flash(0, code)));
                command.arg("-drive").arg(flash(1, variables));
            }
        }
        Ok(())
    }
}

impl Appliance {
    /// Its console.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// The end of its console.
    pub fn tail(&self) -> String {
        self.console.tail()
    }

    /// Waits for a gateway that serves.
    ///
    /// # Errors
    /// Why there is none.
    pub fn wait_for_ready(&mut self) -> Result<Ready, Missed> {
        self.console.wait_for_ready(BOOT)
    }

    /// Presses the power button, and waits until the machine is off.
    ///
    /// # Errors
    /// When it does not end in order.
    pub fn shut_down(mut self) -> Result<()> {
        self.command("system_powerdown")?;
        let ended = until("the machine's end", SHUTDOWN, || Ok(self.emulator.child().try_wait()?));
        let status: ExitStatus = ended.with_context(|| self.console.tail())?;
        if !status.success() {
            bail!("QEMU: {status}");
        }
        Ok(())
    }

    /// Cuts the power: nothing that the machine has in memory gets to its disk.
    pub fn cut(self) {
        drop(self);
    }

    /// A command without arguments of the QEMU machine protocol.
    fn command(&self, name: &str) -> Result<()> {
        let stream = until("QEMU's socket", LIMIT, || Ok(UnixStream::connect(&self.control).ok()))?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut answers = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        for command in ["qmp_capabilities", name] {
            writeln!(stream, "{{\"execute\": \"{command}\"}}")?;
            let mut line = String::new();
            // A greeting and events come between.
            while !line.contains("\"return\"") {
                line.clear();
                if answers.read_line(&mut line)? == 0 || line.contains("\"error\"") {
                    bail!("QEMU answers {command} with {line:?}");
                }
            }
        }
        Ok(())
    }
}
