//! A changed policy file: all of it comes into force, or none. The same of the recipients' key files.

use std::sync::Mutex;

use portreeve_core::config::agreement;
use portreeve_core::config::daemon::Config;
use portreeve_core::config::policy::LoadedPolicy;
use portreeve_core::snapshot::PolicySnapshot;

use crate::datapath::{Applied, Datapath, DatapathError};
use crate::session::Gateway;
use crate::store;
use crate::telemetry::with_causes;

/// Loads the policy file and puts it in force: kernel first, then connections, then live sessions.
///
/// Without a datapath, which another gateway then has, the targets are that one's. On any error the old
/// policy stays in force everywhere.
pub(super) fn policy(gateway: &Gateway, datapath: Option<&Mutex<Datapath>>) {
    let generation = gateway.policy.current().generation.next();
    let loaded = match store::load(&gateway.config.policy_file, generation) {
        Ok(loaded) => loaded,
        Err(error) => {
            // In this order: who sees the count finds the reason in the log.
            tracing::error!(error = %anyhow::Error::from(error), "the policy file is refused; the old policy stays in force");
            gateway.metrics.policy_rejected();
            return;
        }
    };
    log_warnings(&gateway.config, &loaded);
    let applied = datapath
        .map_or(Ok(Applied::default()), |datapath| apply(&mut super::lock(datapath), &loaded.snapshot));
    match applied {
        Ok(applied) => {
            let policy = gateway.policy.publish(loaded.snapshot);
            gateway.metrics.policy_applied(policy.generation.0);
            let ended = gateway.registry.recheck(&policy);
            tracing::info!(
                generation = policy.generation.0,
                added = applied.added,
                removed = applied.removed,
                changed = applied.changed,
                ended_sessions = ended,
                "policy in force"
            );
        }
        Err(error) => {
            tracing::error!(error = %anyhow::Error::from(error), "the kernel refused the targets; the old policy stays in force");
            gateway.metrics.policy_rejected();
        }
    }
}

/// Gives the kernel the targets of a policy, and the rules that it can decide by itself.
///
/// # Errors
/// When it refuses either; the old targets and rules then hold, or the error says what does.
pub(super) fn apply(datapath: &mut Datapath, policy: &PolicySnapshot) -> Result<Applied, DatapathError> {
    let rules = policy.network.address_rules();
    if let Some(stopped) = &rules.stopped {
        tracing::info!("{stopped}");
    }
    datapath.apply_policy(&policy.infrastructure.steered(), &rules)
}

/// Reads the recipients' key files again; live sessions keep the keys that they began with.
pub(super) fn recipients(gateway: &Gateway) {
    match gateway.recipients.reload() {
        Ok(None) => {}
        Ok(Some(recipients)) => tracing::info!(%recipients, "new sessions are recorded for other recipients"),
        Err(error) => {
            let error = with_causes(&error);
            tracing::error!(%error, "the recipient keys are refused; the old ones stay in force");
        }
    }
}

/// Opens the access log anew, for rotation.
pub(super) fn access_log(gateway: &Gateway) {
    if let Err(error) = gateway.access_log.reopen() {
        tracing::error!(error = %anyhow::Error::from(error), "the old access log stays open");
    }
}

/// Says what the author of a policy probably did not mean.
pub(super) fn log_warnings(config: &Config, policy: &LoadedPolicy) {
    for warning in policy.warnings.iter().chain(&agreement::warnings(config, &policy.snapshot)) {
        tracing::warn!("policy: {warning}");
    }
}
