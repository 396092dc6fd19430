//! Keys of an account that only this machine's TPM opens, by systemd-creds(1).
//!
//! `STATE/sealed/NAME` holds a key that the TPM has encrypted. `STATE/NAME` is a link to where it lies opened: below
//! `/run`, in memory, from [`Tpm::open_all`] until the machine is off. So whoever reads a key of the state directory need
//! not know where it comes from. Invariant: nothing here writes a key to a disk in clear.
//!
//! A key is bound to PCR 7: whether Secure Boot is on, its keys, and the certificate of what was started. An update that
//! the same owner has signed changes none of these, as it would change the PCRs that measure programs. Nothing else is
//! needed to open a key, so a machine that starts what anybody has written keeps a stolen disk closed, and no more.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use thiserror::Error;
use zeroize::Zeroizing;

use super::key;
use crate::secret_file::{self, SecretFileError};

/// Where opened keys lie.
const OPENED: &str = "/run/portreeve/keys";
const PROGRAM: &str = "systemd-creds";
/// What of the machine's state a key is bound to.
const PCRS: &str = "--tpm2-pcrs=7";
/// The directory of sealed keys, below the state directory.
const SEALED: &str = "sealed";

/// Why a key was not sealed or opened.
#[derive(Debug, Error)]
pub enum SealError {
    /// systemd-creds cannot be run.
    #[error("cannot run {PROGRAM}")]
    Run(#[source] io::Error),
    /// The TPM takes no key.
    #[error("the TPM does not seal {name}: {reason}")]
    NotSealed {
        /// The key.
        name: String,
        /// What systemd-creds has said.
        reason: String,
    },
    /// The TPM does not open a key.
    #[error(
        "the TPM does not open {path}: it is another TPM, or Secure Boot or its keys have changed since the key was sealed. \
         Targets stay closed. Undo the change, or seal the keys again from a copy: \"Keys in the TPM\" of operate.md. \
         {PROGRAM}: {reason}"
    )]
    NotOpened {
        /// The sealed key.
        path: PathBuf,
        /// What systemd-creds has said.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// The TPM of this machine.
#[derive(Clone, Debug)]
pub struct Tpm {
    program: PathBuf,
    opened: PathBuf,
}

impl Default for Tpm {
    fn default() -> Self {
        Self { program: PROGRAM.into(), opened: OPENED.into() }
    }
}

impl Tpm {
    /// The TPM, where there is one that firmware, kernel and systemd can use.
    pub fn of_this_machine() -> Option<Self> {
        let tpm = Self::default();
        let asked = Command::new(&tpm.program).args(["has-tpm2", "--quiet"]).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success()).then_some(tpm)
    }

    /// Seals a key of the state directory, in place of one of this name that is there, and leaves it opened.
    ///
    /// # Errors
    /// [`SealError`]; what was there stays then.
    pub fn seal(&self, state_dir: &Path, name: &str, key: &[u8]) -> Result<(), SealError> {
        let sealed = state_dir.join(SEALED);
        make_private(&sealed)?;
        let mut command = Command::new(&self.program);
        command.args(["encrypt", "--with-key=tpm2", PCRS]).arg(format!("--name={name}")).args(["-", "-"]);
        let done = fed(&mut command, key)?;
        if !done.status.success() {
            return Err(SealError::NotSealed { name: name.to_owned(), reason: last_line(&done.stderr) });
        }
        secret_file::replace(&sealed.join(name), &done.stdout)?;
        self.keep_opened(name, key)?;
        let link = state_dir.join(name);
        let linked = self.link(&link, &state_dir.join(format!("{name}.new")));
        linked.and_then(|()| File::open(state_dir)?.sync_all()).map_err(|source| SealError::Io {
            action: "link",
            path: link,
            source,
        })
    }

    /// Seals the account's keys that are in `from` into the state directory; their names.
    ///
    /// # Errors
    /// [`SealError`] when one cannot be read or sealed.
    pub fn seal_all(&self, from: &Path, state_dir: &Path) -> Result<Vec<&'static str>, SealError> {
        let there: Vec<_> = key::FILES.into_iter().filter(|name| from.join(name).exists()).collect();
        for name in &there {
            self.seal(state_dir, name, &secret_file::read(&from.join(name))?)?;
        }
        Ok(there)
    }

    /// Opens all sealed keys of the state directory; their names.
    ///
    /// # Errors
    /// [`SealError`]; keys after the first that does not open stay closed.
    pub fn open_all(&self, state_dir: &Path) -> Result<Vec<String>, SealError> {
        let mut names = names(&state_dir.join(SEALED))?;
        names.sort_unstable();
        for name in &names {
            self.open(&state_dir.join(SEALED).join(name), name)?;
        }
        Ok(names)
    }

    fn open(&self, path: &Path, name: &str) -> Result<(), SealError> {
        let mut command = Command::new(&self.program);
        command.arg("decrypt").arg(format!("--name={name}")).arg(path).arg("-");
        let done = fed(&mut command, b"")?;
        let key = Zeroizing::new(done.stdout);
        if !done.status.success() {
            return Err(SealError::NotOpened { path: path.to_owned(), reason: last_line(&done.stderr) });
        }
        self.keep_opened(name, &key)
    }

    /// Makes `link` lead to where the key of its name lies opened, in one step over `next`.
    fn link(&self, link: &Path, next: &Path) -> io::Result<()> {
        match fs::remove_file(next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        symlink(self.opened.join(link.file_name().unwrap_or_default()), next)?;
        fs::rename(next, link)
    }

    fn keep_opened(&self, name: &str, key: &[u8]) -> Result<(), SealError> {
        make_private(&self.opened)?;
        Ok(secret_file::replace(&self.opened.join(name), key)?)
    }
}

/// Whether a key of the state directory is sealed, opened or not.
pub fn is_sealed(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    path.is_symlink() && path.with_file_name(SEALED).join(name).exists()
}

/// Runs a program with this input.
fn fed(command: &mut Command, input: &[u8]) -> Result<Output, SealError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(SealError::Run)?;
    if let Some(mut pipe) = child.stdin.take() {
        // One that does not read ends with an error of its own, which says more.
        pipe.write_all(input).ok();
    }
    child.wait_with_output().map_err(SealError::Run)
}

/// The last thing that a program has said.
fn last_line(told: &[u8]) -> String {
    let told = String::from_utf8_lossy(told);
    told.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim().to_owned()
}

/// Names of sealed keys; none where there is no directory of them.
fn names(sealed: &Path) -> Result<Vec<String>, SealError> {
    let failed = |source| SealError::Io { action: "read", path: sealed.to_owned(), source };
    let entries = match fs::read_dir(sealed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let named = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = named.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    // What a cut left is no key.
    Ok(names.into_iter().filter(|name| !name.ends_with(".new")).collect())
}

fn make_private(dir: &Path) -> Result<(), SealError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| SealError::Io { action: "make", path: dir.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program that turns keys round, and opens only what it has sealed under the same name.
    const STAND_IN: &str = "#!/bin/sh\nverb=$1\nfor word; do case $word in --name=*) name=${word#--name=} ;; esac; done\n\
        case $verb in\nencrypt) echo \"sealed $name\"; rev ;;\n\
        decrypt) read -r line <\"$3\"; [ \"$line\" = \"sealed $name\" ] || { echo 'no such key' >&2; exit 1; }; tail -n +2 \"$3\" | rev ;;\n\
        *) exit 1 ;;\nesac\n";

    fn machine() -> (tempfile::TempDir, Tpm, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("systemd-creds");
        fs::write(&program, STAND_IN).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        let opened = dir.path().join("run/keys");
        (dir, Tpm { program, opened }, state)
    }

    #[test]
    fn a_sealed_key_is_read_as_any_other_until_the_machine_is_off_and_after_it_was_opened() {
        let (dir, tpm, state) = machine();
        fs::write(state.join("ca_key"), "an old one").unwrap();
        tpm.seal(&state, "ca_key", b"secret\n").unwrap();
        assert_eq!(secret_file::read(&state.join("ca_key")).unwrap().as_slice(), b"secret\n");
        assert!(is_sealed(&state.join("ca_key")));
        assert_eq!(fs::read(state.join("sealed/ca_key")).unwrap(), b"sealed ca_key\nterces\n");
        fs::remove_dir_all(dir.path().join("run")).unwrap();
        assert!(secret_file::read(&state.join("ca_key")).is_err());
        assert_eq!(tpm.open_all(&state).unwrap(), ["ca_key"]);
        assert_eq!(secret_file::read(&state.join("ca_key")).unwrap().as_slice(), b"secret\n");
    }

    #[test]
    fn a_key_that_does_not_open_is_named_with_what_to_do() {
        let (_dir, tpm, state) = machine();
        assert!(tpm.open_all(&state).unwrap().is_empty());
        tpm.seal(&state, "account_secret", b"secret\n").unwrap();
        fs::rename(state.join("sealed/account_secret"), state.join("sealed/ca_key")).unwrap();
        let told = tpm.open_all(&state).unwrap_err().to_string();
        for part in ["sealed/ca_key", "no such key", "operate.md", "stay closed"] {
            assert!(told.contains(part), "{told}");
        }
        let gone = Tpm { program: state.join("none"), ..tpm };
        assert!(matches!(gone.seal(&state, "ca_key", b"x"), Err(SealError::Run(_))));
        assert!(!state.join("ca_key").exists());
    }
}
