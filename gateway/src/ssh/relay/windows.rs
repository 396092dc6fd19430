//! Window that one side grants and that the other is not told of yet (RFC 4254 section 5.2).
//!
//! The observer of a recorded channel may fall behind. What comes on the channel is then bounded by the
//! window that the sender has left; more of it is held back here, summed up, until the observer keeps up.
//!
//! Does not count what is left of a window, and never grants more than the side did.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Context;

use portreeve_core::record::ChannelNumber;
use portreeve_ssh::relay::ChannelId;

use crate::ssh::observe::SessionObserver;

/// Window of one direction that is held back.
#[derive(Default)]
pub(super) struct HeldWindows(Vec<Held>);

struct Held {
    channel: ChannelId,
    recipient: u32,
    bytes: u32,
    waiting: Waiting,
}

/// Waits for the observer.
type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

impl HeldWindows {
    /// Whether `bytes` more may be granted now; if not, they are held back.
    pub(super) fn grant<O: SessionObserver>(
        &mut self,
        observer: &Arc<O>,
        (channel, recipient, bytes): (ChannelId, u32, u32),
        cx: &mut Context<'_>,
    ) -> bool {
        if let Some(held) = self.0.iter_mut().find(|held| held.channel == channel) {
            held.bytes = held.bytes.saturating_add(bytes);
            return false;
        }
        let number = ChannelNumber(channel.0);
        if pin!(observer.keeps_up(number)).poll(cx).is_ready() {
            return true;
        }
        let observer = Arc::clone(observer);
        let mut waiting: Waiting = Box::pin(async move { observer.keeps_up(number).await });
        let ready = waiting.as_mut().poll(cx).is_ready();
        if !ready {
            self.0.push(Held { channel, recipient, bytes, waiting });
        }
        ready
    }

    /// The next channel that may be sent more now, by its number on the wire. Of a channel that who granted it no longer
    /// `speaks` on none is: nothing may follow a CLOSE (RFC 4254 section 5.3).
    pub(super) fn release(
        &mut self,
        speaks: impl Fn(ChannelId) -> bool,
        cx: &mut Context<'_>,
    ) -> Option<(u32, u32)> {
        self.0.retain(|held| speaks(held.channel));
        let ready = self.0.iter_mut().position(|held| held.waiting.as_mut().poll(cx).is_ready())?;
        let held = self.0.swap_remove(ready);
        Some((held.recipient, held.bytes))
    }
}
