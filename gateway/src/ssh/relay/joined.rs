//! Both directions of a session, as one state machine that a task polls.
//!
//! Invariants: a round reads each socket at most once and then looks at the other direction,
//! so neither starves; whatever can make progress again has registered the task to be woken. Keys are
//! exchanged by our own wish on one side at a time: after our proposal the peer's data still arrives, and
//! with proposals out on both sides the data of either would wait for the other for ever.

use std::sync::Arc;
use std::task::{Context, Poll};

use portreeve_core::infrastructure::SshPermissions;
use portreeve_ssh::relay::{Channel, Relay, Side};

use super::events;
use super::gates::Gates;
use super::guards::Guards;
use super::inner::InnerChannels;
use super::pump::{Halt, Lane, Pump};
use crate::ssh::host_keys::HostKeyLearner;
use crate::ssh::link::{Link, PeerEnd};
use crate::ssh::observe::{ObserverFailed, SessionObserver};
use crate::ssh::upstream::UpstreamSession;

/// Rounds before other tasks of the thread get their turn.
const ROUNDS: u32 = 8;

/// Why a session ends.
#[derive(Debug)]
pub(super) enum Stop {
    /// A side has ended; all that it sent before is on its way.
    Peer(Side, PeerEnd),
    /// The observer failed.
    Observer(ObserverFailed),
    /// The owner ends it with this text.
    Revoked(String),
}

/// A session: two connections and what is known of their channels.
pub(super) struct Joined<O> {
    pub(super) down: Link,
    pub(super) up: Link,
    observer: Arc<O>,
    from_down: Pump,
    from_up: Pump,
    channels: Relay,
    permissions: SshPermissions,
    learner: HostKeyLearner,
    guards: Guards,
    gates: Gates,
    inner: InnerChannels,
    /// Bytes of channels that are closed, from the user's side and from the target's.
    closed_bytes: (u64, u64),
}

impl<O: SessionObserver> Joined<O> {
    pub(super) fn new(
        down: Link,
        up: UpstreamSession,
        permissions: SshPermissions,
        observer: Arc<O>,
    ) -> Self {
        Self {
            down,
            up: up.link,
            observer,
            from_down: Pump::default(),
            from_up: Pump::default(),
            channels: Relay::default(),
            permissions,
            learner: up.learner,
            guards: Guards::default(),
            gates: Gates::default(),
            inner: InnerChannels::default(),
            closed_bytes: (0, 0),
        }
    }

    /// Carries what can be carried; ready when the session must end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        self.borrow_buffers();
        for _ in 0..ROUNDS {
            match self.round(cx) {
                Err(stop) => return Poll::Ready(stop),
                Ok(true) => {}
                Ok(false) => {
                    self.return_buffers();
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whoever waits for a message keeps the buffer in which it is, be it that of the handshake.
    fn borrow_buffers(&mut self) {
        if !self.from_down.holds_message() {
            self.down.borrow_input();
        }
        if !self.from_up.holds_message() {
            self.up.borrow_input();
        }
        self.down.borrow_output();
        self.up.borrow_output();
    }

    /// An idle session holds no buffers; one that waits keeps those in which a message waits.
    fn return_buffers(&mut self) {
        if !self.from_down.holds_message() {
            self.down.return_input();
        }
        if !self.from_up.holds_message() {
            self.up.return_input();
        }
        self.down.return_output();
        self.up.return_output();
    }

    /// One turn of each direction; whether anything moved.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, Stop> {
        let mut moved = self.turn(Side::Downstream, cx)?;
        moved |= self.turn(Side::Upstream, cx)?;
        let inner = self.inner.turn(&mut self.down, &mut self.channels, cx);
        moved |= inner.map_err(|fault| Stop::Peer(Side::Downstream, PeerEnd::Fault(fault)))?;
        self.exchange_keys()?;
        moved |= self.up.poll_flush(cx);
        moved |= self.down.poll_flush(cx);
        Ok(moved)
    }

    fn turn(&mut self, side: Side, cx: &mut Context<'_>) -> Result<bool, Stop> {
        let (pump, from, to) = match side {
            Side::Downstream => (&mut self.from_down, &mut self.down, &mut self.up),
            Side::Upstream => (&mut self.from_up, &mut self.up, &mut self.down),
        };
        let lane = Lane {
            side,
            from,
            to,
            channels: &mut self.channels,
            permissions: self.permissions,
            learner: &mut self.learner,
            guards: &mut self.guards,
            gates: &mut self.gates,
            inner: &mut self.inner,
            observer: &self.observer,
            closed_bytes: &mut self.closed_bytes,
        };
        pump.turn(lane, cx).map_err(|halt| match halt {
            Halt::Sender(end) => Stop::Peer(side, end),
            Halt::Receiver(fault) => Stop::Peer(side.other(), PeerEnd::Fault(fault)),
            Halt::Observer(failed) => Stop::Observer(failed),
        })
    }

    fn exchange_keys(&mut self) -> Result<(), Stop> {
        propose_if_due(&mut self.down, &self.up).map_err(|end| Stop::Peer(Side::Downstream, end))?;
        propose_if_due(&mut self.up, &self.down).map_err(|end| Stop::Peer(Side::Upstream, end))
    }

    /// Bytes of channel data from the user's side and from the target's.
    pub(super) fn totals(&self) -> (u64, u64) {
        let add = |(down, up): (u64, u64), channel: &Channel| {
            (down + channel.downstream_bytes, up + channel.upstream_bytes)
        };
        self.channels.open_channels().into_iter().fold(self.closed_bytes, add)
    }

    /// The user's side, the target's, and what remains to be told. The streams of channels that end here end.
    pub(super) fn into_parts(self) -> (Link, Link, Untold<O>) {
        let untold = Untold {
            observer: self.observer,
            pumps: [self.from_down, self.from_up],
            channels: self.channels,
        };
        (self.down, self.up, untold)
    }
}

/// What the observer has still to be told when a session ends.
pub(super) struct Untold<O> {
    observer: Arc<O>,
    pumps: [Pump; 2],
    channels: Relay,
}

impl<O: SessionObserver> Untold<O> {
    /// Lets the observer finish what it was asked, then tells it which channels the end closes. An answer
    /// changes nothing any more.
    pub(super) async fn tell(self) {
        for pump in self.pumps {
            pump.observed().await;
        }
        for event in self.channels.open_channels().into_iter().map(events::closed) {
            self.observer.event(event).await.ok();
        }
    }
}

fn propose_if_due(own: &mut Link, other: &Link) -> Result<(), PeerEnd> {
    if own.transport.wants_rekey() && other.transport.can_send() {
        own.transport.propose()?;
    }
    Ok(())
}
