//! `portreeve ca`.

use std::process::ExitCode;

use serde::Serialize;
use ssh_key::{HashAlg, PublicKey};

use super::{StateDirArg, print};
use crate::ca::key::{self, CaAlgorithm, CaKey, HostCaKey};

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
        }
        Ok(ExitCode::SUCCESS)
    }
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
