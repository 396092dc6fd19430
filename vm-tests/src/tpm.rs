//! A TPM of a machine: Debian's emulator, with a state that outlives the machine, as a chip does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use portreeve_tests::deadline::until;
use portreeve_tests::{Companion, run};

const LIMIT: Duration = Duration::from_secs(60);

/// An emulator that one machine uses, and which ends with it.
#[derive(Debug)]
pub(crate) struct Tpm {
    socket: PathBuf,
    _emulator: Companion,
}

impl Tpm {
    /// Starts it on the state in `state`: a new chip where that is empty or not there.
    ///
    /// # Errors
    /// When it cannot be started, with what to do.
    pub(crate) fn start(state: &Path, socket: &Path) -> Result<Self> {
        fs::create_dir_all(state)?;
        if socket.exists() {
            fs::remove_file(socket)?;
        }
        // For each of a chip's banks the firmware hashes all that it starts; those of today have one in use.
        let mut make = Command::new("swtpm_setup");
        make.args(["--tpm2", "--pcr-banks", "sha256", "--not-overwrite", "--tpmstate"]).arg(state);
        run(&mut make, b"", LIMIT)?.success().context("swtpm-tools: run `cargo xtask setup`")?;
        let mut command = Command::new("swtpm");
        command
            .args(["socket", "--tpm2", "--terminate", "--tpmstate"])
            .arg(format!("dir={}", state.display()));
        command.arg("--ctrl").arg(format!("type=unixio,path={}", socket.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let emulator = Companion::spawn(&mut command).context("swtpm: run `cargo xtask setup`")?;
        until("the TPM's socket", LIMIT, || Ok(socket.exists().then_some(())))?;
        Ok(Self { socket: socket.to_owned(), _emulator: emulator })
    }

    /// What QEMU is told.
    pub(crate) fn device(&self) -> [String; 6] {
        let socket = format!("socket,id=tpm,path={}", self.socket.display());
        let parts = [
            "-chardev",
            &socket,
            "-tpmdev",
            "emulator,id=tpm0,chardev=tpm",
            "-device",
            "tpm-crb,tpmdev=tpm0",
        ];
        parts.map(str::to_owned)
    }
}
