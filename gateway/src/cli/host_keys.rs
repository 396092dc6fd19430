//! `portreeve host-keys`.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::bail;
use portreeve_core::net::OriginalDst;
use serde::Serialize;

use super::{StateDirArg, print};
use crate::known_hosts::KnownHosts;

/// The verbs of `portreeve host-keys`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
The host key of a target is pinned when somebody is first let in; others are pinned beside it when the
target announces them and proves to own them. The first one in the list decides what users see. A
target that shows a key that is not pinned lets nobody in: compare the new key with the target's console,
then forget the old ones.

Example:
  portreeve host-keys forget 10.2.0.5:22")]
pub(super) enum HostKeysCommand {
    /// List the pinned host keys
    List {
        #[command(flatten)]
        state: StateDirArg,
    },
    /// Forget the pinned host keys of a target; the next key it shows is pinned
    Forget {
        /// Address and port, as 10.2.0.5:22 or [2001:db8::5]:22
        target: SocketAddr,
        #[command(flatten)]
        state: StateDirArg,
    },
}

#[derive(Serialize)]
struct Pin {
    target: String,
    keys: Vec<String>,
}

impl HostKeysCommand {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { state } => {
                for pinned in KnownHosts::open(&state.state_dir)?.list()? {
                    let keys = pinned
                        .keys
                        .iter()
                        .map(ssh_key::PublicKey::to_openssh)
                        .collect::<Result<Vec<_>, _>>()?;
                    let pin = Pin { target: pinned.dst.to_string(), keys };
                    if json {
                        print::json(&pin)?;
                    } else {
                        for key in &pin.keys {
                            print::line(&format!("{} {key}", pin.target))?;
                        }
                    }
                }
            }
            Self::Forget { target, state } => {
                if !KnownHosts::open(&state.state_dir)?.forget(OriginalDst::new(target))? {
                    bail!("no host key is pinned for {target}: `portreeve host-keys list` shows what is");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
