//! `portreeve doctor`.

use std::process::ExitCode;

use portreeve_core::login::Login;

use super::{ConfigArg, print, runtime};
use crate::doctor::{self, Finding, Grade, Scope};

/// Exit status when something is bad.
const BAD: u8 = 3;

/// Arguments of `portreeve doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Looks at files, kernel, interfaces, clock, disk, targets and destinations, and says what to do about each finding.
Changes nothing. Targets are connected to and logged in at, with a certificate of the CA, as by `portreeve probe`.
Exit status 0 means that nothing is bad, 3 that something is.

Example:
  portreeve doctor --targets 0                        everything but the targets")]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Connect to so many addresses of targets at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    targets: usize,
    /// Log in at targets as NAME; without it as the first login that a policy names
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
}

impl DoctorArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let login = self.login.as_deref().map(Login::new).transpose()?;
        let scope = Scope { targets: self.targets, login };
        let findings = runtime()?.block_on(doctor::examine(&self.config.config, &scope));
        for finding in &findings {
            if json {
                print::json(finding)?;
            } else {
                print::line(&print::without_controls(&shown(finding)))?;
                if let Some(advice) = &finding.advice {
                    print::line(&print::without_controls(&format!("         {advice}")))?;
                }
            }
        }
        let bad = findings.iter().any(|finding| finding.grade == Grade::Bad);
        Ok(if bad { ExitCode::from(BAD) } else { ExitCode::SUCCESS })
    }
}

fn shown(finding: &Finding) -> String {
    let grade = match finding.grade {
        Grade::Good => "good",
        Grade::Warning => "warning",
        Grade::Bad => "BAD",
    };
    format!("{grade:<7}  {}: {}", finding.about, finding.found)
}
