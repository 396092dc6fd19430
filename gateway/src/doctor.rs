//! What a gateway rests on, looked at once: files, kernel, interfaces, clock, disk, targets, destinations.
//!
//! Owns which things are looked at, and what each look came to: what was found, and what to do about it. Goes on after
//! a bad one, so that one run tells all. Changes nothing but that targets are connected to, as by `portreeve probe`,
//! and destinations are asked. Deliberately absent: mending, and what only a running gateway knows (its metrics).

mod certificates;
mod destinations;
mod exports;
mod files;
mod host;
mod targets;
mod wireguard;

use std::error::Error;
use std::path::Path;

use portreeve_core::login::Login;
use serde::Serialize;

use crate::telemetry::with_causes;

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Good,
    /// Works, though perhaps not as it is meant, or could not be looked at.
    Warning,
    /// Does not work, or will not for long.
    Bad,
}

/// What one look came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, as `clock` or `target 10.1.2.3:22`.
    pub about: String,
    /// How good it is.
    pub grade: Grade,
    /// What was found.
    pub found: String,
    /// What to do, where `found` does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How far to look.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The most targets that are connected to; 0 leaves them out.
    pub targets: usize,
    /// Whom to log in at targets; absent: a login that policy grants there.
    pub login: Option<Login>,
}

/// Looks at everything that the configuration file at `path` leads to, in the order in which a gateway needs it.
pub async fn examine(path: &Path, scope: &Scope) -> Vec<Finding> {
    let (config, mut findings) = files::configuration(path);
    let Some(config) = config else { return findings };
    let (policy, of_policy) = files::policy(&config);
    findings.extend(of_policy);
    findings.extend(files::keys(&config));
    findings.extend(host::kernel(&config.datapath));
    findings.extend(host::interfaces(&config.datapath.interfaces));
    findings.extend(wireguard::interfaces(&config.datapath.interfaces).await);
    findings.push(host::clock(&config.state_dir).await);
    findings.push(host::disk(&config));
    findings.push(host::gateway(&config.state_dir).await);
    findings.extend(destinations::destinations(&config.ship).await);
    findings.extend(exports::exports(&config).await);
    findings.extend(certificates::certificates(&config).await);
    if let Some(policy) = policy {
        findings.extend(targets::targets(&config.state_dir, &policy.infrastructure, scope).await);
    }
    findings
}

impl Finding {
    fn good(about: impl Into<String>, found: impl Into<String>) -> Self {
        Self { about: about.into(), grade: Grade::Good, found: found.into(), advice: None }
    }

    fn warning(about: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { about: about.into(), grade: Grade::Warning, found: found.into(), advice }
    }

    fn bad(about: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { grade: Grade::Bad, ..Self::warning(about, found, advice) }
    }

    /// A warning that says itself what to do.
    fn told(about: impl Into<String>, found: impl Into<String>) -> Self {
        Self { advice: None, ..Self::warning(about, found, "") }
    }

    /// An error that says itself what to do.
    fn of_error(about: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        Self { advice: None, ..Self::bad(about, with_causes(error), "") }
    }

    /// Good, or the error.
    fn of<E: Error + 'static>(about: impl Into<String>, looked: Result<String, E>) -> Self {
        match looked {
            Ok(found) => Self::good(about, found),
            Err(error) => Self::of_error(about, &error),
        }
    }
}
