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

/// What is good about a file that holds a secret.
const SECRET: &str = "is there, and nobody else can read it";

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
    let cas = key::load_cas(state, config.downstream.host_certificates);
    let recipients = &config.recording.recipient_key_files;
    vec![
        Finding::of("CA key", cas.map(|_| SECRET.to_owned())),
        Finding::of("account secret", key::load_account_secret(state).map(|_| SECRET.to_owned())),
        Finding::of(
            "audit key",
            audit::is_made(state)
                .map(|made| if made { SECRET } else { "the first start makes it" }.to_owned()),
        ),
        Finding::of(
            "recipients",
            Recipients::load(recipients).map(|_| format!("recordings are sealed to {}", recipients.len())),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    fn audit_key(state: &Path) -> Finding {
        let config = format!(
            "state_dir = {state:?}\n[datapath]\ninterfaces = [\"eth0\"]\n[recording]\nrecipient_key_file = \"/none\"\n"
        );
        let config = daemon::load(&config, "portreeve.toml").unwrap();
        keys(&config).into_iter().find(|finding| finding.about == "audit key").unwrap()
    }

    #[test]
    fn an_audit_key_that_the_first_start_makes_is_not_missed() {
        let state = tempfile::tempdir().unwrap();
        let before = audit_key(state.path());
        assert!(before.grade == Grade::Good && before.found.contains("first start"), "{before:?}");
        audit::AuditChain::open(state.path()).unwrap();
        assert!(audit_key(state.path()).found.contains("is there"));
        std::fs::remove_file(state.path().join("audit_key")).unwrap();
        let lost = audit_key(state.path());
        assert!(lost.grade == Grade::Bad && lost.found.contains("put it back"), "{lost:?}");
    }
}
