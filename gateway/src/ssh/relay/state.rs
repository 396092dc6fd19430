//! What all tasks of one relay share: both sides, the permissions, the observer, the counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use portreeve_core::infrastructure::SshPermissions;
use portreeve_core::record::{ChannelNumber, RecordEvent, Source};
use russh::{client, server};
use tokio::sync::watch;

use super::super::downstream::DownstreamSession;
use super::super::observe::{Decision, ObserverFailed, SessionObserver};
use super::super::upstream::{Callbacks, UpstreamSession};

/// The shared state of one relay.
pub(super) struct State<O> {
    pub(super) down: server::Handle,
    pub(super) up: Arc<client::Handle<Callbacks>>,
    pub(super) permissions: SshPermissions,
    pub(super) observer: Arc<O>,
    stopped: watch::Receiver<bool>,
    channels_seen: AtomicU32,
    client_bytes: AtomicU64,
    target_bytes: AtomicU64,
}

impl<O: SessionObserver> State<O> {
    pub(super) fn new(
        down: &DownstreamSession,
        up: &UpstreamSession,
        permissions: SshPermissions,
        observer: Arc<O>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self {
            down: down.handle.clone(),
            up: Arc::clone(&up.handle),
            permissions,
            observer,
            stopped,
            channels_seen: AtomicU32::new(0),
            client_bytes: AtomicU64::new(0),
            target_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn next_channel(&self) -> ChannelNumber {
        ChannelNumber(self.channels_seen.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks the observer whether something may go on.
    pub(super) async fn allows(&self, event: RecordEvent) -> Result<bool, ObserverFailed> {
        Ok(self.observer.event(event).await? == Decision::Forward)
    }

    /// Tells the observer what cannot be refused.
    pub(super) async fn tell(&self, event: RecordEvent) -> Result<(), ObserverFailed> {
        self.observer.event(event).await.map(|_decision| ())
    }

    /// Tells the observer that the grant does not hold something.
    pub(super) async fn tell_refused(
        &self,
        channel: Option<ChannelNumber>,
        what: impl Into<String>,
    ) -> Result<(), ObserverFailed> {
        self.tell(RecordEvent::Refused { channel, what: what.into() }).await
    }

    pub(super) fn count(&self, source: Source, bytes: u64) {
        let total = match source {
            Source::Client => &self.client_bytes,
            Source::Target => &self.target_bytes,
        };
        total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes from the user's side and from the target's.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.client_bytes.load(Ordering::Relaxed), self.target_bytes.load(Ordering::Relaxed))
    }

    /// Resolves when all channels must stop.
    pub(super) async fn stopped(&self) {
        // An error means that the relay is gone, which stops channels as well.
        self.stopped.clone().wait_for(|stopped| *stopped).await.ok();
    }
}
