//! What a relay asks and tells its owner.

use std::future::Future;

use portreeve_core::record::{ChannelNumber, RecordEvent, Source};
use thiserror::Error;

use super::byte_stream::ChannelEnd;

/// Whether something that was asked for may go on to the other side.
#[derive(Debug)]
pub enum Decision {
    /// Forward it.
    Forward,
    /// Forward a channel that is asked for, as long as it carries no SSH connection.
    ForwardUnlessSsh,
    /// Open a channel that the user's side asks for without the other side: it carries the stream of which this is an
    /// end, and ends with it.
    Inspect(ChannelEnd),
    /// Refuse it towards the side that asked; the session goes on.
    Refuse {
        /// Why, where the refusal of a channel has room for a text.
        text: String,
    },
}

/// What the side that asked is told about what no policy grants.
pub(super) const NOT_GRANTED: &str = "not granted by the policy of this gateway";

impl Decision {
    /// Refuse it, since no policy grants it.
    pub(crate) fn not_granted() -> Self {
        Self::Refuse { text: NOT_GRANTED.to_owned() }
    }

    /// What the side that asked is told.
    pub(super) const fn text(&self) -> Option<&str> {
        match self {
            Self::Refuse { text } => Some(text.as_str()),
            Self::Forward | Self::ForwardUnlessSsh | Self::Inspect(_) => None,
        }
    }
}

/// The session cannot be observed any more; the relay must end it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ObserverFailed(pub String);

/// Sees everything that crosses a relay, before it is forwarded.
///
/// While a future of `event` or `data` is pending the relay carries nothing more in that direction, so a
/// bounded queue behind them is what keeps a slow observer from slowing the session.
pub trait SessionObserver: Send + Sync + 'static {
    /// An event; `ChannelOpen`, requests and forwards are asked for, the others told.
    fn event(&self, event: RecordEvent) -> impl Future<Output = Result<Decision, ObserverFailed>> + Send;

    /// Data of a session channel; `code` is 0 for data, else the extended-data type (1 = stderr).
    /// Data of other channel kinds is only counted.
    ///
    /// Must be safe to cancel: a future that is dropped before it is ready has kept nothing, since
    /// the relay asks a second time, with a copy, for what is not taken at once.
    fn data(
        &self,
        channel: ChannelNumber,
        source: Source,
        code: u32,
        data: &[u8],
    ) -> impl Future<Output = Result<(), ObserverFailed>> + Send;

    /// Ready while the observer keeps up with a session channel. Until then neither side is given more
    /// window on it, so that a slow observer slows this channel and no other.
    fn keeps_up(&self, channel: ChannelNumber) -> impl Future<Output = ()> + Send;

    /// Ready when the session cannot be observed any more, whether or not anything is shown just then; never,
    /// if it goes on all the same.
    fn failed(&self) -> impl Future<Output = ObserverFailed> + Send;
}
