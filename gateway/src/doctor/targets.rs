//! The targets: whether they answer, and trust the CA.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use portreeve_core::infrastructure::InfrastructureSet;
use portreeve_core::login::Login;
use portreeve_core::target::Target;
use tokio::task::JoinSet;

use super::{Finding, Scope};
use crate::ca::Signer;
use crate::ca::key::CaKey;
use crate::probe::{self, LogIn, ProbeError, Report};

/// Targets that are connected to at a time.
const AT_ONCE: usize = 8;

/// What to do about a target that refuses.
const AWAY: &str = "is it up, and does its firewall let the gateway in?";

/// What to do about a target that does not answer in time.
const SILENT: &str = "is it up, and does its firewall let the gateway in? If a connection is made and nothing follows, packets as large as \
                      the MTU are lost on the way: try `ping -M do -s 1472` to it, and let ICMP through";

/// One address and port of a target, and whom to log in there.
struct Look {
    target: SocketAddr,
    login: Option<Login>,
}

pub(super) async fn targets(state_dir: &Path, set: &InfrastructureSet, scope: &Scope) -> Vec<Finding> {
    // Without a key that is told already.
    let Ok(key) = CaKey::load(state_dir) else { return Vec::new() };
    let signer = Arc::new(Signer::new(key));
    let mut findings = Vec::new();
    let mut looks = looks(set, scope.login.as_ref(), &mut findings);
    if looks.len() > scope.targets {
        let left = looks.len() - scope.targets;
        looks.truncate(scope.targets);
        findings.push(Finding::warning(
            "targets",
            format!("{left} addresses and ports were not looked at"),
            "look at more with --targets N, or at one with `portreeve probe`",
        ));
    }
    let (mut waiting, mut running) = (looks.into_iter().enumerate(), JoinSet::new());
    let mut found = Vec::new();
    loop {
        while running.len() < AT_ONCE {
            let Some((number, look)) = waiting.next() else { break };
            let signer = Arc::clone(&signer);
            running.spawn(async move { (number, look_at(&look, &signer).await) });
        }
        match running.join_next().await {
            None => break,
            Some(Ok(looked)) => found.push(looked),
            Some(Err(error)) => findings.push(Finding::of_error("targets", &error)),
        }
    }
    found.sort_by_key(|(number, _)| *number);
    findings.extend(found.into_iter().flat_map(|(_, findings)| findings));
    findings
}

/// Every single address of a target, on every single port; prefixes and ranges are told as not looked at.
fn looks(set: &InfrastructureSet, login: Option<&Login>, findings: &mut Vec<Finding>) -> Vec<Look> {
    let mut looks = Vec::new();
    for target in set.targets() {
        let not_single = |what: &str| {
            let advice = "look at one of its servers with `portreeve probe`";
            Finding::warning(
                format!("target {}", target.hostname),
                format!("{what} is not looked at"),
                advice,
            )
        };
        for address in &target.addresses {
            if address.net.prefix_len() != address.net.max_prefix_len() {
                findings.push(not_single(&format!("the prefix {}", address.net)));
                continue;
            }
            for ports in set.ports(target).ranges() {
                if ports.first() == ports.last() {
                    looks.push(Look::of(set, target, address.net.addr(), ports.first(), login));
                } else {
                    findings.push(not_single(&format!("the range of ports {ports}")));
                }
            }
        }
    }
    looks
}

impl Look {
    /// Logs in as `login`, or as the first that a policy names.
    fn of(set: &InfrastructureSet, target: &Target, ip: IpAddr, port: u16, login: Option<&Login>) -> Self {
        let named = || {
            let mut policies = set.covering(target, port).flat_map(|application| &application.policies);
            policies.find_map(|policy| policy.usernames.first())
        };
        Self { target: SocketAddr::new(ip, port), login: login.or_else(named).cloned() }
    }
}

async fn look_at(look: &Look, signer: &Signer) -> Vec<Finding> {
    let about = format!("target {}", look.target);
    let log_in = look.login.as_ref().map(|login| LogIn { login, signer });
    match probe::probe(look.target, log_in).await {
        Ok(report) => judge(&about, look.login.as_ref(), &report),
        Err(error) => {
            let advice = if matches!(error, ProbeError::TimedOut { .. }) { SILENT } else { AWAY };
            vec![Finding { advice: Some(advice.to_owned()), ..Finding::of_error(about, &error) }]
        }
    }
}

fn judge(about: &str, login: Option<&Login>, report: &Report) -> Vec<Finding> {
    let login = login.map_or("nobody", Login::as_str);
    let of_trust = match report.ca_trusted {
        Some(true) => Finding::good(about, format!("trusts the CA: {login} can log in")),
        Some(false) => {
            Finding { advice: None, ..Finding::bad(about, format!("does not let {login} in"), "") }
        }
        None => {
            Finding::warning(about, "answers; no login is named in its policies", "name one with --login")
        }
    };
    let mut advice = report.advice.iter().cloned();
    let of_trust = match report.ca_trusted {
        Some(true) => of_trust,
        // The first advice is about trust.
        Some(false) => Finding { advice: advice.next(), ..of_trust },
        None => {
            advice.next();
            of_trust
        }
    };
    let further = advice.map(|advice| Finding::told(about, advice));
    [of_trust].into_iter().chain(further).collect()
}
