//! Live sessions: checked again at every new policy, ended when their grant is gone.
//!
//! Invariant: a session enters before it relays a byte, and one entered under an older snapshot is
//! checked against the newest one, so no change of policy falls between.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use portreeve_core::id::SessionId;
use portreeve_core::identity::Identity;
use portreeve_core::infrastructure::{AccessGrant, authorize};
use portreeve_core::net::FlowTuple;
use portreeve_core::net::interface::InterfaceName;
use portreeve_core::network_policy::NetworkVerdict;
use portreeve_core::snapshot::PolicySnapshot;
use tokio::sync::{oneshot, watch};

use crate::recording::activity::{Activity, Snapshot};

/// Why a live session is told to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its grant is gone; the sentence says why.
    Revoked(String),
    /// Who runs the gateway ends it.
    ByOperator {
        /// Whose process asked for it.
        uid: u32,
        /// What the user reads.
        reason: String,
    },
    /// A rule ends it.
    ByAlert {
        /// The rule's name.
        rule: Arc<str>,
        /// What the user reads.
        reason: Arc<str>,
    },
    /// The gateway stops.
    Shutdown,
}

/// What a live session rests on.
#[derive(Clone, Debug)]
pub struct Basis {
    /// Who connected to what.
    pub flow: FlowTuple,
    /// The interface that they came in on, where that is known.
    pub ingress: Option<InterfaceName>,
    /// Who it is.
    pub identity: Arc<Identity>,
    /// What was granted.
    pub grant: AccessGrant,
    /// Whether its commands and streams are kept.
    pub command_logging: bool,
}

/// The live sessions of this gateway.
#[derive(Debug, Default)]
pub struct Registry {
    live: Mutex<HashMap<SessionId, Live>>,
    /// Whether the gateway stops; set once, under the lock of `live`.
    closed: watch::Sender<bool>,
}

/// A place in the registry; dropping it leaves.
#[derive(Debug)]
pub struct Entry {
    registry: Arc<Registry>,
    id: SessionId,
    end: oneshot::Receiver<End>,
}

/// A live session, as it is at a moment.
#[derive(Clone, Debug)]
pub struct LiveSession {
    /// Its id.
    pub id: SessionId,
    /// What it rests on.
    pub basis: Basis,
    /// When it was granted.
    pub since: SystemTime,
    /// Where its recording is written, if there is one.
    pub directory: Option<PathBuf>,
    /// What it does.
    pub activity: Snapshot,
}

#[derive(Debug)]
struct Live {
    basis: Basis,
    since: SystemTime,
    directory: Option<PathBuf>,
    /// Once it is recorded.
    activity: Option<Arc<Activity>>,
    end: oneshot::Sender<End>,
}

impl Registry {
    /// Enters a session, which is told through its entry when it must end: at once if the registry is
    /// closed.
    pub fn enter(self: &Arc<Self>, id: SessionId, basis: Basis) -> Entry {
        let (tell, end) = oneshot::channel();
        let session = Live { basis, since: SystemTime::now(), directory: None, activity: None, end: tell };
        let mut live = self.live();
        if *self.closed.borrow() {
            session.tell(End::Shutdown);
        } else {
            live.insert(id, session);
        }
        Entry { registry: Arc::clone(self), id, end }
    }

    /// Runs a step of a connection that has no entry yet, unless the gateway stops before its end.
    ///
    /// # Errors
    /// [`End::Shutdown`]; the step is dropped then, or was never begun.
    pub async fn unless_closed<T>(&self, step: impl Future<Output = T>) -> Result<T, End> {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            // The sender is in `self`: it is not gone.
            _ = closed.wait_for(|closed| *closed) => Err(End::Shutdown),
            done = step => Ok(done),
        }
    }

    /// Ends every session whose grant `policy` does not hold any more; returns how many.
    pub fn recheck(&self, policy: &PolicySnapshot) -> usize {
        self.end_where(|basis| still_granted(policy, basis).err().map(End::Revoked))
    }

    /// Ends every session because the gateway stops, and every connection on its way to one; returns how
    /// many sessions there were.
    pub fn close(&self) -> usize {
        let mut live = self.live();
        self.closed.send_replace(true);
        let ended = std::mem::take(&mut *live);
        let count = ended.len();
        ended.into_values().for_each(|session| session.tell(End::Shutdown));
        count
    }

    /// All live sessions.
    pub fn sessions(&self) -> Vec<LiveSession> {
        let live = self.live();
        let sessions = live.iter().map(|(id, session)| LiveSession {
            id: *id,
            basis: session.basis.clone(),
            since: session.since,
            directory: session.directory.clone(),
            activity: session.activity.as_ref().map(|activity| activity.snapshot()).unwrap_or_default(),
        });
        sessions.collect()
    }

    /// Ends the session whose id is written so; whether it was live.
    pub fn end(&self, id: &str, end: End) -> bool {
        let found = self.live().keys().copied().find(|live| live.to_string() == id);
        found.is_some_and(|id| self.end_one(id, end))
    }

    /// Ends the session with this id; whether it was live.
    pub fn end_one(&self, id: SessionId, end: End) -> bool {
        let session = self.live().remove(&id);
        session.map(|session| session.tell(end)).is_some()
    }

    /// How many sessions are live.
    pub fn len(&self) -> usize {
        self.live().len()
    }

    /// Whether no session is live.
    pub fn is_empty(&self) -> bool {
        self.live().is_empty()
    }

    fn end_where(&self, why: impl Fn(&Basis) -> Option<End>) -> usize {
        let mut live = self.live();
        let ended: Vec<(SessionId, End)> =
            live.iter().filter_map(|(id, session)| Some((*id, why(&session.basis)?))).collect();
        let count = ended.len();
        for (id, end) in ended {
            if let Some(session) = live.remove(&id) {
                session.tell(end);
            }
        }
        count
    }

    fn live(&self) -> MutexGuard<'_, HashMap<SessionId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn tell(self, end: End) {
        // A session that is just ending by itself does not listen any more.
        self.end.send(end).unwrap_or_default();
    }
}

impl Entry {
    /// The session is recorded from now on, in `directory` if at all; `activity` tells what it does.
    pub fn recorded(&self, activity: Arc<Activity>, directory: Option<&Path>) {
        if let Some(session) = self.registry.live().get_mut(&self.id) {
            session.directory = directory.map(Path::to_owned);
            session.activity = Some(activity);
        }
    }

    /// Yields when the session must end; not to be asked again after that.
    pub async fn told_to_end(&mut self) -> End {
        match (&mut self.end).await {
            Ok(end) => end,
            // Only the registry ends a session, and it says why.
            Err(_) => std::future::pending().await,
        }
    }

    /// Runs a step to its end, unless the session must end before.
    ///
    /// # Errors
    /// Why it must end; the step is dropped then, or was never begun.
    pub async fn unless_told<T>(&mut self, step: impl Future<Output = T>) -> Result<T, End> {
        tokio::select! {
            biased;
            end = self.told_to_end() => Err(end),
            done = step => Ok(done),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.live().remove(&self.id);
    }
}

/// Decides again about a session, as if it connected now; the sentence says what is missing.
fn still_granted(policy: &PolicySnapshot, basis: &Basis) -> Result<(), String> {
    let identity = policy
        .identify(basis.flow.client.ip(), basis.ingress.as_ref())
        .ok()
        .filter(|identity| identity.email == basis.identity.email)
        .ok_or("your identity is no longer known at your address")?;
    let command_logging = match policy.network_verdict(basis.flow, Some(identity)) {
        NetworkVerdict::Block { policy, .. } => {
            return Err(format!("the network policy {policy:?} now blocks this connection"));
        }
        NetworkVerdict::Intercept { command_logging, .. } => command_logging,
    };
    let request = policy.access_request(basis.flow, identity, basis.grant.login());
    let grant = authorize(&policy.infrastructure, &request).map_err(|denial| denial.to_string())?;
    // A session that is recorded more than policy asks may go on; one that is recorded less may not.
    let recorded_enough = basis.command_logging || !command_logging;
    let same = grant.permissions() == basis.grant.permissions() && grant.forwards() == basis.grant.forwards();
    if same && recorded_enough {
        Ok(())
    } else {
        Err("what you may do in this session has changed; connect again".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use portreeve_core::config::Format;
    use portreeve_core::config::policy;
    use portreeve_core::id::Generation;
    use portreeve_core::login::Login;
    use portreeve_core::net::{ClientAddr, OriginalDst};

    use super::*;

    /// A policy that grants alice the login `alice`, with network `RULES`.
    fn snapshot(rules: &str) -> PolicySnapshot {
        let text = r#"
            rules = [RULES]
            identities = [{ addresses = ["192.0.2.1"], email = "alice@example.com" }]
            targets = [{ hostname = "db1", ip = { ipv4 = { ip_addr = "10.1.2.3" } } }]
            [[applications]]
            name = "servers"
            type = "infrastructure"
            target_criteria = [{ port = 22, protocol = "SSH", target_attributes = { hostname = ["db1"] } }]
            [[applications.policies]]
            name = "staff"
            decision = "allow"
            include = [{ everyone = {} }]
            connection_rules = { ssh = { usernames = ["alice"] } }
        "#;
        let text = text.replace("RULES", rules);
        policy::load(&text, Format::Toml, "policy.toml", Generation(1)).unwrap().snapshot
    }

    fn audit(command_logging: bool) -> PolicySnapshot {
        snapshot(&format!(
            r#"{{ name = "audit", action = "audit_ssh", precedence = 1,
                 rule_settings = {{ audit_ssh = {{ command_logging = {command_logging} }} }} }}"#
        ))
    }

    /// What alice's session rests on when it starts under `policy`.
    fn basis(policy: &PolicySnapshot) -> Basis {
        let flow = FlowTuple {
            client: ClientAddr::new("192.0.2.1:40000".parse().unwrap()),
            original_dst: OriginalDst::new("10.1.2.3:22".parse().unwrap()),
        };
        let identity = Arc::clone(policy.identify(flow.client.ip(), None).unwrap());
        let login = Login::new("alice").unwrap();
        let request = policy.access_request(flow, &identity, &login);
        let grant = authorize(&policy.infrastructure, &request).unwrap();
        let NetworkVerdict::Intercept { command_logging, .. } = policy.network_verdict(flow, Some(&identity))
        else {
            panic!("blocked");
        };
        Basis { flow, ingress: None, identity, grant, command_logging }
    }

    #[test]
    fn a_session_ends_when_policy_begins_to_demand_its_recording_and_not_when_it_stops() {
        let changed = Err("what you may do in this session has changed; connect again".to_owned());
        for (before, after, verdict) in
            [(false, true, changed), (false, false, Ok(())), (true, false, Ok(())), (true, true, Ok(()))]
        {
            assert_eq!(still_granted(&audit(after), &basis(&audit(before))), verdict, "{before} {after}");
        }
    }
    #[tokio::test]
    async fn a_step_that_follows_a_revocation_is_never_begun() {
        let (granted, registry) = (audit(true), Arc::new(Registry::default()));
        let mut entry = registry.enter(SessionId::from_random_bytes([1; 16]), basis(&granted));
        assert_eq!(entry.unless_told(async { 1 }).await, Ok(1));
        assert_eq!(registry.recheck(&granted), 0);
        let block = snapshot(r#"{ name = "out", action = "block", precedence = 1 }"#);
        assert_eq!(registry.recheck(&block), 1);
        let mut begun = false;
        let why = "the network policy \"out\" now blocks this connection".to_owned();
        assert_eq!(entry.unless_told(async { begun = true }).await, Err(End::Revoked(why)));
        assert!(!begun, "the log-in was begun");
    }
    #[tokio::test]
    async fn a_closed_registry_ends_who_is_in_it_who_comes_late_and_who_is_on_the_way() {
        let (granted, registry) = (audit(true), Arc::new(Registry::default()));
        let enter = |n| registry.enter(SessionId::from_random_bytes([n; 16]), basis(&granted));
        let mut early = enter(1);
        assert_eq!(registry.unless_closed(async { 1 }).await, Ok(1));
        let on_the_way = registry.unless_closed(std::future::pending::<()>());
        let (ended, closed) = tokio::join!(on_the_way, async { registry.close() });
        assert_eq!((ended, closed), (Err(End::Shutdown), 1));
        assert_eq!(early.told_to_end().await, End::Shutdown);
        assert_eq!(enter(2).told_to_end().await, End::Shutdown);
        assert_eq!(registry.unless_closed(async { 1 }).await, Err(End::Shutdown));
        assert!(registry.is_empty());
    }
}
