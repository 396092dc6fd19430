//! The owner's keys: what signs programs of UEFI, and what the appliance trusts.
//!
//! A directory holds `db.key` and `db.crt`; where there, `PK.auth`, `KEK.auth` and `db.auth`, which the boot loader
//! offers to a firmware without keys; and `import-pubring.gpg`, whose keys sign the lists of updates by URL. Private
//! keys are read by sbsign alone and leave this machine in no file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::disk::BootFile;
use crate::workspace::printed;

/// What a firmware takes, in the order of their weight.
const ENROLLED: &[&str] = &["PK.auth", "KEK.auth", "db.auth"];
/// Where systemd looks for keys of updates.
const UPDATE_KEYS: &str = "usr/lib/systemd/import-pubring.gpg";

/// A directory of keys.
#[derive(Debug)]
pub(super) struct Keys {
    directory: PathBuf,
}

impl Keys {
    /// Takes a directory.
    ///
    /// # Errors
    /// When it holds no key to sign with.
    pub(super) fn new(directory: &Path) -> anyhow::Result<Self> {
        for name in ["db.key", "db.crt"] {
            let file = directory.join(name);
            ensure!(
                file.is_file(),
                "no {}: a key and its certificate, in PEM, sign the image",
                file.display()
            );
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// Signs a program in its place.
    ///
    /// # Errors
    /// When sbsign fails.
    pub(super) fn sign(&self, program: &Path) -> anyhow::Result<()> {
        let signed = program.with_extension("signed");
        let mut sbsign = Command::new("sbsign");
        sbsign
            .arg("--key")
            .arg(self.directory.join("db.key"))
            .arg("--cert")
            .arg(self.directory.join("db.crt"));
        printed(sbsign.arg("--output").arg(&signed).arg(program))?;
        Ok(fs::rename(signed, program)?)
    }

    /// What the boot partition holds for a firmware that has no keys yet.
    pub(super) fn enrolled(&self) -> Vec<BootFile> {
        let there =
            ENROLLED.iter().map(|name| (format!("loader/keys/auto/{name}"), self.directory.join(name)));
        there.filter(|(_, file)| file.is_file()).collect()
    }

    /// Puts the keys of updates into the root.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub(super) fn trust(&self, root: &Path) -> anyhow::Result<()> {
        let keys = self.directory.join("import-pubring.gpg");
        if keys.is_file() {
            fs::copy(&keys, root.join(UPDATE_KEYS))
                .with_context(|| format!("cannot copy {}", keys.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_needs_a_key_and_its_certificate_and_offers_what_else_it_has() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Keys::new(directory.path()).unwrap_err().to_string().contains("db.key"));
        for name in ["db.key", "db.crt", "KEK.auth"] {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        let enrolled = Keys::new(directory.path()).unwrap().enrolled();
        assert_eq!(
            enrolled.iter().map(|(inside, _)| inside.as_str()).collect::<Vec<_>>(),
            ["loader/keys/auto/KEK.auth"]
        );
    }
}
