//! The seed on its machine: found, kept, rendered into files at each start.
//!
//! What is written once makes the gateway (`/etc/portreeve`, keys in the state directory), and belongs to the operator
//! from then on; what the host needs is made anew below `/run` at every start. Invariants: nothing is written before the
//! whole seed has been read; the kept seed is written last, so that a first start that was cut begins anew; keys that
//! are there are never replaced, and with a TPM they are never on the disk in clear. Deliberately absent: applying. The machine's own services read the files, and its
//! unit switches forwarding on when all of this has gone well.

mod accounts;
mod volumes;
mod wireguard;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use portreeve_core::config::ConfigErrors;
use portreeve_core::config::seed::{self, File, Keys, Seed};
use thiserror::Error;

use crate::ca::key::{self, AccountKeyError, CaAlgorithm};
use crate::ca::sealed::{SealError, Tpm};
use crate::secret_file::{self, SecretFileError};

/// Where the seed is kept.
const KEPT: &str = "/etc/portreeve/seed.toml";
const STATE_DIR: &str = "/var/lib/portreeve";
/// What starts FRR.
const FRR: &str = "/usr/lib/frr/frrinit.sh";

/// Longest seed, in bytes.
const MAX_SEED: u64 = 4 << 20;

/// Why a machine was not provisioned.
#[derive(Debug, Error)]
pub enum ProvisionError {
    /// The seed cannot be used; nothing was written.
    #[error(transparent)]
    Seed(#[from] ConfigErrors),
    /// Keys cannot be made.
    #[error(transparent)]
    Keys(#[from] AccountKeyError),
    /// A key of the seed cannot be written.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// A key cannot be sealed.
    #[error("{0}: to keep keys in plain files, switch the TPM off in the firmware's settings")]
    Seal(#[from] SealError),
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file, directory or device.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A key of WireGuard is none, or none can be made.
    #[error("the private key of WireGuard interface {interface} cannot be made or used")]
    WireGuard {
        /// Its name.
        interface: String,
    },
    /// The seed has routes for daemons that the machine does not have.
    #[error(
        "routing.frr: this machine has no FRR: take the image whose name has -frr (`cargo xtask image --frr`)"
    )]
    NoFrr,
    /// Several volumes hold a seed, or one holds none.
    #[error("{0}")]
    Volume(String),
}

/// What there was to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is no seed yet: `portreeve setup` makes one.
    NoSeed,
    /// The gateway's files were written, from the seed of this name.
    First(String),
    /// They were there; the host's files were made from the kept seed.
    Again,
}

/// What to provision.
#[derive(Clone, Debug)]
pub struct Provisioning {
    /// The root of the machine.
    pub root: PathBuf,
    /// A seed to use in place of the kept one, and of those on volumes.
    pub seed: Option<PathBuf>,
    /// What keys of a first start are sealed to.
    pub tpm: Option<Tpm>,
}

impl Provisioning {
    /// Finds the seed, and makes all files from it.
    ///
    /// # Errors
    /// [`ProvisionError`]; forwarding stays off then.
    pub fn run(&self) -> Result<Outcome, ProvisionError> {
        let Some((name, text, is_new)) = self.find()? else { return Ok(Outcome::NoSeed) };
        let seed = seed::load(&text, &name)?;
        // A root without /usr is no machine, but where somebody looks at what would be written.
        if seed.has_frr() && self.path("/usr").is_dir() && !self.path(FRR).exists() {
            return Err(ProvisionError::NoFrr);
        }
        if is_new {
            self.keep(&seed)?;
        }
        let passwords = accounts::files(&self.root, seed.account.as_ref())?;
        let keys = wireguard::keys(&self.path(STATE_DIR), &seed)?;
        self.write_host(seed.host_files(&keys).into_iter().chain(passwords).collect())?;
        Ok(if is_new { Outcome::First(name) } else { Outcome::Again })
    }

    /// The public keys of WireGuard interfaces, by their names; none before the machine was set up.
    ///
    /// # Errors
    /// [`ProvisionError`], when the kept seed cannot be used or a key cannot be read.
    pub fn public_keys(&self) -> Result<BTreeMap<String, String>, ProvisionError> {
        let kept = self.path(KEPT);
        if !kept.exists() {
            return Ok(BTreeMap::new());
        }
        let seed = seed::load(&read(&kept)?, &kept.display().to_string())?;
        let keys = wireguard::keys(&self.path(STATE_DIR), &seed)?;
        keys.into_iter().map(|(name, key)| wireguard::public(&name, &key).map(|key| (name, key))).collect()
    }

    /// The name and text of the seed, and whether it is new.
    fn find(&self) -> Result<Option<(String, String, bool)>, ProvisionError> {
        if let Some(path) = &self.seed {
            return Ok(Some((path.display().to_string(), read(path)?, true)));
        }
        let kept = self.path(KEPT);
        if kept.exists() {
            return Ok(Some((kept.display().to_string(), read(&kept)?, false)));
        }
        Ok(volumes::find(&self.path("/dev/disk/by-label"))?.map(|(name, text)| (name, text, true)))
    }

    /// Writes the gateway's files and keys, and last the seed.
    fn keep(&self, seed: &Seed) -> Result<(), ProvisionError> {
        make_dir(&self.path("/etc/portreeve"), 0o755)?;
        for file in seed.gateway_files() {
            self.write(file)?;
        }
        self.make_keys(&self.path(STATE_DIR), seed.keys.as_ref())?;
        self.write(&File { path: KEPT.to_owned(), mode: 0o600, text: seed.kept().to_owned() })
    }

    /// Keys of the seed, or new ones; those that are there stay. Of new ones the CA key is the last.
    fn make_keys(&self, state_dir: &Path, given: Option<&Keys>) -> Result<(), ProvisionError> {
        // A link to a sealed key that is not opened leads nowhere.
        let there = |name: &str| state_dir.join(name).symlink_metadata().is_ok();
        make_dir(state_dir, 0o700)?;
        let made = if given.is_none() && !there("ca_key") {
            Some(key::generate(CaAlgorithm::default())?)
        } else {
            None
        };
        let made = made.iter().flat_map(|made| [("account_secret", &*made.secret), ("ca_key", &*made.ca)]);
        let given = given.into_iter().flat_map(|keys| {
            let host_ca = keys.host_ca.as_ref().map(|key| ("host_ca_key", key));
            [("account_secret", &keys.account_secret), ("ca_key", &keys.ca)].into_iter().chain(host_ca)
        });
        for (name, text) in made.chain(given).filter(|(name, _)| !there(name)) {
            match &self.tpm {
                Some(tpm) => tpm.seal(state_dir, name, text.as_bytes())?,
                None => secret_file::write_new(&state_dir.join(name), text.as_bytes())?,
            }
        }
        Ok(())
    }

    /// Writes what the host needs, in place of what an earlier run wrote.
    fn write_host(&self, files: Vec<File>) -> Result<(), ProvisionError> {
        const LIST: &str = "/run/portreeve/rendered";
        let list = self.path(LIST);
        for path in fs::read_to_string(&list).unwrap_or_default().lines() {
            let path = self.path(path);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(ProvisionError::Io { action: "remove", path, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        let paths: String = files.iter().map(|file| format!("{}\n", file.path)).collect();
        self.write(&File { path: LIST.to_owned(), mode: 0o644, text: paths })?;
        files.iter().try_for_each(|file| self.write(file))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Writes a file in one step.
    fn write(&self, file: &File) -> Result<(), ProvisionError> {
        let path = self.path(&file.path);
        let failed = |action| {
            let path = path.clone();
            move |source| ProvisionError::Io { action, path, source }
        };
        if let Some(dir) = path.parent() {
            make_dir(dir, 0o755)?;
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let next = path.with_file_name(name);
        fs::remove_file(&next).or_else(absent).map_err(failed("replace"))?;
        let mut opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file.mode)
            .open(&next)
            .map_err(failed("write"))?;
        let mode = Permissions::from_mode(file.mode);
        opened
            .write_all(file.text.as_bytes())
            .and_then(|()| opened.set_permissions(mode))
            .and_then(|()| opened.sync_all())
            .map_err(failed("write"))?;
        fs::rename(&next, &path).map_err(failed("write"))
    }
}

/// Makes a directory and what is above it, with these permissions whatever the umask; one that is there stays as it is.
fn make_dir(path: &Path, mode: u32) -> Result<(), ProvisionError> {
    // Above the first part of a relative path stands nothing: it is in the directory that the process is in.
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_dir(above, 0o755)?;
    }
    let made = fs::create_dir(path).and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)));
    made.map_err(|source| ProvisionError::Io { action: "make", path: path.to_owned(), source })
}

fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn read(path: &Path) -> Result<String, ProvisionError> {
    let failed = |source| ProvisionError::Io { action: "read", path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MAX_SEED {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests;
