//! What runs the processors of machines: KVM where a short boot proves that it does, else emulation (TCG).
//!
//! That `/dev/kvm` is there says little: nested in another hypervisor it may run no stock kernel. Proved is what one of Debian's
//! kernels says that gets to the end of its own start, without a root. Owns the choice and the processor model; what machines are
//! made of else is for who starts them.

use std::io;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::emulator::{Emulator, QEMU, lines};
use crate::kernels::KERNELS;

/// Arguments of QEMU.
pub type Words = &'static [&'static str];

const KVM: Words = &["-accel", "kvm", "-cpu", "host"];
/// One thread of the host for all processors of a machine: machines run two at a time, and take 10 to 20 % less than with a
/// thread for each. With those, QEMU ends now and then where one processor moves a device's memory that another one is about to
/// read (`iotlb_to_section: Assertion section_index < d->map.sections_nb failed`).
///
/// Where the processor says that it moves bytes quickly the kernel clears and copies memory by `rep movsb` and `rep stosb`,
/// which the emulator does byte by byte: a third of the time that a verifier takes.
pub const EMULATED: Words =
    &["-accel", "tcg,thread=single", "-cpu", "max,erms=off,fsrm=off,fsrs=off,fzrm=off,fsrc=off"];
/// What a kernel says once all of it is up and there is no root.
const PROVED: &str = "VFS: Unable to mount root fs";
/// What QEMU says of KVM that cannot go on; the process stays.
const REFUTED: &str = "KVM internal error";
/// How long the proof may take: KVM needs a second or two.
const LIMIT: Duration = Duration::from_secs(15);

/// The arguments of QEMU that say so, proved once in a process. With `PORTREEVE_VM_EMULATED` set all is emulated.
pub(crate) fn accelerator() -> Words {
    static CHOSEN: OnceLock<Words> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let wanted = std::env::var_os("PORTREEVE_VM_EMULATED").is_none();
        let proved =
            wanted && std::path::Path::new("/dev/kvm").exists() && runs_a_kernel(KVM, LIMIT).unwrap_or(false);
        say(if proved { "machines: run by KVM" } else { "machines: emulated" });
        if proved { KVM } else { EMULATED }
    })
}

/// Whether a stock kernel gets through its start in time.
///
/// # Errors
/// When there is no kernel, or QEMU cannot be started.
pub fn runs_a_kernel(accelerator: Words, limit: Duration) -> Result<bool> {
    let kernel = KERNELS.get(1).context("no kernel")?.unpacked()?;
    let (told, tells) = io::pipe()?;
    let mut command = Command::new(QEMU);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"]);
    command.args(accelerator).args(["-smp", "2", "-m", "512", "-serial", "stdio"]);
    command.arg("-kernel").arg(&kernel.image).args(["-append", "console=ttyS0 panic=-1"]);
    command.stdin(Stdio::null()).stdout(tells.try_clone()?).stderr(tells);
    let emulator = Emulator::start(&mut command)?;
    // Its ends of the pipe, without which the last line would never come.
    drop(command);
    let proved = is_proved(&lines(told), limit);
    drop(emulator);
    Ok(proved)
}

fn is_proved(lines: &Receiver<String>, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        if line.contains(PROVED) {
            return true;
        }
        if line.contains(REFUTED) {
            return false;
        }
    }
    false
}

#[expect(clippy::print_stdout, reason = "figures of a run depend on it")]
fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn told(said: &[&str]) -> bool {
        let (sender, receiver) = sync_channel(said.len());
        said.iter().for_each(|line| sender.send((*line).to_owned()).unwrap());
        // The process has ended.
        drop(sender);
        is_proved(&receiver, LIMIT)
    }

    #[test]
    fn only_a_kernel_that_has_started_proves_it() {
        let panic =
            "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)";
        assert!(told(&["[    0.0] Linux version 6.12", panic]));
        assert!(!told(&["[    0.0] Linux version 6.12"]));
        assert!(!told(&["KVM internal error. Suberror: 1", panic]));
        assert!(!told(&["qemu-system-x86_64: failed to initialize kvm: Permission denied"]));
    }

    #[test]
    fn one_that_says_nothing_is_not_waited_for() {
        let (_sender, receiver) = sync_channel(1);
        assert!(!is_proved(&receiver, Duration::from_millis(10)));
    }
}
