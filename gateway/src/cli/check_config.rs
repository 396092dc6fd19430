//! `portreeve check-config`.

use std::path::PathBuf;
use std::process::ExitCode;

use portreeve_core::config::agreement;
use portreeve_core::id::Generation;
use serde::Serialize;

use super::kernel_policies::KernelPolicies;
use super::{ConfigArg, print};
use crate::ca::key;
use crate::recording::recipient::Recipients;
use crate::{ship, store};

/// Arguments of `portreeve check-config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Checks both files as `portreeve run` would, with the keys they name, and prints every problem with
file, line and key. Exit status 1 means that `portreeve run` would refuse them.

Example:
  portreeve check-config --config portreeve.toml --policy policy.toml.new")]
pub(super) struct CheckConfigArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Check this policy file instead of the configured one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Check the two files alone, not the keys they name
    #[arg(long)]
    no_keys: bool,
}

#[derive(Serialize)]
struct Report {
    targets: usize,
    applications: usize,
    endpoints: usize,
    kernel_policies: KernelPolicies,
    warnings: Vec<String>,
}

impl CheckConfigArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let config = self.config.load()?;
        let policy = store::load(self.policy.as_ref().unwrap_or(&config.policy_file), Generation(1))?;
        if !self.no_keys {
            key::load_cas(&config.state_dir, config.downstream.host_certificates)?;
            key::load_account_secret(&config.state_dir)?;
            Recipients::load(&config.recording.recipient_key_files)?;
            ship::check(&config.ship)?;
        }
        let mut warnings = policy.warnings;
        warnings.extend(agreement::warnings(&config, &policy.snapshot));
        let infrastructure = &policy.snapshot.infrastructure;
        let report = Report {
            targets: infrastructure.targets().len(),
            applications: infrastructure.applications().len(),
            endpoints: infrastructure.steered().len(),
            kernel_policies: KernelPolicies::of(&policy.snapshot.network),
            warnings,
        };
        if json {
            print::json(&report)?;
            return Ok(ExitCode::SUCCESS);
        }
        for warning in &report.warnings {
            print::line(&format!("warning: {warning}"))?;
        }
        print::line(&format!(
            "good: {} targets, {} applications, {} addresses and ports are steered",
            report.targets, report.applications, report.endpoints
        ))?;
        if !policy.snapshot.network.policies().is_empty() {
            print::line(&report.kernel_policies.to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
