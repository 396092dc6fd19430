//! `portreeve explain`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use portreeve_core::id::Generation;
use portreeve_core::identity::Unidentified;
use portreeve_core::infrastructure::{self, Explanation};
use portreeve_core::login::Login;
use portreeve_core::net::interface::InterfaceName;
use portreeve_core::net::{ClientAddr, FlowTuple, OriginalDst};
use portreeve_core::network_policy::{self, NetworkVerdict, PolicyTrace};
use portreeve_core::snapshot::PolicySnapshot;
use serde::Serialize;

use super::kernel_policies::KernelPolicies;
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
  portreeve explain --from 10.1.1.7 --to 10.2.0.5:22 --login root

The interface matters only where the user's identity is bound to some:
  portreeve explain --from 10.1.1.7 --interface lan0 --to 10.2.0.5:22 --login root

A port of the user's side matters only where a rule asks for net.src.port:
  portreeve explain --from 10.1.1.7:50000 --to 10.2.0.5:22 --login root
  portreeve explain --from '[2001:db8::7]:50000' --to '[2001:db8:2::5]:22' --login root")]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Use this policy file instead of the configured one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The user's address, and the port they connect from
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = source)]
    from: Source,
    /// The interface that the connection comes in on
    #[arg(long, value_name = "NAME", value_parser = InterfaceName::new)]
    interface: Option<InterfaceName>,
    /// The target's address and port
    #[arg(long, value_name = "ADDR:PORT")]
    to: SocketAddr,
    /// The login asked for
    #[arg(long, value_name = "NAME")]
    login: String,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
struct Source {
    ip: IpAddr,
    port: Option<u16>,
}

#[derive(Serialize)]
struct Answer {
    granted: bool,
    decided_by: String,
    identity: Option<String>,
    /// Whether the kernel drops it, so that not even a TCP connection comes up.
    in_kernel: bool,
    network_policies: Vec<PolicyTrace>,
    kernel_policies: KernelPolicies,
    #[serde(skip_serializing_if = "Option::is_none")]
    infrastructure: Option<Explanation>,
    /// What makes the answer doubtful.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl ExplainArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let policy_file = match self.policy {
            Some(file) => file,
            None => self.config.load()?.policy_file,
        };
        let policy = store::load(&policy_file, Generation(1))?.snapshot;
        let flow = FlowTuple {
            client: ClientAddr::new(SocketAddr::new(self.from.ip, self.from.port.unwrap_or(0))),
            original_dst: OriginalDst::new(self.to),
        };
        let mut answer = explain(&policy, flow, self.interface.as_ref(), &Login::new(&self.login)?);
        let port = self.from.port.is_none().then(|| port_asked_for(&policy)).flatten();
        let interface = self.interface.is_none().then(|| interface_asked_for(&policy, flow)).flatten();
        let notes: Vec<_> = [port, interface].into_iter().flatten().collect();
        answer.note = (!notes.is_empty()).then(|| notes.join("; "));
        if json {
            print::json(&answer)?;
        } else {
            print_for_people(&answer)?;
        }
        Ok(if answer.granted { ExitCode::SUCCESS } else { ExitCode::from(DENIED) })
    }
}

/// Decides as a connection would be decided: identity, network policies, infrastructure policies.
fn explain(
    policy: &PolicySnapshot,
    flow: FlowTuple,
    ingress: Option<&InterfaceName>,
    login: &Login,
) -> Answer {
    let identified = policy.identify(flow.client.ip(), ingress);
    let identity = identified.as_ref().ok();
    let facts = policy.facts(flow, identity.map(AsRef::as_ref));
    let network_policies = network_policy::explain(&policy.network, &facts);
    let verdict = policy.network_verdict(flow, identity.map(AsRef::as_ref));
    let infrastructure = identified.as_ref().map(|identity| {
        let request = policy.access_request(flow, identity, login);
        (
            infrastructure::authorize(&policy.infrastructure, &request),
            infrastructure::explain(&policy.infrastructure, &request),
        )
    });
    let in_kernel = policy.network.address_rules().blocks(flow).is_some();
    let (granted, decided_by) = match (&verdict, &infrastructure) {
        (NetworkVerdict::Block { policy, .. }, _) if in_kernel => {
            (false, format!("the network policy {policy:?} blocks it in the kernel, before any handshake"))
        }
        (NetworkVerdict::Block { policy, evaluation_error: None }, _) => {
            (false, format!("the network policy {policy:?} blocks it before any SSH byte"))
        }
        (NetworkVerdict::Block { policy, evaluation_error: Some(error) }, _) => {
            (false, format!("the network policy {policy:?} cannot be evaluated, which blocks: {error}"))
        }
        (NetworkVerdict::Intercept { .. }, Err(unidentified)) => (false, unidentified.to_string()),
        (NetworkVerdict::Intercept { .. }, Ok((Err(denial), _))) => (false, denial.to_string()),
        (NetworkVerdict::Intercept { .. }, Ok((Ok(grant), _))) => {
            (true, format!("granted by {}", grant.granted_by().join(", ")))
        }
    };
    Answer {
        granted,
        decided_by,
        identity: identity.map(|identity| identity.email.to_string()),
        in_kernel,
        network_policies,
        kernel_policies: KernelPolicies::of(&policy.network),
        infrastructure: infrastructure.ok().map(|(_, explanation)| explanation),
        note: None,
    }
}

/// Names the network policies whose verdict a missing port may have changed.
fn port_asked_for(policy: &PolicySnapshot) -> Option<String> {
    let asking = policy.network.policies().iter().filter(|policy| policy.asks_source_port());
    let names: Vec<_> = asking.map(|policy| format!("{:?}", policy.name)).collect();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("{names}: asks for net.src.port, which was taken as 0: give it with --from ADDR:PORT")
    })
}

/// Says that a missing interface has made the user nobody.
fn interface_asked_for(policy: &PolicySnapshot, flow: FlowTuple) -> Option<String> {
    let identified = policy.identify(flow.client.ip(), None);
    matches!(identified, Err(Unidentified::OtherInterface { .. }))
        .then(|| "the identity is bound to interfaces: give one with --interface NAME".to_owned())
}

/// `ADDR`, `IPV4:PORT` or `[IPV6]:PORT`.
fn source(text: &str) -> Result<Source, String> {
    if let Ok(ip) = text.parse() {
        return Ok(Source { ip, port: None });
    }
    let addr: Result<SocketAddr, _> = text.parse();
    addr.map(|addr| Source { ip: addr.ip(), port: Some(addr.port()) })
        .map_err(|_| "write an address, as 10.1.1.7, 10.1.1.7:50000 or [2001:db8::7]:50000".to_owned())
}

fn print_for_people(answer: &Answer) -> std::io::Result<()> {
    print::line(&format!("{}: {}", if answer.granted { "granted" } else { "denied" }, answer.decided_by))?;
    print::line(&format!("identity: {}", answer.identity.as_deref().unwrap_or("unknown")))?;
    for trace in &answer.network_policies {
        print::line(&format!("network policy {trace}"))?;
    }
    if !answer.network_policies.is_empty() {
        print::line(&answer.kernel_policies.to_string())?;
    }
    if let Some(infrastructure) = &answer.infrastructure {
        print::line(&infrastructure.to_string())?;
    }
    if let Some(note) = &answer.note {
        print::line(&format!("note: {note}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use portreeve_core::config::Format;
    use portreeve_core::config::policy;

    use super::*;

    #[test]
    fn a_source_has_a_port_or_none() {
        for (text, port) in [("10.1.1.7", None), ("10.1.1.7:5", Some(5)), ("::1", None), ("[::1]:5", Some(5))]
        {
            assert_eq!(source(text).unwrap().port, port, "{text}");
        }
        assert!(source("nowhere").is_err());
    }

    #[test]
    fn what_the_kernel_blocks_is_told() {
        let text = r#"
            targets = []
            [[rules]]
            name = "low"
            action = "block"
            precedence = 1
            traffic = "net.dst.port < 22"
            [[rules]]
            name = "guests"
            action = "block"
            precedence = 2
            traffic = "net.dst.port == 22"
            identity = 'not (identity.email matches "@example")'
        "#;
        let snapshot = policy::load(text, Format::Toml, "policy.toml", Generation(1)).unwrap().snapshot;
        let told = |port: u16| {
            let flow = FlowTuple {
                client: ClientAddr::new("192.0.2.1:5".parse().unwrap()),
                original_dst: OriginalDst::new(([10, 0, 0, 1], port).into()),
            };
            let answer = explain(&snapshot, flow, None, &Login::new("root").unwrap());
            (answer.in_kernel, answer.decided_by, answer.kernel_policies.to_string())
        };
        let (in_kernel, decided_by, kernel_policies) = told(21);
        assert!(in_kernel && decided_by.ends_with("\"low\" blocks it in the kernel, before any handshake"));
        assert!(kernel_policies.contains("alone: \"low\" (ranges: 1); "), "{kernel_policies}");
        assert!(
            kernel_policies.contains("from \"guests\" on are decided by the daemon"),
            "{kernel_policies}"
        );
        let (in_kernel, decided_by, _) = told(22);
        assert!(
            !in_kernel && decided_by.ends_with("\"guests\" blocks it before any SSH byte"),
            "{decided_by}"
        );
    }

    #[test]
    fn a_port_that_a_rule_asks_for_is_told() {
        let note = |traffic: &str, enabled: bool| {
            let text = format!(
                r#"targets = []
                   rules = [{{ name = "low", action = "block", precedence = 1, enabled = {enabled}, traffic = '{traffic}' }}]"#
            );
            let loaded = policy::load(&text, Format::Toml, "policy.toml", Generation(1)).unwrap();
            port_asked_for(&loaded.snapshot)
        };
        let asks = "net.dst.port == 22 and not (net.src.port >= 1024)";
        assert!(note(asks, true).unwrap().contains("\"low\""));
        assert_eq!((note(asks, false), note("net.dst.port == 22", true)), (None, None));
    }
}
