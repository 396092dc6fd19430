//! `portreeve probe`.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use portreeve_core::login::Login;

use super::{StateDirArg, print};
use crate::ca::Signer;
use crate::ca::key::CaKey;
use crate::probe::{self, LogIn, Report};

/// Exit status when the target does not trust the CA.
const NOT_TRUSTED: u8 = 3;

/// Arguments of `portreeve probe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Connects as an ordinary SSH client, changes nothing and pins nothing. With --login it logs in with a
certificate of the CA in the state directory, and leaves at once. Exit status 0 means that all is well or was
not tried, 3 means that the target does not accept the certificate.

Example:
  portreeve probe 10.2.0.5 --login root")]
pub(super) struct ProbeArgs {
    /// Address or name of the target
    target: String,
    /// Its SSH port
    #[arg(long, default_value_t = 22)]
    port: u16,
    /// Log in as NAME, to see whether the CA is trusted
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
    #[command(flatten)]
    state: StateDirArg,
}

impl ProbeArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let log_in = match &self.login {
            Some(name) => Some((Login::new(name)?, Signer::new(CaKey::load(&self.state.state_dir)?))),
            None => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let report = runtime.block_on(async {
            let target = resolve(&self.target, self.port).await?;
            let log_in = log_in.as_ref().map(|(login, signer)| LogIn { login, signer });
            anyhow::Ok(probe::probe(target, log_in).await?)
        })?;
        if json {
            print::json(&report)?;
        } else {
            print_for_people(&report)?;
        }
        let refused = report.ca_trusted == Some(false);
        Ok(if refused { ExitCode::from(NOT_TRUSTED) } else { ExitCode::SUCCESS })
    }
}

async fn resolve(target: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let found = tokio::net::lookup_host((target, port)).await;
    let mut found = found.with_context(|| format!("cannot find the address of {target}"))?;
    found.next().ok_or_else(|| anyhow!("{target} has no address"))
}

fn print_for_people(report: &Report) -> std::io::Result<()> {
    print::line(&format!("{} is {}", report.target, report.identification))?;
    let (round_trip, handshake) = (milliseconds(report.round_trip_us), milliseconds(report.handshake_us));
    print::line(&format!("round trip {round_trip} ms, TCP and SSH handshake {handshake} ms"))?;
    let algorithms = &report.algorithms;
    let mac = algorithms.mac.as_ref().map(|mac| format!(" and {mac}")).unwrap_or_default();
    print::line(&format!("{} with {}{mac}", algorithms.key_exchange, algorithms.cipher))?;
    for key in &report.host_keys {
        print::line(&format!("host key {} {}", key.algorithm, key.fingerprint))?;
    }
    let trusted = match report.ca_trusted {
        Some(true) => "the gateway's CA is trusted",
        Some(false) => "the gateway's certificate is NOT accepted",
        None => "the log-in was not tried",
    };
    print::line(trusted)?;
    for advice in &report.advice {
        print::line(&format!("- {advice}"))?;
    }
    Ok(())
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{}", micros / 1000, micros % 1000 / 100)
}
