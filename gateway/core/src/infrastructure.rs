//! Infrastructure policies: the second decision, about a login on a target.
//!
//! Default is deny. An application covers the targets that meet its criteria on a port; its policies
//! say who may take which logins there. Logins are the union over all policies that match, so the
//! order of targets, applications and policies never changes a verdict. Only [`authorize`] makes an
//! [`AccessGrant`]; [`approach`] says before the login is known whether there can be one. Why a verdict came
//! about is told by [`explain`]. All run the same assessment.

mod denial;
mod explain;
#[cfg(test)]
pub(crate) mod fixture;
mod forward_verdict;
pub mod forwarding;
mod permissions;
mod set;
mod target_table;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use denial::Denial;
pub use explain::{ApplicationExplanation, Explanation, PolicyExplanation, PolicyOutcome, Verdict, explain};
pub use forward_verdict::{ForwardVerdict, forward_verdict, name_verdict, ssh_verdict};
pub use permissions::{SshPermissions, TransferRights};
pub use set::{InfrastructureSet, UnknownGroup};
pub use target_table::TargetTable;

use self::forwarding::{ForwardRule, Forwards, ToTargets};
use crate::access_group::Evaluation;
use crate::identity::Identity;
use crate::login::Login;
use crate::net::FlowTuple;
use crate::rule::{RuleFacts, RuleOutcome, RuleSet};
use crate::target::{Target, TargetCriteria};

/// Targets that are reached under the same policies.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its name, unique in the set.
    pub name: Arc<str>,
    /// The targets and ports it covers: those that meet any of these.
    pub criteria: Vec<TargetCriteria>,
    /// Who may do what there.
    pub policies: Vec<InfrastructurePolicy>,
}

/// Who may take which logins on the targets of an application.
#[derive(Clone, Debug)]
pub struct InfrastructurePolicy {
    /// Its name, unique in the application.
    pub name: Arc<str>,
    /// Whom it is about.
    pub rules: RuleSet,
    /// The logins it grants.
    pub usernames: BTreeSet<Login>,
    /// Whether it also grants the login that equals the lower-cased local part of the e-mail address.
    pub allow_email_alias: bool,
    /// What sessions may do that it grants.
    pub permissions: SshPermissions,
    /// Where forwards may lead, if they are permitted at all; absent: anywhere.
    pub forwards: Option<Arc<[ForwardRule]>>,
    /// What becomes of those that lead to targets.
    pub forwards_to_targets: ToTargets,
}

/// A user on the way to a target, before they have said which login they want.
#[derive(Clone, Copy, Debug)]
pub struct ApproachingUser<'a> {
    /// Addresses and ports.
    pub flow: FlowTuple,
    /// Who comes.
    pub identity: &'a Identity,
    /// ISO 3166-1 alpha-2 code of the country of the source address.
    pub source_country: Option<&'a str>,
}

/// What a user asks for.
#[derive(Clone, Copy, Debug)]
pub struct AccessRequest<'a> {
    /// Addresses and ports.
    pub flow: FlowTuple,
    /// Who asks.
    pub identity: &'a Identity,
    /// ISO 3166-1 alpha-2 code of the country of the source address.
    pub source_country: Option<&'a str>,
    /// The unix account asked for.
    pub login: &'a Login,
}

/// Proof that a login on a target was granted; only [`authorize`] makes one.
#[derive(Clone, Debug)]
pub struct AccessGrant {
    target: Arc<Target>,
    login: Login,
    granted_by: Vec<String>,
    permissions: SshPermissions,
    forwards: Forwards,
}

impl AccessGrant {
    /// The target.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The unix account.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// `application/policy` of each policy that grants the login.
    pub fn granted_by(&self) -> &[String] {
        &self.granted_by
    }

    /// What the session may do.
    pub fn permissions(&self) -> SshPermissions {
        self.permissions
    }

    /// Where its forwards may lead.
    pub const fn forwards(&self) -> &Forwards {
        &self.forwards
    }
}

/// Decides whether a user may log in.
///
/// # Errors
/// [`Denial`] with the reason to show.
pub fn authorize(set: &InfrastructureSet, request: &AccessRequest<'_>) -> Result<AccessGrant, Denial> {
    match assess(set, request.user()) {
        Some(assessment) => assessment.verdict(request),
        None => Err(Denial::NoTarget(request.flow.original_dst)),
    }
}

/// Decides whether a user who has not said which login they want may be asked at all: some policy of the
/// target is about them.
///
/// # Errors
/// [`Denial::NoTarget`] or [`Denial::NoPolicy`], which [`authorize`] then gives for every login.
pub fn approach(set: &InfrastructureSet, user: ApproachingUser<'_>) -> Result<(), Denial> {
    match assess(set, user) {
        Some(assessment) if assessment.matching().next().is_some() => Ok(()),
        Some(assessment) => Err(assessment.no_policy(user.identity)),
        None => Err(Denial::NoTarget(user.flow.original_dst)),
    }
}

impl<'a> AccessRequest<'a> {
    /// The request without its login.
    const fn user(&self) -> ApproachingUser<'a> {
        let Self { flow, identity, source_country, login: _ } = *self;
        ApproachingUser { flow, identity, source_country }
    }
}

impl InfrastructurePolicy {
    /// The logins that the policy grants an identity it matches.
    fn logins_of(&self, identity: &Identity) -> BTreeSet<Login> {
        let mut logins = self.usernames.clone();
        if self.allow_email_alias {
            logins.extend(Login::new(identity.email.local_part()));
        }
        logins
    }
}

/// What every policy that is about the target says to a user.
struct Assessment<'a> {
    target: &'a Arc<Target>,
    policies: Vec<AssessedPolicy<'a>>,
}

struct AssessedPolicy<'a> {
    application: &'a Application,
    policy: &'a InfrastructurePolicy,
    outcome: RuleOutcome,
}

/// Asks every policy of the applications that cover the target; `None` when there is no target.
fn assess<'a>(set: &'a InfrastructureSet, user: ApproachingUser<'a>) -> Option<Assessment<'a>> {
    let target = set.target_at(user.flow.original_dst)?;
    let evaluation = Evaluation::new(
        set.groups(),
        RuleFacts { client: user.flow.client.ip(), identity: user.identity, country: user.source_country },
    );
    let policies = set
        .covering(target, user.flow.original_dst.port())
        .flat_map(|application| application.policies.iter().map(move |policy| (application, policy)))
        .map(|(application, policy)| AssessedPolicy {
            application,
            policy,
            outcome: evaluation.outcome(&policy.rules),
        })
        .collect();
    Some(Assessment { target, policies })
}

impl<'a> Assessment<'a> {
    /// The policies that are about the user.
    fn matching(&self) -> impl Iterator<Item = &AssessedPolicy<'a>> {
        self.policies.iter().filter(|assessed| assessed.outcome.is_match())
    }

    fn no_policy(&self, identity: &Identity) -> Denial {
        Denial::NoPolicy { email: identity.email.to_string(), hostname: self.target.hostname.to_string() }
    }

    fn verdict(&self, request: &AccessRequest<'_>) -> Result<AccessGrant, Denial> {
        let mut granted = BTreeSet::new();
        let mut granted_by = Vec::new();
        let (mut permissions, mut forwards) = (SshPermissions::NONE, Forwards::default());
        let mut matched = false;
        for assessed in self.matching() {
            matched = true;
            let logins = assessed.policy.logins_of(request.identity);
            if logins.contains(request.login) {
                granted_by.push(format!("{}/{}", assessed.application.name, assessed.policy.name));
                permissions = permissions.union(assessed.policy.permissions);
                if assessed.policy.permissions.port_forwarding {
                    forwards.add(assessed.policy.forwards.clone(), assessed.policy.forwards_to_targets);
                }
            }
            granted.extend(logins);
        }
        if !granted_by.is_empty() {
            let (target, login) = (Arc::clone(self.target), request.login.clone());
            Ok(AccessGrant { target, login, granted_by, permissions, forwards })
        } else if matched {
            let email = request.identity.email.to_string();
            let (hostname, login) = (self.target.hostname.to_string(), request.login.clone());
            Err(Denial::LoginNotGranted { email, hostname, login, granted })
        } else {
            Err(self.no_policy(request.identity))
        }
    }
}

#[cfg(test)]
mod tests;
