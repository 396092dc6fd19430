//! `portreeve explain`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use portreeve_core::id::Generation;
use portreeve_core::infrastructure::{self, AccessRequest, Explanation};
use portreeve_core::login::Login;
use portreeve_core::net::{ClientAddr, FlowTuple, OriginalDst};
use portreeve_core::network_policy::{self, NetworkVerdict, PolicyTrace};
use portreeve_core::snapshot::PolicySnapshot;
use serde::Serialize;

use super::{ConfigArg, print};
use crate::store;

/// Exit status when the connection would be denied.
const DENIED: u8 = 3;

/// Arguments of `portreeve explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Decides as the gateway would, with the policy file as it is on disk, and says which rule decided.
Exit status 0 means granted, 3 means denied.

Example:
  portreeve explain --from 10.1.1.7 --to 10.2.0.5:22 --login root")]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Use this policy file instead of the configured one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The user's address
    #[arg(long, value_name = "ADDR")]
    from: IpAddr,
    /// The target's address and port
    #[arg(long, value_name = "ADDR:PORT")]
    to: SocketAddr,
    /// The login asked for
    #[arg(long, value_name = "NAME")]
    login: String,
}

#[derive(Serialize)]
struct Answer {
    granted: bool,
    decided_by: String,
    identity: Option<String>,
    network_policies: Vec<PolicyTrace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    infrastructure: Option<Explanation>,
}

impl ExplainArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let policy_file = match self.policy {
            Some(file) => file,
            None => self.config.load()?.policy_file,
        };
        let policy = store::load(&policy_file, Generation(1))?.snapshot;
        let flow = FlowTuple {
            client: ClientAddr::new(SocketAddr::new(self.from, 0)),
            original_dst: OriginalDst::new(self.to),
        };
        let answer = explain(&policy, flow, &Login::new(&self.login)?);
        if json {
            print::json(&answer)?;
        } else {
            print_for_people(&answer)?;
        }
        Ok(if answer.granted { ExitCode::SUCCESS } else { ExitCode::from(DENIED) })
    }
}

/// Decides as a connection would be decided: identity, network policies, infrastructure policies.
fn explain(policy: &PolicySnapshot, flow: FlowTuple, login: &Login) -> Answer {
    let identity = policy.identify(flow.client.ip());
    let facts = policy.facts(flow, identity.map(AsRef::as_ref));
    let network_policies = network_policy::explain(&policy.network, &facts);
    let verdict = policy.network_verdict(flow, identity.map(AsRef::as_ref));
    let infrastructure = identity.map(|identity| {
        let source_country = policy.country(flow.client.ip());
        let request = AccessRequest { flow, identity, source_country, login };
        (
            infrastructure::authorize(&policy.infrastructure, &request),
            infrastructure::explain(&policy.infrastructure, &request),
        )
    });
    let (granted, decided_by) = match (&verdict, &infrastructure) {
        (NetworkVerdict::Block { policy, evaluation_error: None }, _) => {
            (false, format!("the network policy {policy:?} blocks it before any SSH byte"))
        }
        (NetworkVerdict::Block { policy, evaluation_error: Some(error) }, _) => {
            (false, format!("the network policy {policy:?} cannot be evaluated, which blocks: {error}"))
        }
        (NetworkVerdict::Intercept { .. }, None) => {
            (false, format!("nobody is known at {}", flow.client.ip()))
        }
        (NetworkVerdict::Intercept { .. }, Some((Err(denial), _))) => (false, denial.to_string()),
        (NetworkVerdict::Intercept { .. }, Some((Ok(grant), _))) => {
            (true, format!("granted by {}", grant.granted_by().join(", ")))
        }
    };
    Answer {
        granted,
        decided_by,
        identity: identity.map(|identity| identity.email.to_string()),
        network_policies,
        infrastructure: infrastructure.map(|(_, explanation)| explanation),
    }
}

fn print_for_people(answer: &Answer) -> std::io::Result<()> {
    print::line(&format!("{}: {}", if answer.granted { "granted" } else { "denied" }, answer.decided_by))?;
    print::line(&format!("identity: {}", answer.identity.as_deref().unwrap_or("unknown")))?;
    for trace in &answer.network_policies {
        print::line(&format!("network policy {trace}"))?;
    }
    if let Some(infrastructure) = &answer.infrastructure {
        print::line(&infrastructure.to_string())?;
    }
    Ok(())
}
