//! Where recordings go: whether each destination answers, and lets this gateway in.

use portreeve_core::config::shipping::Destination;

use super::Finding;
use crate::ship;
use crate::telemetry::with_causes;

pub(super) async fn destinations(configured: &[Destination]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for destination in configured {
        let about = format!("destination {}", destination.name);
        findings.push(match ship::reach(destination).await {
            Ok(()) => Finding::good(about, "answers"),
            Err(error) if destination.required => {
                let advice = "recordings stay in the spool until it does: look at its address, credentials and certificate";
                Finding::bad(about, with_causes(&error), advice)
            }
            Err(error) => Finding::warning(about, with_causes(&error), "it is not required: recordings may go without it"),
        });
    }
    if configured.is_empty() {
        let advice =
            "a thief of the disk cannot read recordings, but who loses it loses them: name a [[ship]]";
        findings.push(Finding::warning("destinations", "recordings stay on this gateway alone", advice));
    }
    findings
}
