//! One connection, from accept to outcome.
//!
//! [`serve`] is the whole flow. Each step consumes a value and yields the next, so none can be
//! skipped: the user's SSH handshake needs a dialled target, a recorder needs a grant, a log-in needs
//! a recorder. A step that fails ends the connection with a [`Refusal`] that the user reads.

mod alerts;
mod dial;
mod dialled;
mod forwards;
mod incoming;
mod inner;
mod observer;
pub mod outcome;
mod recording;
mod refusal;
pub mod registry;
mod steps;
mod target;

use std::sync::Arc;

use portreeve_core::config::daemon::Config;
use portreeve_core::id::SessionId;
use portreeve_core::net::FlowTuple;
use portreeve_core::net::interface::InterfaceName;
use tokio::sync::mpsc;
use tracing::Instrument as _;

pub use self::incoming::Incoming;
use self::inner::InnerSessions;
use self::outcome::{Ending, SessionOutcome};
use self::registry::Registry;
use self::steps::Arrival;
use crate::access_log::AccessLog;
use crate::audit::AuditChain;
use crate::ca::Signer;
use crate::ca::host::HostSigner;
use crate::export::Exports;
use crate::known_hosts::KnownHosts;
use crate::metrics::{ConnectionOutcome, Metrics};
use crate::recording::recipient::RecipientKeys;
use crate::recording::spool::Spool;
use crate::ssh;
use crate::ssh::shown_keys::KeyRing;
use crate::store::PolicyStore;

/// What every connection of this gateway needs; all of it is shared and none of it is optional.
#[derive(Debug)]
pub struct Gateway {
    /// The daemon's configuration.
    pub config: Config,
    /// The policy in force.
    pub policy: PolicyStore,
    /// Pinned host keys of targets.
    pub known_hosts: KnownHosts,
    /// Derives the host keys that users see.
    pub key_ring: KeyRing,
    /// Signs certificates.
    pub signer: Signer,
    /// Signs certificates for the host keys that users see; absent: they are shown as plain keys only.
    pub host_signer: Option<HostSigner>,
    /// Where recordings are written.
    pub spool: Spool,
    /// Signs their manifests.
    pub audit: Arc<AuditChain>,
    /// To whom recordings are sealed.
    pub recipients: RecipientKeys,
    /// Takes the connections in channels of live sessions, which are to be served as any other.
    pub inner: mpsc::Sender<Incoming>,
    /// Live sessions.
    pub registry: Arc<Registry>,
    /// One line per connection.
    pub access_log: AccessLog,
    /// Where notices of alerts go.
    pub notices: Exports,
    /// Counters.
    pub metrics: Metrics,
}

/// Serves one connection to its end and writes its outcome.
pub async fn serve(gateway: Arc<Gateway>, incoming: Incoming) {
    let Incoming { id, flow, .. } = incoming;
    let span = tracing::info_span!("session", %id, client = %flow.client, target = %flow.original_dst);
    let mut outcome = begin(&gateway, id, flow, incoming.ingress.as_ref());
    outcome.facts().outer_session = incoming.nesting.outer.map(|outer| outer.to_string());
    async move {
        let ending = connection(&gateway, incoming, &mut outcome).await;
        outcome.finish(ending);
    }
    .instrument(span)
    .await;
}

/// Writes the outcome of a flow that the kernel blocked by a network policy.
pub fn blocked_in_kernel(gateway: &Gateway, flow: FlowTuple, ingress: Option<InterfaceName>) {
    let id = SessionId::from_random_bytes(rand::random());
    let mut outcome = begin(gateway, id, flow, ingress.as_ref());
    // The kernel's rules are made of the policies, so the policy in force says the same, and which; but for
    // one that came into force since.
    let ending = match Arrival::decide(gateway, id, (flow, ingress), &mut outcome) {
        Err(blocked) => blocked,
        Ok(_) => Ending::new(ConnectionOutcome::Blocked, "blocked by the network policies of a moment ago"),
    };
    outcome.finish(ending);
}

fn begin(
    gateway: &Gateway,
    id: SessionId,
    flow: FlowTuple,
    ingress: Option<&InterfaceName>,
) -> SessionOutcome {
    let mut outcome = SessionOutcome::begin(id, flow, gateway.access_log.clone(), gateway.metrics.clone());
    outcome.facts().ingress_interface = ingress.map(ToString::to_string);
    outcome
}

/// The flow of one connection.
async fn connection(gateway: &Gateway, incoming: Incoming, outcome: &mut SessionOutcome) -> Ending {
    // What it holds beside the stream is given back when it ends.
    let Incoming { id, stream, flow, ingress, mut permit, nesting } = incoming;
    // One snapshot decides everything; network policies come first, and a block is final.
    let arrival = match Arrival::decide(gateway, id, (flow, ingress.clone()), outcome) {
        Ok(arrival) => arrival,
        Err(blocked) => {
            stream.reset();
            return blocked;
        }
    };

    // Some policy is about the user, the record exists, and the target has said what it is before the user
    // sees a byte of SSH.
    let registry = &gateway.registry;
    let dialled = registry.unless_closed(arrival.dial(outcome)).await;
    let dialled = match dialled.map_err(refusal::ended).flatten() {
        Ok(dialled) => dialled,
        Err(refusal) => {
            ssh::refusal::refuse(stream, &refusal.text).await;
            return refusal.ending;
        }
    };
    let asked = registry.unless_closed(dialled.ask_login(stream, outcome)).await;
    let (attempt, asked) = match asked.map_err(|end| refusal::ended(end).ending).flatten() {
        Ok(asked) => asked,
        Err(ending) => return ending,
    };

    // Infrastructure policies, recording, certificate, log-in at the target: then the user is let in.
    let session = match asked.log_in(outcome).await {
        Ok(session) => session,
        Err(refusal) => {
            attempt.refuse(refusal.text.as_str()).await;
            return refusal.ending;
        }
    };
    permit.logged_in();
    outcome.let_in();
    let outer = (id, nesting.depth);
    let inner = InnerSessions::new(gateway.inner.clone(), outer, (flow, ingress), permit.admission());
    session.relay(attempt.admit(), inner, outcome).await
}
