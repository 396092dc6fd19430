//! The events file of a session.
//!
//! Owns how an event becomes a line. Deliberately absent: which events there are, and when.

use std::sync::Arc;
use std::time::Duration;

use portreeve_core::record::{EventLine, RecordEvent};

use super::Start;
use super::activity::Activity;
use super::error::RecordingError;
use super::inspector::Found;
use super::lookout::Watched;
use super::stream::LogStream;

/// Takes the events of a session, from the relay and from what looks at its channels; cheap to clone.
#[derive(Clone)]
pub(super) struct EventsFile {
    stream: Arc<LogStream>,
    start: Start,
    command_logging: bool,
    activity: Arc<Activity>,
    watched: Watched,
}

impl EventsFile {
    pub(super) fn new(
        stream: LogStream,
        start: Start,
        command_logging: bool,
        (activity, watched): (Arc<Activity>, Watched),
    ) -> Self {
        Self { stream: Arc::new(stream), start, command_logging, activity, watched }
    }

    /// Adds an event, waiting while the file is behind.
    pub(super) async fn add(&self, event: &RecordEvent) -> Result<(), RecordingError> {
        self.stream.line(|elapsed| event_line(event, self.start, self.command_logging, elapsed)).await?;
        self.activity.event(event);
        Ok(())
    }

    /// Adds what was found in a channel, and what there is to say about that.
    pub(super) async fn add_found(&self, found: &Found) -> Result<(), RecordingError> {
        found.moved.iter().for_each(|file| self.watched.file(file));
        for event in &found.events {
            self.watched.event(event);
            self.add(event).await?;
        }
        self.add_raised().await
    }

    /// Adds what there is to say about what was seen.
    pub(super) async fn add_raised(&self) -> Result<(), RecordingError> {
        while let Some(alert) = self.watched.next() {
            self.add(&alert).await?;
        }
        Ok(())
    }

    /// Closes the file and waits until all of it is written.
    pub(super) async fn close(&self) -> Result<(), RecordingError> {
        self.stream.close().await
    }
}

/// The line of an event, `elapsed` after the start. Without `command_logging` what users wrote is withheld.
pub(super) fn event_line(
    event: &RecordEvent,
    start: Start,
    command_logging: bool,
    elapsed: Duration,
) -> Result<Vec<u8>, RecordingError> {
    let line = EventLine::new(event.clone(), start.wall, elapsed);
    let line = if command_logging { line } else { line.withhold() };
    line.to_json().map_err(|error| RecordingError::Event(Arc::new(error)))
}
