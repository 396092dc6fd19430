//! Both sides joined.
//!
//! [`run`] owns the session from log-in to end: it spawns one task for each channel and each forward
//! request, ends them all when a side leaves, the owner revokes, or the observer fails, and tells the
//! user why. Invariants: nothing is forwarded before the observer has seen it; every channel open that
//! the observer has seen is followed by exactly one `ChannelClosed`; every queue is bounded. The
//! observer sees neither `SessionStarted` nor `SessionEnded` from here: those are the owner's.
//!
//! # Limits that follow from russh
//!
//! russh refills a channel's receive window when data arrives, not when it is consumed, and waits for a
//! full queue inside the one loop that also writes. From that follow, until the transport is our own:
//! - bulk data in both directions of one channel can stall for good once both queues (16 MiB) are full;
//! - a channel whose reader stalls freezes the others of its connection once its queue is full;
//! - while the target answers a request or a forward, the client is not read;
//! - russh answers CLOSE by itself: a client that closes before the exit status has come never gets it.
//!   A target's EOF is therefore held back (see `relay/channel.rs`);
//! - not relayed: unknown channel and global requests (among them `break`, `eow@openssh.com` and
//!   `no-more-sessions@openssh.com`), unknown channel types and terminal modes, texts of open failures,
//!   and requests whose texts are not UTF-8, which end the connection.

mod channel;
mod opening;
mod request;
mod state;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use portreeve_core::infrastructure::SshPermissions;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use self::state::State;
use super::asked::DownstreamEvent;
use super::downstream::DownstreamSession;
use super::observe::{ObserverFailed, SessionObserver};
use super::upstream::{UpstreamEvent, UpstreamSession};

/// How long channels may take to pass on what had arrived when a side left.
const DRAINING: Duration = Duration::from_secs(2);

/// How long channel tasks may take to stop when the session must end at once.
const STOPPING: Duration = Duration::from_millis(500);

/// How long the target may take to hear that the gateway leaves.
const LEAVING: Duration = Duration::from_millis(500);

/// How a relay ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayOutcome {
    /// Who or what ended it.
    pub ended_by: EndedBy,
    /// Bytes of channel data that the user's side sent.
    pub client_bytes: u64,
    /// Bytes of channel data that the target's side sent.
    pub target_bytes: u64,
}

/// Who or what ended a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The user's side left.
    ClientDisconnected,
    /// The target left or was lost.
    TargetDisconnected {
        /// What it said, if anything; the user was told the same.
        text: Option<String>,
    },
    /// The owner ended it.
    Revoked {
        /// What the user was told.
        reason: String,
    },
    /// The session could not be observed any more.
    ObserverFailed(ObserverFailed),
}

/// Relays between an admitted user and a target until one of them ends, or `end` yields the text that
/// the user is to read.
pub async fn run<O: SessionObserver>(
    mut down: DownstreamSession,
    mut up: UpstreamSession,
    permissions: SshPermissions,
    observer: Arc<O>,
    end: impl Future<Output = String>,
) -> RelayOutcome {
    let (stop, stopped) = watch::channel(false);
    let state = Arc::new(State::new(&down, &up, permissions, observer, stopped));
    let mut tasks = JoinSet::new();
    let ended_by = relay_until_end(&mut down, &mut up, &state, &mut tasks, end).await;
    conclude(&ended_by, down, &up, stop, tasks).await;
    let (client_bytes, target_bytes) = state.totals();
    RelayOutcome { ended_by, client_bytes, target_bytes }
}

type Tasks = JoinSet<Result<(), ObserverFailed>>;

async fn relay_until_end<O: SessionObserver>(
    down: &mut DownstreamSession,
    up: &mut UpstreamSession,
    state: &Arc<State<O>>,
    tasks: &mut Tasks,
    end: impl Future<Output = String>,
) -> EndedBy {
    let mut end = pin!(end);
    loop {
        tokio::select! {
            biased;
            reason = &mut end => return EndedBy::Revoked { reason },
            Some(result) = tasks.join_next() => {
                if let Err(failed) = flatten(result) {
                    return EndedBy::ObserverFailed(failed);
                }
            }
            event = up.next_event() => match event {
                UpstreamEvent::Ended(text) => return EndedBy::TargetDisconnected { text },
                UpstreamEvent::Open(open) => {
                    let state = Arc::clone(state);
                    tasks.spawn(async move { state.open_for_target(open).await });
                }
            },
            event = down.next_event() => match event {
                None => return EndedBy::ClientDisconnected,
                Some(DownstreamEvent::Open(open)) => {
                    let state = Arc::clone(state);
                    tasks.spawn(async move { state.open_for_client(open).await });
                }
                Some(DownstreamEvent::Forward(asked)) => {
                    let state = Arc::clone(state);
                    tasks.spawn(async move { state.forward(asked).await });
                }
            },
        }
    }
}

fn flatten(result: Result<Result<(), ObserverFailed>, JoinError>) -> Result<(), ObserverFailed> {
    result.unwrap_or_else(|panic| Err(ObserverFailed(format!("a channel task died: {panic}"))))
}

/// Ends both sides: what had arrived is passed on where the session ended by itself, nothing more is
/// where it must end at once.
async fn conclude(
    ended_by: &EndedBy,
    mut down: DownstreamSession,
    up: &UpstreamSession,
    stop: watch::Sender<bool>,
    mut tasks: Tasks,
) {
    let farewell = match ended_by {
        EndedBy::ClientDisconnected => {
            drain(&mut tasks, DRAINING).await;
            None
        }
        EndedBy::TargetDisconnected { text } => {
            drain(&mut tasks, DRAINING).await;
            Some(text.as_deref().unwrap_or("the target closed the connection"))
        }
        EndedBy::Revoked { reason } => Some(reason.as_str()),
        EndedBy::ObserverFailed(_) => Some("the session ended because it could not be recorded any more"),
    };
    stop.send_replace(true);
    drain(&mut tasks, STOPPING).await;
    let leave = timeout(LEAVING, up.disconnect());
    match farewell {
        Some(text) => {
            let (_told_user, _told_target) = tokio::join!(down.disconnect(text), leave);
        }
        None => {
            leave.await.ok();
        }
    }
}

/// Waits for the tasks; a failure of the observer changes nothing any more.
async fn drain(tasks: &mut Tasks, limit: Duration) {
    timeout(limit, async { while tasks.join_next().await.is_some() {} }).await.ok();
}
