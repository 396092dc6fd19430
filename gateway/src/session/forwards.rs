//! The forwards of a live session: which are opened, and which may carry SSH.
//!
//! Decided by the policy in force when a forward is asked for, and by what the session's grant allows.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portreeve_core::infrastructure::forwarding::{Forward, ForwardKind, Forwards};
use portreeve_core::infrastructure::{ForwardVerdict, forward_verdict, ssh_verdict};
use portreeve_core::net::OriginalDst;
use portreeve_core::record::{ChannelKind, ChannelNumber};
use portreeve_core::snapshot::PolicySnapshot;
use portreeve_core::target::Target;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

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
    /// The target that the session is on.
    outer: OriginalDst,
    /// Where channels lead whose destination is a name.
    names: Mutex<HashMap<ChannelNumber, (Vec<u8>, u16)>>,
}

impl ForwardJudge {
    pub(super) fn new(
        policy: watch::Receiver<Arc<PolicySnapshot>>,
        forwards: Forwards,
        outer: OriginalDst,
    ) -> Self {
        Self { policy, forwards, outer, names: Mutex::default() }
    }

    /// Decides about a channel that is asked for.
    pub(super) fn open(&self, channel: ChannelNumber, kind: &ChannelKind) -> Decision {
        let Some(forward) = asked(kind) else { return self.other(kind) };
        let Some(port) = forward.tcp_port() else { return Decision::not_granted() };
        match forward_verdict(&self.policy().infrastructure, &self.forwards, self.outer, forward) {
            ForwardVerdict::Allowed => Decision::Forward,
            ForwardVerdict::AllowedUnlessSsh => {
                self.names().insert(channel, (forward.destination.to_vec(), port));
                Decision::ForwardUnlessSsh
            }
            ForwardVerdict::NotGranted => Decision::not_granted(),
            ForwardVerdict::ToTarget(target) => connect_directly(&target),
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
        match ssh_verdict(&self.policy().infrastructure, self.outer, &addresses, port) {
            ForwardVerdict::Allowed | ForwardVerdict::AllowedUnlessSsh => Decision::Forward,
            ForwardVerdict::ToTarget(target) => connect_directly(&target),
            ForwardVerdict::NotGranted => Decision::Refuse {
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

/// The forward that a channel is, if it leads from the user to the target's side.
fn asked(kind: &ChannelKind) -> Option<Forward<'_>> {
    match kind {
        ChannelKind::DirectTcpip { destination, destination_port, .. } => {
            Some(Forward { kind: ForwardKind::Local, destination: &destination.0, port: *destination_port })
        }
        ChannelKind::DirectStreamlocal { path } => {
            Some(Forward { kind: ForwardKind::LocalSocket, destination: &path.0, port: 0 })
        }
        ChannelKind::Session
        | ChannelKind::ForwardedTcpip { .. }
        | ChannelKind::ForwardedStreamlocal { .. }
        | ChannelKind::Agent
        | ChannelKind::X11 { .. }
        | ChannelKind::Other { .. } => None,
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
