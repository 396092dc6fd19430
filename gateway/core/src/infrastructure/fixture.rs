//! Small sets for tests of this crate.

use std::collections::BTreeSet;

use super::forwarding::ToTargets;
use super::{
    AccessGrant, AccessRequest, Application, InfrastructurePolicy, InfrastructureSet, SshPermissions,
    TargetTable, authorize,
};
use crate::access_group::AccessGroups;
use crate::identity::{Email, Identity};
use crate::login::Login;
use crate::net::{ClientAddr, FlowTuple, OriginalDst};
use crate::port::PortSet;
use crate::rule::{AccessRule, RuleSet};
use crate::target::{Hostname, SourceAddress, Tags, Target, TargetAddress, TargetCriteria, TargetSelector};

/// An identity with nothing but an e-mail address.
pub(crate) fn identity(email: &str) -> Identity {
    Identity::from_email(Email::new(email).unwrap())
}

/// A target with one address and no tags.
pub(crate) fn target(hostname: &str, net: &str) -> Target {
    Target {
        hostname: Hostname::new(hostname).unwrap(),
        addresses: vec![TargetAddress { net: net.parse().unwrap(), virtual_network_id: None }],
        tags: Tags::new(),
        legacy: false,
        source_address: SourceAddress::Gateway,
    }
}

/// Criteria met by the targets of one hostname.
pub(crate) fn criteria(hostname: &str, port: u16) -> TargetCriteria {
    let hostnames = BTreeSet::from([Hostname::new(hostname).unwrap()]);
    let attributes = Some(TargetSelector { hostnames, tags: Tags::new() });
    TargetCriteria { ports: PortSet::of(port).unwrap(), attributes, ..TargetCriteria::default() }
}

/// A policy that grants logins to whom the rules include.
pub(crate) fn policy(name: &str, include: Vec<AccessRule>, usernames: &[&str]) -> InfrastructurePolicy {
    InfrastructurePolicy {
        name: name.into(),
        rules: RuleSet { include, ..RuleSet::default() },
        usernames: usernames.iter().map(|login| Login::new(login).unwrap()).collect(),
        allow_email_alias: false,
        permissions: SshPermissions::ALL,
        forwards: None,
        forwards_to_targets: ToTargets::Refuse,
    }
}

/// A flow from 192.0.2.10 to `dst`.
pub(crate) fn flow(dst: &str) -> FlowTuple {
    FlowTuple {
        client: ClientAddr::new(([192, 0, 2, 10], 50000).into()),
        original_dst: OriginalDst::new(dst.parse().unwrap()),
    }
}

/// A set without groups.
pub(crate) fn set(targets: Vec<Target>, applications: Vec<Application>) -> InfrastructureSet {
    let mut table = TargetTable::default();
    for target in targets {
        table.insert(target).unwrap();
    }
    InfrastructureSet::new(table, AccessGroups::default(), applications).unwrap()
}

/// A grant of `login` with all permissions.
pub(crate) fn grant(identity: &Identity, login: &str) -> AccessGrant {
    let application = Application {
        name: "app".into(),
        criteria: vec![criteria("db", 22)],
        policies: vec![policy("all", vec![AccessRule::Everyone], &[login])],
    };
    let set = set(vec![target("db", "10.0.0.1/32")], vec![application]);
    let login = Login::new(login).unwrap();
    let request = AccessRequest { flow: flow("10.0.0.1:22"), identity, source_country: None, login: &login };
    authorize(&set, &request).unwrap()
}
