//! The channels of a session that is recorded: which are open, and whose files are still being closed.
//!
//! Owns their streams. Deliberately absent: what is written to a stream, and when a channel opens or closes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portreeve_core::record::ChannelNumber;

use super::error::RecordingError;
use super::stream::LogStream;

/// Files of one session that may still be closing when a channel is opened. Each holds a descriptor and at most
/// [`super::stream::MAX_PENDING`] bytes.
const MOST_CLOSING: usize = 16;

/// The streams of a session's channels.
#[derive(Default)]
pub(super) struct Channels {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Channels that are open; `None` where the stream is not recorded.
    open: HashMap<ChannelNumber, Option<Arc<LogStream>>>,
    /// Files that are being closed.
    closing: Vec<Arc<LogStream>>,
}

impl Channels {
    /// Whether a channel of this number may be opened.
    pub(super) fn check_new(&self, channel: ChannelNumber) -> Result<(), RecordingError> {
        let reused = self.lock().open.contains_key(&channel);
        if reused { Err(RecordingError::ChannelReused(channel)) } else { Ok(()) }
    }

    /// Adds an open channel.
    pub(super) fn insert(&self, channel: ChannelNumber, stream: Option<Arc<LogStream>>) {
        self.lock().open.insert(channel, stream);
    }

    /// The stream of an open channel, if it is recorded.
    pub(super) fn stream(&self, channel: ChannelNumber) -> Result<Option<Arc<LogStream>>, RecordingError> {
        self.lock().open.get(&channel).cloned().ok_or(RecordingError::UnknownChannel(channel))
    }

    /// Starts closing the file of an open channel.
    pub(super) fn close(&self, channel: ChannelNumber) -> Result<(), RecordingError> {
        let mut state = self.lock();
        let stream = state.open.remove(&channel).ok_or(RecordingError::UnknownChannel(channel))?;
        if let Some(stream) = stream {
            stream.begin_close();
            state.closing.push(stream);
        }
        Ok(())
    }

    /// Waits until few enough files are still being closed for one more channel.
    ///
    /// # Errors
    /// That of a file that could not be closed.
    pub(super) async fn room(&self) -> Result<(), RecordingError> {
        loop {
            let oldest = self.oldest_beyond_limit();
            let Some(oldest) = oldest else { return Ok(()) };
            oldest.close().await?;
        }
    }

    fn oldest_beyond_limit(&self) -> Option<Arc<LogStream>> {
        let mut state = self.lock();
        state.closing.retain(|stream| !stream.is_over());
        let full = state.closing.len() >= MOST_CLOSING;
        state.closing.first().filter(|_| full).cloned()
    }

    /// All streams, for them to be closed. They stay here, so that they are closed even if whoever asked is cut.
    pub(super) fn streams(&self) -> Vec<Arc<LogStream>> {
        let state = self.lock();
        state.closing.iter().chain(state.open.values().flatten()).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
