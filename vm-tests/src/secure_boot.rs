//! Secure Boot in tests: a firmware in which it is on, and disks that are signed with the keys that it knows.
//!
//! Firmware and keys are those of Debian's package `ovmf`, which made them for tests; everybody has the private one. What
//! signs here is what the owner of an appliance does with `cargo xtask image --keys`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::appliance::Firmware;
use crate::disk::{self, finish};

const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
/// Variables in which Secure Boot is on.
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
/// The key of whose certificate these variables know, and its password.
const KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil.key";
const PASSWORD: &str = "pass:snakeoil";
const CERTIFICATE: &str = "/usr/share/ovmf/PkKek-1-snakeoil.pem";
/// Where the boot partition has programs for UEFI.
const PROGRAMS: [&str; 3] = ["EFI/BOOT", "EFI/systemd", "EFI/Linux"];

/// The firmware.
pub fn firmware() -> Firmware {
    Firmware::Uefi { code: CODE.into(), variables: VARIABLES.into() }
}

/// A directory with the owner's keys, as `cargo xtask image --keys` takes it.
#[derive(Debug)]
pub struct Keys(PathBuf);

impl Keys {
    /// Makes the directory.
    ///
    /// # Errors
    /// When a program is missing or refuses.
    pub fn new(dir: PathBuf) -> Result<Self> {
        fs::create_dir(&dir)?;
        fs::copy(CERTIFICATE, dir.join("db.crt")).context("Debian package ovmf: run `cargo xtask setup`")?;
        let mut decrypt = Command::new("openssl");
        finish(decrypt.args(["pkey", "-passin", PASSWORD, "-in", KEY, "-out"]).arg(dir.join("db.key")))?;
        Ok(Self(dir))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// Copies the raw disk `from`, and signs each program on the boot partition of the copy.
    ///
    /// # Errors
    /// When a program is missing or refuses.
    pub fn signed_disk(&self, from: &Path, to: PathBuf) -> Result<PathBuf> {
        finish(Command::new("cp").args(["--sparse=always", "--no-preserve=mode"]).arg(from).arg(&to))?;
        let boot = format!("{}@@{}", to.display(), disk::partition(&to, "esp")?);
        let mut signed = 0;
        for directory in PROGRAMS {
            for path in disk::listed(&boot, directory)? {
                self.sign(&boot, &path)?;
                signed += 1;
            }
        }
        ensure!(signed >= PROGRAMS.len(), "{signed} programs on the boot partition");
        Ok(to)
    }

    fn sign(&self, boot: &str, path: &str) -> Result<()> {
        let (plain, signed) = (self.0.join("plain.efi"), self.0.join("signed.efi"));
        finish(Command::new("mcopy").args(["-o", "-i", boot, path]).arg(&plain))?;
        let mut sbsign = Command::new("sbsign");
        sbsign.arg("--key").arg(self.0.join("db.key")).arg("--cert").arg(self.0.join("db.crt"));
        finish(sbsign.arg("--output").arg(&signed).arg(&plain))?;
        finish(Command::new("mcopy").args(["-o", "-i", boot]).arg(&signed).arg(path))
    }
}
