//! Asking the observer, and waiting for what it says.
//!
//! Owns the futures of its answers, and the copy of data that it does not take at once. What becomes of the
//! message is [`super::pump`]'s.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use portreeve_core::record::{ChannelNumber, RecordEvent};
use portreeve_ssh::relay::{ChannelId, Side};

use super::events::{self, source};
use crate::ssh::observe::{Decision, ObserverFailed, SessionObserver};

/// What the observer will say.
pub(super) type Watching = Pin<Box<dyn Future<Output = Result<Decision, ObserverFailed>> + Send>>;

/// Shows data of a session channel to the observer; what it does not take at once is copied, as it must
/// not hold on to the buffer.
pub(super) fn watch_data<O: SessionObserver>(
    observer: &Arc<O>,
    (channel, side, code): (ChannelId, Side, u32),
    data: &[u8],
    cx: &mut Context<'_>,
) -> Result<Option<Watching>, ObserverFailed> {
    let (channel, source) = (ChannelNumber(channel.0), source(side));
    let at_once = pin!(observer.data(channel, source, code, data)).poll(cx);
    if let Poll::Ready(taken) = at_once {
        return taken.map(|()| None);
    }
    let (observer, data) = (Arc::clone(observer), data.to_vec());
    Ok(Some(Box::pin(async move {
        observer.data(channel, source, code, &data).await.map(|()| Decision::Forward)
    })))
}

/// Shows an event to the observer. A channel that it does not want is closed for it at once.
pub(super) fn watch<O: SessionObserver>(observer: Arc<O>, event: RecordEvent) -> Watching {
    let closed = events::closed_if_refused(&event);
    Box::pin(async move {
        let decision = observer.event(event).await?;
        if let (Decision::Refuse { .. }, Some(closed)) = (&decision, closed) {
            observer.event(closed).await?;
        }
        Ok(decision)
    })
}
