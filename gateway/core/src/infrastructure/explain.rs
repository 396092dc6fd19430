//! Why a verdict came about, policy by policy: `Display` is for people, `Serialize` for programs.

use std::collections::BTreeSet;
use std::fmt;
use std::ptr;

use serde::Serialize;

use super::{AccessRequest, Application, AssessedPolicy, Denial, InfrastructureSet, SshPermissions, assess};
use crate::login::Login;
use crate::rule::{AccessRule, RuleOutcome};
use crate::target::Hostname;

/// Everything that was asked to decide about a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Hostname of the target; `None` when the address is no target's.
    pub target: Option<Hostname>,
    /// The applications that cover the target on the port.
    pub applications: Vec<ApplicationExplanation>,
    /// The decision.
    pub verdict: Verdict,
}

/// What the policies of one application say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApplicationExplanation {
    /// Its name.
    pub name: String,
    /// Its policies.
    pub policies: Vec<PolicyExplanation>,
}

/// What one policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyExplanation {
    /// Its name.
    pub name: String,
    /// Whether it matches, or which rule failed.
    #[serde(flatten)]
    pub outcome: PolicyOutcome,
    /// The logins it grants this identity if it matches.
    pub logins: BTreeSet<Login>,
    /// What sessions may do that it grants.
    pub permissions: SshPermissions,
}

/// Whether a policy matches, or which rule failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum PolicyOutcome {
    /// It matches, by this include rule among others.
    Matched {
        /// The rule.
        include: String,
    },
    /// None of its include rules holds.
    NotIncluded,
    /// This require rule does not hold.
    RequireFailed {
        /// The rule.
        require: String,
    },
    /// This exclude rule holds.
    Excluded {
        /// The rule.
        exclude: String,
    },
}

/// The decision about a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The login is granted.
    Granted {
        /// `application/policy` of each policy that grants it.
        granted_by: Vec<String>,
        /// What the session may do.
        permissions: SshPermissions,
    },
    /// The login is denied.
    Denied {
        /// Why, in one sentence.
        reason: String,
        /// The logins the user does have there.
        granted_logins: BTreeSet<Login>,
    },
}

/// Decides about a request as [`super::authorize`] does, and tells how.
pub fn explain(set: &InfrastructureSet, request: &AccessRequest<'_>) -> Explanation {
    let Some(assessment) = assess(set, request.user()) else {
        let denial = Denial::NoTarget(request.flow.original_dst);
        return Explanation { target: None, applications: Vec::new(), verdict: Verdict::of_denial(&denial) };
    };
    let policies_of = |application: &Application| {
        let of_application =
            assessment.policies.iter().filter(|assessed| ptr::eq(assessed.application, application));
        of_application.map(|assessed| PolicyExplanation::new(assessed, request)).collect()
    };
    let applications = set
        .covering(assessment.target, request.flow.original_dst.port())
        .map(|application| ApplicationExplanation {
            name: application.name.to_string(),
            policies: policies_of(application),
        })
        .collect();
    let verdict = match assessment.verdict(request) {
        Ok(grant) => Verdict::Granted { granted_by: grant.granted_by, permissions: grant.permissions },
        Err(denial) => Verdict::of_denial(&denial),
    };
    Explanation { target: Some(assessment.target.hostname.clone()), applications, verdict }
}

impl Verdict {
    fn of_denial(denial: &Denial) -> Self {
        let granted_logins = match denial {
            Denial::LoginNotGranted { granted, .. } => granted.clone(),
            Denial::NoTarget(_) | Denial::NoPolicy { .. } => BTreeSet::new(),
        };
        Self::Denied { reason: denial.to_string(), granted_logins }
    }
}

impl PolicyExplanation {
    fn new(assessed: &AssessedPolicy<'_>, request: &AccessRequest<'_>) -> Self {
        let rules = &assessed.policy.rules;
        let text = |list: &[AccessRule], index: usize| {
            list.get(index).map_or_else(String::new, AccessRule::to_string)
        };
        let outcome = match assessed.outcome {
            RuleOutcome::Matched(index) => PolicyOutcome::Matched { include: text(&rules.include, index) },
            RuleOutcome::NotIncluded => PolicyOutcome::NotIncluded,
            RuleOutcome::RequireFailed(index) => {
                PolicyOutcome::RequireFailed { require: text(&rules.require, index) }
            }
            RuleOutcome::Excluded(index) => PolicyOutcome::Excluded { exclude: text(&rules.exclude, index) },
        };
        Self {
            name: assessed.policy.name.to_string(),
            outcome,
            logins: assessed.policy.logins_of(request.identity),
            permissions: assessed.policy.permissions,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(target) = &self.target {
            writeln!(f, "target {target}")?;
            if self.applications.is_empty() {
                writeln!(f, "  no application covers it on this port")?;
            }
        }
        for application in &self.applications {
            writeln!(f, "application {:?}", application.name)?;
            for policy in &application.policies {
                writeln!(f, "  {policy}")?;
            }
        }
        match &self.verdict {
            Verdict::Granted { granted_by, .. } => write!(f, "granted by {}", granted_by.join(", ")),
            Verdict::Denied { reason, granted_logins } if granted_logins.is_empty() => {
                write!(f, "denied: {reason}")
            }
            Verdict::Denied { reason, granted_logins } => {
                write!(f, "denied: {reason}; granted there: {}", joined(granted_logins))
            }
        }
    }
}

impl fmt::Display for PolicyExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy {:?} {}; ", self.name, self.outcome)?;
        let grants =
            if matches!(self.outcome, PolicyOutcome::Matched { .. }) { "grants" } else { "would grant" };
        match self.logins.is_empty() {
            true => write!(f, "{grants} no login"),
            false => write!(f, "{grants} {}", joined(&self.logins)),
        }?;
        let files = self.permissions.file_transfer;
        if files.is_all() { Ok(()) } else { write!(f, ", {files}") }
    }
}

impl fmt::Display for PolicyOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched { include } => write!(f, "matches: includes {include}"),
            Self::NotIncluded => f.write_str("does not match: no include rule holds"),
            Self::RequireFailed { require } => write!(f, "does not match: requires {require}"),
            Self::Excluded { exclude } => write!(f, "does not match: excludes {exclude}"),
        }
    }
}

fn joined(logins: &BTreeSet<Login>) -> String {
    logins.iter().map(Login::as_str).collect::<Vec<_>>().join(", ")
}
