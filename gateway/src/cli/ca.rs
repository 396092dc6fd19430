//! `portreeve ca`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use ssh_key::{HashAlg, PublicKey};

use super::{StateDirArg, print};
use crate::ca::key::{self, CaAlgorithm, CaKey, HostCaKey};
use crate::ca::sealed::Tpm;

/// The verbs of `portreeve ca`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum CaCommand {
    /// Make the CA key and the account secret; refuses to overwrite
    Init {
        #[command(flatten)]
        state: StateDirArg,
        /// The kind of the CA key
        #[arg(long, value_enum, default_value_t)]
        algorithm: CaAlgorithm,
    },
    /// Print the CA's public key, as TrustedUserCAKeys of targets wants it
    #[command(after_help = "\
Example, on a target:
  portreeve ca public-key > /etc/ssh/portreeve_ca.pub      (on the gateway; copy the file)
  echo 'TrustedUserCAKeys /etc/ssh/portreeve_ca.pub' >> /etc/ssh/sshd_config")]
    PublicKey {
        #[command(flatten)]
        state: StateDirArg,
    },
    /// Make the key that signs host certificates for users; refuses to overwrite
    InitHost {
        #[command(flatten)]
        state: StateDirArg,
        /// The kind of the host CA key
        #[arg(long, value_enum, default_value_t)]
        algorithm: CaAlgorithm,
    },
    /// Print the host CA's public key, as a line for known_hosts of users
    #[command(after_help = "\
The line trusts the host CA for every host. Write patterns of names and addresses in place of *, as in
10.1.*,*.example.com, to trust it for them alone.

Example, on a user's machine:
  portreeve ca host-public-key > portreeve_host_ca         (on the gateway; copy the file)
  cat portreeve_host_ca >> ~/.ssh/known_hosts              (or /etc/ssh/ssh_known_hosts, for all users)")]
    HostPublicKey {
        #[command(flatten)]
        state: StateDirArg,
    },
    /// Seal both CA keys and the account secret to this machine's TPM, in place of those that are there
    #[command(after_help = "\
Only this TPM opens them again, and only while Secure Boot and its keys are as they are now (PCR 7). Keep a copy of
the keys elsewhere. From the next start on portreeve-unseal.service opens them before the gateway starts.")]
    Seal {
        #[command(flatten)]
        state: StateDirArg,
        /// Where the keys are now, if not in the state directory: in memory, as below /run, so that no disk has seen them
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Have the TPM open what it has sealed, until the machine is off
    Unseal {
        #[command(flatten)]
        state: StateDirArg,
    },
}

#[derive(Serialize)]
struct KeysReport<'a> {
    keys: &'a [&'a str],
}

#[derive(Serialize)]
struct PublicKeyReport {
    public_key: String,
    fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    known_hosts: Option<String>,
}

impl CaCommand {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        match self {
            Self::Init { state, algorithm } => {
                print_user_ca(key::init(&state.state_dir, algorithm)?.public_key(), json)?;
            }
            Self::PublicKey { state } => print_user_ca(CaKey::load(&state.state_dir)?.public_key(), json)?,
            Self::InitHost { state, algorithm } => {
                print_host_ca(HostCaKey::init(&state.state_dir, algorithm)?.public_key(), json)?;
            }
            Self::HostPublicKey { state } => {
                let users = CaKey::load(&state.state_dir)?;
                print_host_ca(HostCaKey::load(&state.state_dir, &users)?.public_key(), json)?;
            }
            Self::Seal { state, from } => {
                let tpm = Tpm::of_this_machine()
                    .context("systemd finds no TPM that it can use: `systemd-creds has-tpm2`")?;
                let from = from.unwrap_or_else(|| state.state_dir.clone());
                let sealed = tpm.seal_all(&from, &state.state_dir)?;
                ensure!(!sealed.is_empty(), "no key in {}", from.display());
                print_keys("sealed", &sealed, json)?;
            }
            Self::Unseal { state } => {
                let opened = Tpm::default().open_all(&state.state_dir)?;
                print_keys("opened", &opened.iter().map(String::as_str).collect::<Vec<_>>(), json)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_keys(done: &str, keys: &[&str], json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(print::json(&KeysReport { keys })?);
    }
    Ok(print::line(&format!(
        "{done}: {}",
        if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
    ))?)
}

fn print_user_ca(key: &PublicKey, json: bool) -> anyhow::Result<()> {
    let report = PublicKeyReport::new(key)?;
    if json {
        print::json(&report)?
    } else {
        print::line(&report.public_key)?
    }
    Ok(())
}

fn print_host_ca(key: &PublicKey, json: bool) -> anyhow::Result<()> {
    let report = PublicKeyReport::new(key)?;
    let known_hosts = format!("@cert-authority * {}", report.public_key);
    if json {
        print::json(&PublicKeyReport { known_hosts: Some(known_hosts), ..report })?;
    } else {
        print::line(&known_hosts)?;
    }
    Ok(())
}

impl PublicKeyReport {
    fn new(key: &PublicKey) -> anyhow::Result<Self> {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        Ok(Self { public_key: key.to_openssh()?, fingerprint, known_hosts: None })
    }
}
