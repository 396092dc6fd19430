//! The forwards of a live session: which are opened, and which may carry SSH.
//!
//! Decided by the policy in force when a forward is asked for, and by what the session's grant allows. One that leads to
//! a target and that policy has inspected begins a connection of its own ([`super::inner`]).

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portreeve_core::infrastructure::forwarding::{Forward, ForwardKind, Forwards};
use portreeve_core::infrastructure::{ForwardVerdict, forward_verdict, name_verdict, ssh_verdict};
use portreeve_core::net::OriginalDst;
use portreeve_core::record::{ChannelKind, ChannelNumber, RecordEvent, Source};
use portreeve_core::snapshot::PolicySnapshot;
use portreeve_core::target::Target;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::inner::InnerSessions;
use crate::ssh::observe::Decision;

/// How long the gateway looks for the addresses of a name.
const RESOLVING: Duration = Duration::from_secs(2);

/// How many names the gateway looks up at the same time, over all sessions. A look-up that takes longer than
/// [`RESOLVING`] keeps its thread until the system's resolver gives up, so this bounds threads too.
static LOOKUPS: Semaphore = Semaphore::const_new(16);

/// Decides about the forwards of one session.
#[derive(Debug)]
pub(super) struct ForwardJudge {
    policy: watch::Receiver<Arc<PolicySnapshot>>,
    forwards: Forwards,
    inner: InnerSessions,
    /// Where channels lead whose destination is a name.
    names: Mutex<HashMap<ChannelNumber, (Vec<u8>, u16)>>,
}

impl ForwardJudge {
    pub(super) fn new(
        policy: watch::Receiver<Arc<PolicySnapshot>>,
        forwards: Forwards,
        inner: InnerSessions,
    ) -> Self {
        Self { policy, forwards, inner, names: Mutex::default() }
    }

    /// Decides about a channel that `source` asks for; yields what the recording says of it beside a refusal, too.
    pub(super) async fn open(
        &self,
        channel: ChannelNumber,
        source: Source,
        kind: &ChannelKind,
    ) -> (Decision, Option<RecordEvent>) {
        let Some(forward) = kind.forward() else { return (self.other(kind), None) };
        let Some(port) = forward.tcp_port() else { return (Decision::not_granted(), None) };
        let decision = match self.verdict(forward, port).await {
            ForwardVerdict::Allowed => Decision::Forward,
            ForwardVerdict::AllowedUnlessSsh => {
                self.names().insert(channel, (forward.destination.to_vec(), port));
                Decision::ForwardUnlessSsh
            }
            ForwardVerdict::NotGranted | ForwardVerdict::InspectIfTarget => Decision::not_granted(),
            ForwardVerdict::ToTarget(target) => connect_directly(&target),
            // A target must not connect anywhere as the user.
            ForwardVerdict::Inspect(_) if source != Source::Client => Decision::not_granted(),
            ForwardVerdict::Inspect(dst) => return self.inspect(channel, dst),
        };
        (decision, None)
    }

    async fn verdict(&self, forward: Forward<'_>, port: u16) -> ForwardVerdict {
        let outer = self.inner.outer_dst();
        let verdict = forward_verdict(&self.policy().infrastructure, &self.forwards, outer, forward);
        if verdict != ForwardVerdict::InspectIfTarget {
            return verdict;
        }
        let addresses = resolve(forward.destination.to_vec(), port).await;
        name_verdict(&self.policy().infrastructure, outer, forward, &addresses)
    }

    fn inspect(&self, channel: ChannelNumber, dst: OriginalDst) -> (Decision, Option<RecordEvent>) {
        match self.inner.begin(dst) {
            Ok((id, end)) => {
                let (session, target) = (id.to_string(), dst.to_string());
                (Decision::Inspect(end), Some(RecordEvent::ForwardInspected { channel, session, target }))
            }
            Err(text) => (Decision::Refuse { text }, None),
        }
    }

    /// Decides about a remote forward.
    pub(super) fn listen(&self, listen: &[u8], port: Option<u32>) -> Decision {
        let kind = if port.is_some() { ForwardKind::Remote } else { ForwardKind::RemoteSocket };
        let forward = Forward { kind, destination: listen, port: port.unwrap_or_default() };
        if self.forwards.allow(forward) { Decision::Forward } else { Decision::not_granted() }
    }

    /// Decides about SSH that began on a channel.
    pub(super) async fn ssh(&self, channel: ChannelNumber) -> Decision {
        let Some((name, port)) = self.names().get(&channel).cloned() else { return Decision::not_granted() };
        let addresses = resolve(name, port).await;
        match ssh_verdict(&self.policy().infrastructure, self.inner.outer_dst(), &addresses, port) {
            ForwardVerdict::Allowed | ForwardVerdict::AllowedUnlessSsh => Decision::Forward,
            ForwardVerdict::ToTarget(target) => connect_directly(&target),
            ForwardVerdict::NotGranted
            | ForwardVerdict::Inspect(_)
            | ForwardVerdict::InspectIfTarget => Decision::Refuse {
                text:
                    "portreeve: the gateway does not know this destination, so SSH is not forwarded to it; \
                       connect to it directly, or name its address"
                        .to_owned(),
            },
        }
    }

    /// The channel is closed.
    pub(super) fn closed(&self, channel: ChannelNumber) {
        self.names().remove(&channel);
    }

    /// What is not known may lead anywhere; what is no forward is not decided here.
    fn other(&self, kind: &ChannelKind) -> Decision {
        let unknown = matches!(kind, ChannelKind::Other { .. });
        if unknown && !self.forwards.allow_all() { Decision::not_granted() } else { Decision::Forward }
    }

    fn policy(&self) -> Arc<PolicySnapshot> {
        Arc::clone(&self.policy.borrow())
    }

    fn names(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelNumber, (Vec<u8>, u16)>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of a name, as far as the gateway can tell: none if it does not know within [`RESOLVING`], or if
/// too many other names are looked up.
async fn resolve(name: Vec<u8>, port: u16) -> Vec<IpAddr> {
    let Ok(name) = String::from_utf8(name) else { return Vec::new() };
    let looked_up = async {
        let permit = LOOKUPS.acquire().await.ok()?;
        let look_up = move || {
            let _permit = permit;
            (name, port).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
        };
        tokio::task::spawn_blocking(look_up).await.ok()?.ok()
    };
    timeout(RESOLVING, looked_up).await.ok().flatten().unwrap_or_default()
}

fn connect_directly(target: &Target) -> Decision {
    let hostname = &target.hostname;
    let text = format!(
        "portreeve: {hostname} is reached through this gateway alone; connect to it directly, without a forward or jump host"
    );
    Decision::Refuse { text }
}

#[cfg(test)]
mod tests {
    use portreeve_core::config::{Format, policy};
    use portreeve_core::id::Generation;
    use portreeve_core::infrastructure::authorize;
    use portreeve_core::login::Login;
    use portreeve_core::net::{ClientAddr, FlowTuple};

    use super::super::inner::fixture::{dst, inner};
    use super::*;
    use crate::store::PolicyStore;

    const POLICY: &str = r#"
        identities = [{ addresses = ["192.0.2.1"], email = "alice@example.com" }]
        targets = [{ hostname = "db1", ip = { ipv4 = { ip_addr = "10.0.0.2" } } }]
        [[applications]]
        name = "servers"
        type = "infrastructure"
        target_criteria = [{ port = 22, protocol = "SSH", target_attributes = { hostname = ["db1"] } }]
        [[applications.policies]]
        name = "staff"
        decision = "allow"
        include = [{ everyone = {} }]
        connection_rules = { ssh = { usernames = ["alice"], forwards_to_targets = "inspect" } }
    "#;

    fn to_db1() -> ChannelKind {
        ChannelKind::DirectTcpip {
            destination: "10.0.0.2".into(),
            destination_port: 22,
            originator: "127.0.0.1".into(),
            originator_port: 1024,
        }
    }

    #[tokio::test]
    async fn a_target_cannot_begin_an_inspected_connection() {
        let policy = policy::load(POLICY, Format::Toml, "test", Generation(1)).unwrap().snapshot;
        let client = ClientAddr::new("192.0.2.1:40000".parse().unwrap());
        let flow = FlowTuple { client, original_dst: dst("10.0.0.2:22") };
        let identity = Arc::clone(policy.identify(client.ip(), None).unwrap());
        let login = Login::new("alice").unwrap();
        let request = policy.access_request(flow, &identity, &login);
        let forwards = authorize(&policy.infrastructure, &request).unwrap().forwards().clone();
        let store = PolicyStore::new(policy);
        let (inner, mut begun) = inner(0, 10);
        let judge = ForwardJudge::new(store.follow(), forwards, inner);
        let (decision, told) = judge.open(ChannelNumber(0), Source::Target, &to_db1()).await;
        assert!(matches!(decision, Decision::Refuse { .. }) && told.is_none(), "{decision:?}");
        assert!(begun.try_recv().is_err());
        let (decision, told) = judge.open(ChannelNumber(1), Source::Client, &to_db1()).await;
        assert!(matches!(decision, Decision::Inspect(_)), "{decision:?}");
        let session = begun.try_recv().unwrap().id.to_string();
        let (channel, target) = (ChannelNumber(1), "10.0.0.2:22".to_owned());
        assert_eq!(told, Some(RecordEvent::ForwardInspected { channel, session, target }));
    }
}
