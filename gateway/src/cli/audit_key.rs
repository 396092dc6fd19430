//! `portreeve audit-key`.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use portreeve_core::manifest::AuditPublicKey;
use serde::Serialize;

use super::{StateDirArg, print};
use crate::audit::{self, AuditChain};

/// The verbs of `portreeve audit-key`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum AuditKeyCommand {
    /// Print the public key, as `portreeve logs verify` wants it; its id is at the end
    #[command(after_help = "\
Example:
  portreeve audit-key show --all > audit_key.pub           (on the gateway; copy the file)
  portreeve logs verify --audit-key audit_key.pub spool/   (where recordings are checked)")]
    Show {
        #[command(flatten)]
        state: StateDirArg,
        /// Print the keys before it too, newest first
        #[arg(long)]
        all: bool,
    },
    /// Make another key, which signs from now on; the old one signs that it does
    Rotate {
        #[command(flatten)]
        state: StateDirArg,
    },
    /// Print a signed head of the chain, to be kept elsewhere: what is removed after it shows
    #[command(after_help = "\
Example:
  portreeve audit-key head > head.json                     (on the gateway; keep the file elsewhere)
  portreeve logs verify --audit-key audit_key.pub --head head.json spool/")]
    Head {
        #[command(flatten)]
        state: StateDirArg,
    },
}

#[derive(Serialize)]
struct KeyReport {
    public_key: String,
    id: String,
}

impl AuditKeyCommand {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        match self {
            Self::Show { state, all } => {
                let keys = audit::public_keys(&state.state_dir)?;
                let shown = if all { keys.len() } else { 1 };
                keys.iter().take(shown).try_for_each(|key| print_key(key, json))?;
            }
            Self::Rotate { state } => {
                print_key(&audit::rotate(&state.state_dir, SystemTime::now().into())?, json)?;
            }
            Self::Head { state } => {
                let head = AuditChain::open(&state.state_dir)?.head(SystemTime::now().into())?;
                let (_, document) = head.context("no session has been recorded yet")?;
                print::line(document.trim_end())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_key(key: &AuditPublicKey, json: bool) -> anyhow::Result<()> {
    if json {
        print::json(&KeyReport { public_key: key.to_string(), id: key.id() })?;
    } else {
        print::line(&key.to_string())?;
    }
    Ok(())
}
