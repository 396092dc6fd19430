//! The command line: one file per verb below `cli/`.
//!
//! Exit status 0 means done, 1 means an error that is printed on standard error, 2 means unusable
//! arguments, 3 means that `explain` found the connection denied, that `probe` found the CA not trusted,
//! that `doctor` found something bad or that `ready` found the gateway not ready, 4 means that `datapath coverage` does
//! not balance.

mod audit_key;
mod ca;
mod check_config;
mod datapath;
mod doctor;
mod explain;
mod host_keys;
mod kernel_policies;
pub mod logs;
pub mod print;
mod probe;
mod provision;
mod ready;
mod run;
mod sessions;
mod setup;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use portreeve_core::config::daemon::{self, Config};

use crate::fips;

/// Transparent SSH gateway: intercepts, decides, certifies, records.
#[derive(Debug, Parser)]
#[command(version = VERSION, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// Print JSON for machines instead of text for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

const VERSION: &str =
    if fips::BUILD { concat!(env!("CARGO_PKG_VERSION"), " (FIPS build)") } else { env!("CARGO_PKG_VERSION") };

const EXAMPLES: &str = "\
Examples:
  portreeve ca init                                   make the CA key and the account secret
  portreeve ca public-key                             print the line for TrustedUserCAKeys of targets
  portreeve ca host-public-key                        print the @cert-authority line for known_hosts of users
  portreeve logs generate-key-pair recipient          make the key pair that opens recordings
  portreeve check-config                              check both files, change nothing
  portreeve run                                       run the gateway
  portreeve explain --from 10.1.1.7 --to 10.2.0.5:22 --login root
                                                      say which rule decides, and why
  portreeve probe 10.2.0.5 --login root               see what a target shows, and whether it trusts the CA";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the gateway
    Run(run::RunArgs),
    /// Check the configuration and the policy file, and change nothing
    CheckConfig(check_config::CheckConfigArgs),
    /// Say which rule decides about a connection, and why
    Explain(explain::ExplainArgs),
    /// Connect to a target as an SSH client, and report what it shows
    Probe(probe::ProbeArgs),
    /// Look at everything that the gateway rests on, and say what to do
    Doctor(doctor::DoctorArgs),
    /// Make and show the keys of the certificate authority
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Show and rotate the key that signs manifests of recordings
    #[command(subcommand)]
    AuditKey(audit_key::AuditKeyCommand),
    /// List and forget the pinned host keys of targets
    #[command(subcommand)]
    HostKeys(host_keys::HostKeysCommand),
    /// Ask for what a seed says, and make this machine that
    Setup(setup::SetupArgs),
    /// Make this machine what its seed says
    Provision(provision::ProvisionArgs),
    /// Wait until the gateway serves and every interface has its programs, and say so in one line
    Ready(ready::ReadyArgs),
    /// Attach, show, watch, account for or remove what is in the kernel
    #[command(subcommand)]
    Datapath(datapath::DatapathCommand),
    /// List, show, watch and end live sessions
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    /// Make recipient keys; list, search, decrypt, export and replay recordings
    #[command(subcommand)]
    Logs(logs::LogsCommand),
}

/// Where the daemon's configuration is.
#[derive(Debug, clap::Args)]
struct ConfigArg {
    /// The daemon's configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/portreeve/portreeve.toml")]
    config: PathBuf,
}

/// Where keys and pins are kept.
#[derive(Debug, clap::Args)]
struct StateDirArg {
    /// The state directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/portreeve")]
    state_dir: PathBuf,
}

impl Cli {
    /// Runs the verb; an error is printed as one line per cause.
    pub fn run(self) -> ExitCode {
        let json = self.json;
        let result = match self.verb {
            Verb::Run(args) => args.run(json),
            Verb::CheckConfig(args) => args.run(json),
            Verb::Explain(args) => args.run(json),
            Verb::Probe(args) => args.run(json),
            Verb::Doctor(args) => args.run(json),
            Verb::Ready(args) => args.run(json),
            Verb::Provision(args) => args.run(json),
            Verb::Setup(args) => args.run(json),
            Verb::Ca(command) => command.run(json),
            Verb::AuditKey(command) => command.run(json),
            Verb::HostKeys(command) => command.run(json),
            Verb::Datapath(command) => command.run(json),
            Verb::Sessions(command) => command.run(json),
            Verb::Logs(command) => command.run(json),
        };
        result.unwrap_or_else(|error| {
            print::error(&format!("{error:#}"));
            ExitCode::FAILURE
        })
    }
}

impl ConfigArg {
    fn load(&self) -> anyhow::Result<Config> {
        load_config(&self.config)
    }
}

/// The async runtime of a verb that waits for something.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the async runtime")
}

fn load_config(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    Ok(daemon::load(&text, &path.to_string_lossy())?)
}
