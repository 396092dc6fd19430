//! The steps of a connection: [`Arrival`], [`Dialled`], [`Asked`], [`Session`].
//!
//! Each holds what is known by then and has one method that yields the next.

use std::sync::Arc;
use std::time::SystemTime;

use portreeve_core::host_certificate::HostCertificateSpec;
use portreeve_core::id::SessionId;
use portreeve_core::identity::{Identity, Unidentified};
use portreeve_core::infrastructure::{AccessGrant, authorize};
use portreeve_core::login::Login;
use portreeve_core::net::FlowTuple;
use portreeve_core::net::interface::InterfaceName;
use portreeve_core::network_policy::NetworkVerdict;
use portreeve_core::record::RecordEvent;
use portreeve_core::snapshot::PolicySnapshot;

use super::Gateway;
use super::alerts::{AlertLookout, WatchedSession};
use super::dialled::Dialled;
use super::forwards::ForwardJudge;
use super::inner::InnerSessions;
use super::observer::RecordingObserver;
use super::outcome::{Ending, SessionOutcome};
use super::recording;
use super::refusal::{Refusal, denied, ended, unidentified_user};
use super::registry::{Basis, Entry};
use super::target::{DialledTarget, FurtherHostKeys, ShownTarget};
use crate::metrics::ConnectionOutcome as Outcome;
use crate::recording::{Recorder, Reservation};
use crate::ssh::downstream::DownstreamSession;
use crate::ssh::relay::{self, EndedBy};
use crate::ssh::upstream::UpstreamSession;

/// A flow that the network policies let pass, of a user who may or may not be known.
pub(super) struct Arrival<'g> {
    gateway: &'g Gateway,
    id: SessionId,
    flow: FlowTuple,
    ingress: Option<InterfaceName>,
    policy: Arc<PolicySnapshot>,
    identity: Result<Arc<Identity>, Unidentified>,
    command_logging: bool,
}

/// A known user behind a flow, and the snapshot that decides about them.
pub(super) struct KnownUser<'g> {
    pub(super) gateway: &'g Gateway,
    pub(super) id: SessionId,
    pub(super) flow: FlowTuple,
    ingress: Option<InterfaceName>,
    policy: Arc<PolicySnapshot>,
    pub(super) identity: Arc<Identity>,
    command_logging: bool,
}

/// A user who has said which login they want, and a target that has shown its host key.
pub(super) struct Asked<'g> {
    pub(super) user: KnownUser<'g>,
    pub(super) reservation: Reservation,
    pub(super) target: ShownTarget,
    pub(super) login: Login,
}

/// Both sides are logged in and the recording has begun.
pub(super) struct Session<'g> {
    gateway: &'g Gateway,
    grant: AccessGrant,
    recorder: Recorder,
    upstream: UpstreamSession,
    further: FurtherHostKeys,
    entry: Entry,
}

/// A flow, and the interface that it came in on, where that is known.
pub(super) type Flow = (FlowTuple, Option<InterfaceName>);

impl<'g> Arrival<'g> {
    /// Takes the snapshot, looks the user up and asks the network policies.
    pub(super) fn decide(
        gateway: &'g Gateway,
        id: SessionId,
        (flow, ingress): Flow,
        outcome: &mut SessionOutcome,
    ) -> Result<Self, Ending> {
        let policy = gateway.policy.current();
        let identity = policy.identify(flow.client.ip(), ingress.as_ref()).cloned();
        let facts = outcome.facts();
        facts.generation = policy.generation.0;
        facts.email = identity.as_ref().ok().map(|identity| identity.email.to_string());
        match policy.network_verdict(flow, identity.as_deref().ok()) {
            NetworkVerdict::Block { policy, evaluation_error } => {
                facts.network_policy = Some(policy.to_string());
                let reason = match evaluation_error {
                    None => format!("blocked by the network policy {policy:?}"),
                    Some(error) => format!("the network policy {policy:?} cannot be evaluated: {error}"),
                };
                Err(Ending::new(Outcome::Blocked, reason))
            }
            NetworkVerdict::Intercept { policy: matched, command_logging } => {
                facts.network_policy = matched.map(|name| name.to_string());
                Ok(Self { gateway, id, flow, ingress, policy, identity, command_logging })
            }
        }
    }

    /// Reserves the recording, then dials the target. Whom no policy lets in under any login does not get
    /// that far: targets count connections that end without a log-in, all from the gateway's address.
    pub(super) async fn dial(self, outcome: &mut SessionOutcome) -> Result<Dialled<'g>, Refusal> {
        let Self { gateway, id, flow, ingress, policy, identity, command_logging } = self;
        let identity = identity.map_err(|unidentified| unidentified_user(&unidentified))?;
        let Some(target) = policy.infrastructure.target_at(flow.original_dst) else {
            let reason = format!("{} is no target any more; connect again", flow.original_dst);
            return Err(Refusal::new(Outcome::NoTarget, reason));
        };
        outcome.facts().hostname = Some(target.hostname.to_string());
        policy.approach(flow, &identity).map_err(|denial| denied(&denial))?;
        let now = SystemTime::now();
        let reservation = recording::reserve(gateway, id, &identity, now, outcome).await?;
        let vouching = HostCertificateSpec::for_target(&target.hostname, flow.original_dst, id, now);
        let target = DialledTarget::dial(gateway, flow, target).await?;
        outcome.facts().dialled_from = Some(target.dialled_from().to_string());
        let user = KnownUser { gateway, id, flow, ingress, policy, identity, command_logging };
        Ok(Dialled { user, reservation, target, vouching })
    }
}

impl<'g> Asked<'g> {
    /// Asks the infrastructure policies, begins the recording, and logs in at the target. A grant that
    /// is withdrawn on the way is no log-in.
    pub(super) async fn log_in(self, outcome: &mut SessionOutcome) -> Result<Session<'g>, Refusal> {
        let Self { user, reservation, target, login } = self;
        let gateway = user.gateway;
        let target = target.trust()?;
        let grant = user.authorize(&login, outcome)?;
        let mut entry = user.enter_registry(&grant);
        let rights = grant.permissions().file_transfer;
        let lookout = user.lookout(&grant);
        let started = user.session_started(&grant, outcome.facts().outer_session.clone());
        let watched = reservation.watched_by(Arc::<AlertLookout>::clone(&lookout));
        let begun = watched.begin(started, user.command_logging, rights);
        let begun = entry.unless_told(begun).await.map_err(ended)?;
        let recorder = recording::begun(gateway, &user.identity, (begun, lookout), outcome)?;
        entry.recorded(recorder.activity(), recorder.directory());
        let logged_in = entry.unless_told(target.log_in(&user, &grant, outcome)).await;
        match logged_in.map_err(ended).flatten() {
            Ok((upstream, further)) => Ok(Session { gateway, grant, recorder, upstream, further, entry }),
            Err(Refusal { text, ending }) => {
                let ending = recording::finish(gateway, recorder, ending, false).await;
                Err(Refusal { text, ending })
            }
        }
    }
}

impl KnownUser<'_> {
    fn authorize(&self, login: &Login, outcome: &mut SessionOutcome) -> Result<AccessGrant, Refusal> {
        let request = self.policy.access_request(self.flow, &self.identity, login);
        let grant = authorize(&self.policy.infrastructure, &request).map_err(|denial| denied(&denial))?;
        outcome.facts().granted_by = grant.granted_by().to_vec();
        Ok(grant)
    }

    /// From here on the session follows policy; one that came into force since the snapshot is asked too.
    fn enter_registry(&self, grant: &AccessGrant) -> Entry {
        let basis = Basis {
            flow: self.flow,
            ingress: self.ingress.clone(),
            identity: Arc::clone(&self.identity),
            grant: grant.clone(),
            command_logging: self.command_logging,
        };
        let entered = self.gateway.registry.enter(self.id, basis);
        let newest = self.gateway.policy.current();
        if newest.generation != self.policy.generation {
            self.gateway.registry.recheck(&newest);
        }
        entered
    }

    /// What looks for alerts in the session.
    fn lookout(&self, grant: &AccessGrant) -> Arc<AlertLookout> {
        let basis = WatchedSession {
            id: self.id,
            flow: self.flow,
            identity: Arc::clone(&self.identity),
            command_logging: self.command_logging,
        };
        Arc::new(AlertLookout::new(self.gateway, basis, grant))
    }

    fn session_started(&self, grant: &AccessGrant, outer: Option<String>) -> RecordEvent {
        RecordEvent::SessionStarted {
            session: self.id.to_string(),
            email: self.identity.email.to_string(),
            login: grant.login().to_string(),
            client: self.flow.client.to_string(),
            target: self.flow.original_dst.to_string(),
            hostname: grant.target().hostname.to_string(),
            granted_by: grant.granted_by().to_vec(),
            outer,
        }
    }
}

impl Session<'_> {
    /// Relays until either side, policy or the recording ends the session; forwards that are inspected begin in `inner`.
    pub(super) async fn relay(
        mut self,
        downstream: DownstreamSession,
        inner: InnerSessions,
        outcome: &mut SessionOutcome,
    ) -> Ending {
        let gateway = self.gateway;
        tracing::info!(login = %self.grant.login(), granted_by = ?self.grant.granted_by(), "session started");
        let active = gateway.metrics.session_begins();
        let forwards = ForwardJudge::new(gateway.policy.follow(), self.grant.forwards().clone(), inner);
        let observer = Arc::new(RecordingObserver::new(self.recorder.clone(), forwards));
        let mut told = None;
        let end = async {
            let ended = ended(self.entry.told_to_end().await);
            let text = ended.text.as_str().to_owned();
            told = Some(ended.ending);
            text
        };
        let permissions = self.grant.permissions();
        let relayed = relay::run(downstream, self.upstream, permissions, Arc::clone(&observer), end);
        let (relayed, ()) = tokio::join!(relayed, self.further.pin(&gateway.known_hosts));
        drop(active);
        let facts = outcome.facts();
        facts.client_bytes = relayed.client_bytes;
        facts.target_bytes = relayed.target_bytes;
        let ending = match relayed.ended_by {
            EndedBy::Revoked { reason } => told.unwrap_or_else(|| Ending::new(Outcome::Revoked, reason)),
            EndedBy::ClientDisconnected => Ending::new(Outcome::Closed, "closed by the user"),
            EndedBy::TargetDisconnected { text: None } => {
                Ending::new(Outcome::Closed, "closed by the target")
            }
            EndedBy::TargetDisconnected { text: Some(text) } => {
                Ending::new(Outcome::Closed, format!("closed by the target: {text}"))
            }
            EndedBy::ProtocolBroken { by_target, fault } => {
                let who = if by_target { "target" } else { "user's side" };
                Ending::new(Outcome::Closed, format!("the {who} broke the SSH protocol: {fault}"))
            }
            EndedBy::ObserverFailed(error) => Ending::new(Outcome::RecordingFailed, error.to_string()),
        };
        recording::finish(gateway, self.recorder, ending, observer.has_failed()).await
    }
}
