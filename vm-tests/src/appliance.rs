//! A machine that runs the appliance's image.
//!
//! Its network cards are taps, or cables to a [`crate::switch`]. QEMU opens taps where it runs, in the gateway's namespace, and
//! they are moved from there to the hosts at their other ends; they are gone when QEMU is. The first serial line is the console,
//! with a keyboard ([`crate::keyboard`]). Dropping the machine cuts its power.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use portreeve_tests::Netns;
use portreeve_tests::deadline::until;

use crate::accelerator::accelerator;
use crate::console::{Console, Missed, Ready};
use crate::devices::Devices;
use crate::emulator::{Emulator, QEMU};
use crate::image::Image;
use crate::tpm::Tpm;

/// How long a machine may take from power-on until its gateway serves.
pub const BOOT: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(60);
const SHUTDOWN: Duration = Duration::from_secs(180);

/// What is switched on.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// What boots.
    pub firmware: Firmware,
    /// Disks, the one with the system first: qcow2.
    pub disk: PathBuf,
    /// A volume with a seed.
    pub seed: Option<PathBuf>,
    /// Further volumes: raw, read-only.
    pub volumes: Vec<PathBuf>,
    /// Of what kind disks and cards are.
    pub devices: Devices,
    /// A TPM, by the directory of its state.
    pub tpm: Option<PathBuf>,
    /// Where QEMU runs.
    pub netns: Netns,
    /// Network cards.
    pub cards: Vec<Card>,
    /// A directory of its own, for sockets.
    pub dir: PathBuf,
    /// Where the console's text goes.
    pub console: PathBuf,
}

/// A network card.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its hardware address.
    pub address: String,
    /// What is at its other end.
    pub end: CardEnd,
}

/// What a network card leads to.
#[derive(Clone, Debug)]
pub enum CardEnd {
    /// A tap of this name.
    Tap(String),
    /// A switch: each frame is a datagram between two sockets of the file system.
    Cable {
        /// The machine's socket.
        card: PathBuf,
        /// The switch's.
        switch: PathBuf,
    },
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
        /// Its variables, which it changes: those that a bed is given stay as they are.
        variables: PathBuf,
    },
}

/// A machine that is on.
#[derive(Debug)]
pub struct Appliance {
    emulator: Emulator,
    _tpm: Option<Tpm>,
    console: Console,
    pub(crate) keys: ChildStdin,
    control: PathBuf,
}

impl Hardware {
    /// Switches it on.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn switch_on(&self) -> Result<Appliance> {
        let control = self.dir.join("qmp");
        let cables = self.cards.iter().filter_map(|card| match &card.end {
            CardEnd::Cable { card, .. } => Some(card),
            CardEnd::Tap(_) => None,
        });
        for socket in cables.chain([&control]).filter(|socket| socket.exists()) {
            fs::remove_file(socket)?;
        }
        let tpm = self.tpm.as_ref().map(|state| Tpm::start(state, &self.dir.join("tpm"))).transpose()?;
        let mut command = self.command(&control)?;
        command.args(tpm.iter().flat_map(Tpm::device));
        let mut emulator = Emulator::start(&mut command)?;
        let output = emulator.child().stdout.take().context("no pipe")?;
        let keys = emulator.child().stdin.take().context("no pipe")?;
        let console = Console::follow(output, &self.console)?;
        Ok(Appliance { emulator, _tpm: tpm, console, keys, control })
    }

    fn command(&self, control: &Path) -> Result<Command> {
        let mut command = self.netns.command(QEMU);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(accelerator()).args(["-smp", "2", "-m", "1024", "-device", "virtio-rng-pci"]);
        command.args(["-serial", "stdio", "-qmp"]).arg(format!("unix:{},server,nowait", control.display()));
        self.firmware.add_to(&mut command)?;
        command.args(self.devices.disk(&self.disk));
        for (number, volume) in self.seed.iter().chain(&self.volumes).enumerate() {
            command.args(self.devices.volume(number, volume));
        }
        for (number, Card { address, end }) in self.cards.iter().enumerate() {
            command.arg("-netdev").arg(end.netdev(&format!("card{number}")));
            let model = self.devices.card();
            command.arg("-device").arg(format!("{model},netdev=card{number},mac={address}"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(command)
    }
}

impl CardEnd {
    fn netdev(&self, id: &str) -> String {
        match self {
            Self::Tap(tap) => format!("tap,id={id},ifname={tap},script=no,downscript=no"),
            Self::Cable { card, switch } => {
                let (card, switch) = (card.display(), switch.display());
                format!(
                    "dgram,id={id},local.type=unix,local.path={card},remote.type=unix,remote.path={switch}"
                )
            }
        }
    }
}

impl Firmware {
    /// The same, with a copy of the variables in `dir`.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub(crate) fn with_variables_in(self, dir: &Path) -> Result<Self> {
        let Self::Uefi { code, variables: from } = self else { return Ok(self) };
        let variables = dir.join("variables.fd");
        let missing = || format!("{}: run `cargo xtask setup`", from.display());
        fs::copy(&from, &variables).with_context(missing)?;
        Ok(Self::Uefi { code, variables })
    }

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
