//! Targets, groups and applications together, with the index that finds an application quickly.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use thiserror::Error;

use super::{Application, TargetTable};
use crate::access_group::{AccessGroups, referred};
use crate::net::OriginalDst;
use crate::port::{PortRange, PortSet};
use crate::target::{Hostname, Steered, Target, TargetAddress};

/// Where a target is closed that no application covers.
const SSH_PORT: u16 = 22;

/// Targets, applications and their policies. The empty set denies everything.
#[derive(Clone, Debug, Default)]
pub struct InfrastructureSet {
    targets: TargetTable,
    groups: AccessGroups,
    applications: Vec<Application>,
    candidates: Candidates,
}

/// Indexes of the applications that a target may meet, so that a target is not held against all.
#[derive(Clone, Debug, Default)]
struct Candidates {
    by_hostname: HashMap<Hostname, BTreeSet<usize>>,
    any_hostname: BTreeSet<usize>,
}

/// A policy refers to a group that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the policy {application}/{policy} refers to {unknown:?}, which is no group")]
pub struct UnknownGroup {
    /// Name of the application.
    pub application: Arc<str>,
    /// Name of the policy.
    pub policy: Arc<str>,
    /// The name that no group has.
    pub unknown: Arc<str>,
}

impl InfrastructureSet {
    /// Puts a set together.
    ///
    /// # Errors
    /// [`UnknownGroup`] when a policy refers to a group that is not in `groups`.
    pub fn new(
        targets: TargetTable,
        groups: AccessGroups,
        applications: Vec<Application>,
    ) -> Result<Self, UnknownGroup> {
        for application in &applications {
            for policy in &application.policies {
                if let Some(unknown) = referred(&policy.rules).find(|name| !groups.contains(name)) {
                    return Err(UnknownGroup {
                        application: Arc::clone(&application.name),
                        policy: Arc::clone(&policy.name),
                        unknown: Arc::clone(unknown),
                    });
                }
            }
        }
        let candidates = Candidates::new(&applications);
        Ok(Self { targets, groups, applications, candidates })
    }

    /// The target at an original destination: longest prefix first. The port plays no part.
    pub fn target_at(&self, dst: OriginalDst) -> Option<&Arc<Target>> {
        self.targets.at(dst.ip()).map(|(target, _)| target)
    }

    /// The address of a target that holds an original destination.
    pub fn target_address_at(&self, dst: OriginalDst) -> Option<&TargetAddress> {
        self.targets.at(dst.ip()).map(|(_, address)| address)
    }

    /// Every prefix that must be steered to the proxy, and its ports: each address of each target, on
    /// the ports of all applications that cover it. A target that none covers is steered on port 22,
    /// where it is then denied.
    pub fn steered(&self) -> Steered {
        let of_target = |target: &Arc<Target>| {
            let ports = self.ports(target);
            let ports =
                if ports.is_empty() { PortSet::from_iter(PortRange::new(SSH_PORT, SSH_PORT)) } else { ports };
            target
                .addresses
                .iter()
                .map(move |address| (address.net.trunc(), ports.clone()))
                .collect::<Vec<_>>()
        };
        self.targets().iter().flat_map(of_target).collect()
    }

    /// The ports on which applications cover a target.
    pub fn ports(&self, target: &Target) -> PortSet {
        self.candidates(target)
            .flat_map(|application| &application.criteria)
            .filter(|criteria| criteria.met_by(target))
            .flat_map(|criteria| criteria.ports.ranges())
            .collect()
    }

    /// The target that a connection to an address and port of it is steered for.
    pub fn steered_at(&self, dst: OriginalDst) -> Option<&Arc<Target>> {
        self.target_at(dst).filter(|target| self.is_steered(target, dst.port()))
    }

    /// A target of a hostname, to which a connection on `port` is steered.
    pub fn steered_by_name(&self, hostname: &str, port: u16) -> Option<&Arc<Target>> {
        let mut named =
            self.targets().iter().filter(|target| target.hostname.as_str().eq_ignore_ascii_case(hostname));
        named.find(|target| self.is_steered(target, port))
    }

    /// Whether there may be a target to which connections on `port` are steered.
    pub fn steers_port(&self, port: u16) -> bool {
        let criteria = self.applications.iter().flat_map(|application| &application.criteria);
        port == SSH_PORT || criteria.into_iter().any(|criteria| criteria.ports.contains(port))
    }

    fn is_steered(&self, target: &Target, port: u16) -> bool {
        let ports = self.ports(target);
        if ports.is_empty() { port == SSH_PORT } else { ports.contains(port) }
    }

    /// The targets in the order of the policy file.
    pub fn targets(&self) -> &[Arc<Target>] {
        self.targets.targets()
    }

    /// The applications in the order of the policy file.
    pub fn applications(&self) -> &[Application] {
        &self.applications
    }

    /// The applications that cover a target on a port.
    pub fn covering(&self, target: &Target, port: u16) -> impl Iterator<Item = &Application> {
        self.candidates(target).filter(move |application| {
            application
                .criteria
                .iter()
                .any(|criteria| criteria.ports.contains(port) && criteria.met_by(target))
        })
    }

    pub(super) fn groups(&self) -> &AccessGroups {
        &self.groups
    }

    fn candidates(&self, target: &Target) -> impl Iterator<Item = &Application> {
        let named = self.candidates.by_hostname.get(&target.hostname);
        let indexes: BTreeSet<usize> =
            named.into_iter().flatten().chain(&self.candidates.any_hostname).copied().collect();
        indexes.into_iter().filter_map(|index| self.applications.get(index))
    }
}

impl Candidates {
    fn new(applications: &[Application]) -> Self {
        let mut candidates = Self::default();
        for (index, application) in applications.iter().enumerate() {
            for criteria in &application.criteria {
                match criteria.hostnames() {
                    Some(hostnames) => {
                        for hostname in hostnames {
                            candidates.by_hostname.entry(hostname.clone()).or_default().insert(index);
                        }
                    }
                    None => {
                        candidates.any_hostname.insert(index);
                    }
                }
            }
        }
        candidates
    }
}
