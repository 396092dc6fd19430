//! Who is in charge of the datapath: this process, or another one.
//!
//! Invariant: what changes the kernel's state asks [`Charge::datapath`], which yields nothing while the
//! datapath is lent, and for ever after it was handed over.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::succession::Step;
use super::{lock, reload};
use crate::datapath::Datapath;
use crate::listener::Listener;
use crate::session::Gateway;
use crate::telemetry::with_causes;

/// How long a gateway that handed over listens at least: connections in the middle of their TCP
/// handshake are still its own, and a packet that is lost is sent again after 1 and 3 seconds more.
const LINGER: Duration = Duration::from_secs(10);

/// The datapath, as far as this process has it.
pub(super) enum Charge {
    /// This gateway steers.
    Own(Arc<Mutex<Datapath>>),
    /// A successor prepares; it may yet fail.
    Lent(Arc<Mutex<Datapath>>),
    /// A successor steers, and this gateway only serves the sessions it has.
    Draining {
        /// It does not end before.
        linger: Instant,
        /// Sessions that are left are ended then.
        limit: Instant,
    },
}

impl Charge {
    /// The datapath, if this process may change it.
    pub(super) const fn datapath(&self) -> Option<&Arc<Mutex<Datapath>>> {
        match self {
            Self::Own(datapath) => Some(datapath),
            Self::Lent(_) | Self::Draining { .. } => None,
        }
    }

    /// Whether this process never changes it again.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    /// Does a step of a takeover; whether it is done.
    pub(super) fn obey(&mut self, step: Step, gateway: &Gateway, listener: &Listener) -> bool {
        match (&*self, step) {
            (Self::Own(datapath), Step::Lend) => {
                lock(datapath).lend();
                *self = Self::Lent(Arc::clone(datapath));
            }
            (Self::Lent(datapath), Step::TakeBack) => {
                if !take_back(datapath, gateway, listener) {
                    return false;
                }
                *self = Self::Own(Arc::clone(datapath));
            }
            (Self::Lent(_), Step::HandOver) => {
                let (now, limit) = (Instant::now(), gateway.config.limits.drain_timeout);
                tracing::info!(sessions = gateway.registry.len(), ?limit, "handed over; draining");
                *self = Self::Draining { linger: now + LINGER, limit: now + limit };
            }
            // Asked for twice; what was asked for is so.
            (Self::Own(_) | Self::Lent(_) | Self::Draining { .. }, _) => {}
        }
        true
    }

    /// Returns when a gateway that drains is to end; `idle` is whether it has no connection left.
    pub(super) async fn drained(&self, idle: bool) {
        match self {
            Self::Own(_) | Self::Lent(_) => std::future::pending().await,
            Self::Draining { linger, limit } => {
                sleep_until(if idle { *linger.min(limit) } else { *limit }).await
            }
        }
    }
}

fn take_back(datapath: &Mutex<Datapath>, gateway: &Gateway, listener: &Listener) -> bool {
    let mut datapath = lock(datapath);
    if let Err(error) = datapath.take_back(listener.fds()) {
        tracing::warn!(error = with_causes(&error), "the datapath is not back yet");
        return false;
    }
    if let Err(error) = reload::apply(&mut datapath, &gateway.policy.current()) {
        // The next change of the policy tries again.
        tracing::error!(error = with_causes(&error), "the targets are not all back");
    }
    tracing::info!("in charge again");
    true
}
