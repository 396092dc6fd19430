//! The files: configuration, policy, keys.

use std::path::Path;

use portreeve_core::config::agreement;
use portreeve_core::config::daemon::{self, Config};
use portreeve_core::id::Generation;
use portreeve_core::snapshot::PolicySnapshot;

use super::Finding;
use crate::audit;
use crate::ca::key;
use crate::recording::recipient::Recipients;
use crate::store;

/// The daemon's configuration, if it can be used.
pub(super) fn configuration(path: &Path) -> (Option<Config>, Vec<Finding>) {
    let about = format!("configuration {}", path.display());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let advice = "name the file by --config";
            return (None, vec![Finding::bad(about, format!("cannot be read: {error}"), advice)]);
        }
    };
    match daemon::load(&text, &path.to_string_lossy()) {
        Ok(config) => (Some(config), vec![Finding::good(about, "can be used")]),
        Err(error) => (None, vec![Finding::of_error(about, &error)]),
    }
}

/// The policy, if it can be used.
pub(super) fn policy(config: &Config) -> (Option<PolicySnapshot>, Vec<Finding>) {
    let about = format!("policy {}", config.policy_file.display());
    let loaded = match store::load(&config.policy_file, Generation(1)) {
        Ok(loaded) => loaded,
        Err(error) => return (None, vec![Finding::of_error(about, &error)]),
    };
    let targets = loaded.snapshot.infrastructure.targets().len();
    let mut findings = vec![Finding::good(about.clone(), format!("can be used: {targets} targets"))];
    let warnings = loaded.warnings.into_iter().chain(agreement::warnings(config, &loaded.snapshot));
    findings.extend(warnings.map(|warning| Finding::told(about.clone(), warning.to_string())));
    (Some(loaded.snapshot), findings)
}

/// The keys of the gateway, and those of recipients.
pub(super) fn keys(config: &Config) -> Vec<Finding> {
    let state = &config.state_dir;
    let there = |what: &str| what.to_owned();
    let cas = key::load_cas(state, config.downstream.host_certificates);
    let recipients = &config.recording.recipient_key_files;
    vec![
        Finding::of("CA key", cas.map(|_| there("is there, and nobody else can read it"))),
        Finding::of(
            "account secret",
            key::load_account_secret(state).map(|_| there("is there, and nobody else can read it")),
        ),
        Finding::of("audit key", audit::public_keys(state).map(|_| there("is there"))),
        Finding::of(
            "recipients",
            Recipients::load(recipients).map(|_| format!("recordings are sealed to {}", recipients.len())),
        ),
    ]
}
