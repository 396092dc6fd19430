//! `portreeve run`.

use std::process::ExitCode;

use anyhow::Context as _;

use super::ConfigArg;
use crate::app::{self, Start};
use crate::telemetry;

/// Arguments of `portreeve run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIGHUP reloads the policy file and reopens the access log; a change of the policy file reloads it too.
SIGTERM ends live sessions and takes routes down; kernel programs stay, so targets stay closed.
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
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let start = if self.takeover { Start::Takeover } else { Start::Fresh };
        runtime.block_on(app::run(config, start))?;
        Ok(ExitCode::SUCCESS)
    }
}
