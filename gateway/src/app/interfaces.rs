//! The configured interfaces while the gateway runs: watched, attached again, told of.
//!
//! A human is told once when an interface goes, comes back, or stays open; metrics and readiness
//! hold as long as it lasts.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::sync::Mutex;

use crate::datapath::{Datapath, DatapathError, InterfaceState, LinkEvents};
use crate::http::Readiness;
use crate::metrics::Metrics;
use crate::telemetry::with_causes;

/// What was found at the last look.
pub(super) struct Interfaces {
    events: LinkEvents,
    last: BTreeMap<String, Discriminant<InterfaceState>>,
}

impl Interfaces {
    /// Notices changes from now on.
    ///
    /// # Errors
    /// When the kernel refuses to tell of them.
    pub(super) fn watch() -> Result<Self, DatapathError> {
        Ok(Self { events: LinkEvents::subscribe()?, last: BTreeMap::new() })
    }

    /// Returns when it is time to [`Self::look`]; dropping the future loses nothing.
    pub(super) async fn changed(&mut self) {
        self.events.next().await;
    }

    /// Attaches what is missing; the gateway is ready when no interface is left open.
    pub(super) fn look(&mut self, datapath: &Mutex<Datapath>, metrics: &Metrics, ready: &Readiness) {
        let mut open = 0;
        for (interface, state) in super::lock(datapath).ensure_attached() {
            match state {
                InterfaceState::Reattached => {
                    metrics.interfaces_reattached.inc();
                }
                InterfaceState::Open(_) => open += 1,
                InterfaceState::Attached | InterfaceState::Absent => {}
            }
            let kind = discriminant(&state);
            if self.last.insert(interface.clone(), kind) != Some(kind) {
                tell(&interface, &state);
            }
        }
        metrics.interfaces_open.set(open);
        ready.set(open == 0);
    }
}

fn tell(interface: &str, state: &InterfaceState) {
    match state {
        InterfaceState::Attached => {}
        InterfaceState::Reattached => {
            tracing::info!(interface, "an interface came without the kernel program and is attached now");
        }
        InterfaceState::Absent => tracing::warn!(interface, "a configured interface is gone"),
        InterfaceState::Open(error) => {
            tracing::error!(
                interface,
                error = with_causes(error),
                "targets are open on a configured interface"
            );
        }
    }
}
