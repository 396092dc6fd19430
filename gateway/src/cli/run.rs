//! `portreeve run`.

use std::io;
use std::process::ExitCode;

use anyhow::Context as _;

use nix::libc;

use super::ConfigArg;
use crate::app::{self, Start};
use crate::datapath::DatapathError;
use crate::{capabilities, telemetry};

/// Arguments of `portreeve run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIGHUP reloads the policy file and reopens the access log; a change of the policy file reloads it too.
SIGTERM ends live sessions and takes routes down; kernel programs stay, so targets stay closed.
It keeps CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_BPF and CAP_PERFMON alone: its files must be its user's, root's too.
With --takeover SIGTERM to the gateway that drains ends its sessions and nothing else.
Log lines go to standard error (RUST_LOG sets their level), with --json one JSON object each.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Take over from the gateway that runs, if one does: it keeps its sessions until they end
    #[arg(long)]
    takeover: bool,
}

impl RunArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let config = self.config.load()?;
        telemetry::init(json).map_err(anyhow::Error::from_boxed)?;
        // Before there are threads.
        capabilities::reduce()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let start = if self.takeover { Start::Takeover } else { Start::Fresh };
        runtime.block_on(app::run(config, start)).map_err(explain)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A file that root could read with any other program is not readable here: says why.
fn explain(error: anyhow::Error) -> anyhow::Error {
    let denied = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(libc::EACCES))
    };
    // The verifier refuses programs with the same number.
    if error.chain().any(denied) && !error.chain().any(<dyn std::error::Error>::is::<DatapathError>) {
        error.context(
            "a permission is missing: the gateway keeps no right to use the files of other users, so let its user \
             own them (chown), or give the permission",
        )
    } else {
        error
    }
}
