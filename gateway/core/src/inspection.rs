//! What looks at the packets of a channel before they are sealed.
//!
//! Owns the contract between a recorder and the state machines that find commands and files in a channel's data.
//! Deliberately absent: those machines, and when they are asked.

use crate::envelope::Batch;
use crate::record::{ChannelNumber, RecordEvent, Text};

/// Finds in the packets of one channel what they meant. All times are microseconds since the session started, and
/// never go back.
///
/// Whatever a peer sends costs an inspector bounded memory and never fails: what cannot be understood ends the
/// looking, not the recording.
pub trait ChannelInspector: Send {
    /// Tells a request that was made on the channel, in order with the packets: `Pty`, `WindowChange`, `Shell`,
    /// `Exec`, `Subsystem`, `Signal`.
    fn request(&mut self, event: &RecordEvent);

    /// Looks at `batch`, adds what it meant to `found`, and gives back what is to be recorded now. That may leave
    /// packets out, or hold them for a later call. `batch` is empty when only time has passed.
    fn packets(&mut self, batch: Batch, now: u64, found: &mut Vec<RecordEvent>) -> Batch;

    /// When it wants to be asked again though nothing arrives.
    fn deadline(&self) -> Option<u64> {
        None
    }

    /// The files that went on, or were asked for, since this was called before. Whoever has told of a file that it is
    /// over tells it here first.
    fn moved(&mut self) -> Vec<FileProgress> {
        Vec::new()
    }

    /// The channel is over: gives back what was held and is to be recorded, and tells the last findings.
    fn finish(&mut self, now: u64, found: &mut Vec<RecordEvent>) -> Batch;
}

/// How far a file is that crosses a channel, or was asked for and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProgress {
    /// The channel.
    pub channel: ChannelNumber,
    /// As in [`FileTransfer`](crate::record::FileTransfer).
    pub path: Text,
    /// As there.
    pub name: Option<Text>,
    /// Bytes that had crossed when this was told before; absent the first time.
    pub told: Option<u64>,
    /// Bytes that have crossed, both ways.
    pub bytes: u64,
}
