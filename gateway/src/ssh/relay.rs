//! Both sides joined.
//!
//! [`run`] owns the session from log-in to end, in one task: it carries messages until a side leaves,
//! the owner revokes, or the observer fails, and then tells each side what the other said. Invariants:
//! nothing is forwarded before the observer has seen it; every channel open that the observer has seen
//! is followed by exactly one `ChannelClosed`; memory is bounded. The observer sees neither
//! `SessionStarted` nor `SessionEnded` from here: those are the owner's.
//!
//! Messages cross as they are ([`portreeve_ssh::relay`]), so flow control, the order of replies and of
//! CLOSE, and every text are the peers' own. Two are ours: the request for proof of the target's host
//! keys, and the reply to a keep-alive that cannot reach a side in time. [`pump`] carries one direction,
//! [`joined`] both, [`judge`] says what may cross and what is told about it; [`inner`] carries channels that end here.

mod events;
mod gates;
mod guards;
mod inner;
mod joined;
mod judge;
mod modes;
mod pump;
mod watching;
mod windows;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use portreeve_core::infrastructure::SshPermissions;
use portreeve_ssh::message::reason;
use portreeve_ssh::relay::Side;
use portreeve_ssh::text::TerminalText;
use portreeve_ssh::userauth::server;
use tokio::time::{sleep, timeout};

use self::joined::{Joined, Stop};
use super::downstream::DownstreamSession;
use super::fault::ProtocolFault;
use super::link::farewell::Farewell;
use super::link::{Link, PeerEnd};
use super::observe::{ObserverFailed, SessionObserver};
use super::upstream::UpstreamSession;
use crate::telemetry::with_causes;

/// How long a side may take for what the other one sent before it left.
const DELIVERING: Duration = Duration::from_secs(300);

/// How long both sides may take to hear of an end that is not theirs; live sessions end within 2 s of
/// the decision.
const ENDING: Duration = Duration::from_millis(1500);

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
    /// A side broke the protocol.
    ProtocolBroken {
        /// Whether that was the target.
        by_target: bool,
        /// What was wrong, in one line.
        fault: String,
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
    up: UpstreamSession,
    permissions: SshPermissions,
    observer: Arc<O>,
    end: impl Future<Output = String>,
) -> RelayOutcome {
    let let_in = let_in(&mut down, &up.banners);
    let mut joined = Joined::new(down.link, up, permissions, Arc::clone(&observer));
    let mut end = pin!(end);
    let stop = match let_in {
        Err(fault) => Stop::Peer(Side::Downstream, PeerEnd::Fault(fault)),
        Ok(()) => tokio::select! {
            biased;
            text = &mut end => Stop::Revoked(text),
            stop = poll_fn(|cx| joined.poll(cx)) => stop,
            failed = observer.failed() => Stop::Observer(failed),
        },
    };
    let ours = matches!(stop, Stop::Revoked(_) | Stop::Observer(_));
    let cut = async {
        if !ours {
            // What a side has left behind is delivered while policy lets the session live.
            timeout(DELIVERING, end).await.ok();
        }
        sleep(ENDING).await;
    };
    conclude(joined, stop, cut).await
}

/// Passes on the target's banners, then tells the client that its user is in.
fn let_in(down: &mut DownstreamSession, banners: &[Vec<u8>]) -> Result<(), ProtocolFault> {
    for text in banners {
        down.link.transport.send(&[&server::banner(text)?])?;
    }
    Ok(down.link.transport.send(&[server::SUCCESS])?)
}

/// Ends both sides, which `cut` bounds, and tells the observer which channels that closes. That may take as long
/// as the observer does: who closes it afterwards waits for the same.
async fn conclude<O: SessionObserver>(
    joined: Joined<O>,
    stop: Stop,
    cut: impl Future<Output = ()>,
) -> RelayOutcome {
    let (ended_by, to_down, to_up) = verdict(stop);
    let (client_bytes, target_bytes) = joined.totals();
    let (down, up, untold) = joined.into_parts();
    let parting = async {
        tokio::select! {
            ((), ()) = async { tokio::join!(part(down, to_down), part(up, to_up)) } => {}
            // Dropping what is not over by then cuts it.
            () = cut => {}
        }
    };
    tokio::join!(untold.tell(), parting);
    RelayOutcome { ended_by, client_bytes, target_bytes }
}

async fn part(link: Link, farewell: Option<Farewell>) {
    if let Some(farewell) = farewell {
        link.part(farewell).await;
    }
}

/// Who ended the session, and what the user's and the target's side are told; nothing for who has left.
fn verdict(stop: Stop) -> (EndedBy, Option<Farewell>, Option<Farewell>) {
    const UNRECORDED: &str = "portreeve: the session ended because it cannot be recorded any more; tell the operator of this gateway";
    match stop {
        Stop::Revoked(reason) => {
            let told = Farewell::because(reason.as_str());
            (EndedBy::Revoked { reason }, Some(told), Some(Farewell::because("")))
        }
        Stop::Observer(failed) => {
            let told = Farewell::because(UNRECORDED);
            (EndedBy::ObserverFailed(failed), Some(told), Some(Farewell::because("")))
        }
        Stop::Peer(side, PeerEnd::Fault(fault)) => {
            let by_target = side == Side::Upstream;
            let text = TerminalText::new(&with_causes(&fault)).to_string();
            let to_culprit = Farewell::Disconnect { reason: reason::PROTOCOL_ERROR, text: text.clone() };
            let who = if by_target { "target" } else { "client" };
            let to_other = Farewell::because(format!("the {who} broke the SSH protocol: {text}"));
            let (to_down, to_up) = if by_target { (to_other, to_culprit) } else { (to_culprit, to_other) };
            (EndedBy::ProtocolBroken { by_target, fault: text }, Some(to_down), Some(to_up))
        }
        Stop::Peer(side, PeerEnd::Disconnected { reason, text }) => {
            let text = TerminalText::from_peer(&text).to_string();
            let shown = Some(text.clone()).filter(|text| !text.is_empty());
            left(side, shown, Farewell::Disconnect { reason, text })
        }
        Stop::Peer(side, PeerEnd::Closed) => left(side, None, Farewell::Close),
        Stop::Peer(side, PeerEnd::Reset) => left(side, None, Farewell::Reset),
    }
}

fn left(
    side: Side,
    text: Option<String>,
    to_other: Farewell,
) -> (EndedBy, Option<Farewell>, Option<Farewell>) {
    match side {
        Side::Downstream => (EndedBy::ClientDisconnected, None, Some(to_other)),
        Side::Upstream => (EndedBy::TargetDisconnected { text }, Some(to_other), None),
    }
}

#[cfg(test)]
mod tests;
