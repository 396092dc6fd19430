//! `portreeve ca`.

use std::process::ExitCode;

use serde::Serialize;
use ssh_key::{HashAlg, PublicKey};

use super::{StateDirArg, print};
use crate::ca::key::{self, CaAlgorithm, CaKey};

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
}

#[derive(Serialize)]
struct PublicKeyReport {
    public_key: String,
    fingerprint: String,
}

impl CaCommand {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let key = match self {
            Self::Init { state, algorithm } => key::init(&state.state_dir, algorithm)?,
            Self::PublicKey { state } => CaKey::load(&state.state_dir)?,
        };
        print_public_key(key.public_key(), json)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print_public_key(key: &PublicKey, json: bool) -> anyhow::Result<()> {
    let public_key = key.to_openssh()?;
    if json {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        print::json(&PublicKeyReport { public_key, fingerprint })?;
    } else {
        print::line(&public_key)?;
    }
    Ok(())
}
