//! The blocking half of a stream: looking at what arrived, sealing and writing it.
//!
//! Deliberately absent: waiting, and when to write ([`super::stream`]).

use portreeve_core::envelope::{Batch, ExitHeader, PtyHeader};
use portreeve_core::record::RecordEvent;

use super::error::RecordingError;
use super::events::EventsFile;
use super::inspector::{Found, Inspected, Inspector};
use super::sealed_log::{Appended, Finished, SealedLog};

/// What looks at a channel's packets before they are sealed, and where that is told.
pub(super) struct Inspection {
    pub(super) inspector: Inspector,
    pub(super) found: EventsFile,
}

/// What the writer does next.
pub(super) struct Work {
    pub(super) batch: Batch,
    pub(super) pty: Option<PtyHeader>,
    pub(super) requests: Vec<RecordEvent>,
    /// The end of the program, if that is known, when the file is to be closed.
    pub(super) finish: Option<Option<ExitHeader>>,
    /// Whether more is likely to come at once.
    pub(super) busy: bool,
}

/// What works on the blocking pool.
pub(super) struct Writer {
    pub(super) log: SealedLog,
    pub(super) inspector: Option<Inspector>,
}

pub(super) struct Done {
    /// A buffer for reuse.
    pub(super) spare: Vec<u8>,
    pub(super) found: Found,
    /// Why the session must end.
    pub(super) ending: Option<RecordingError>,
    /// Whether the log has its end, if it was to be closed.
    pub(super) closed: Result<(), RecordingError>,
}

impl Writer {
    /// `now`: microseconds since the session started.
    pub(super) fn write(&mut self, work: Work, now: u64) -> Result<Done, RecordingError> {
        if let Some(pty) = work.pty {
            self.log.set_pty(pty, now)?;
        }
        let Inspected { batch, mut found } = match &mut self.inspector {
            None => Inspected { batch: work.batch, found: Found::default() },
            Some(inspector) => {
                work.requests.iter().for_each(|request| inspector.request(request));
                inspector.packets(work.batch, now)
            }
        };
        let Appended { spare, gap, mut ending } = self.log.append(batch, now)?;
        found.events.extend(gap);
        let mut closed = Ok(());
        if let Some(exit) = work.finish {
            if let Some(inspector) = &mut self.inspector {
                let held = inspector.finish(now);
                found.events.extend(held.found.events);
                found.moved.extend(held.found.moved);
                let held = self.log.append(held.batch, now)?;
                found.events.extend(held.gap);
                ending = ending.or(held.ending);
            }
            let Finished { gap, written } = self.log.finish(exit.as_ref(), now);
            found.events.extend(gap);
            closed = written;
        }
        Ok(Done { spare, found, ending, closed })
    }
}
