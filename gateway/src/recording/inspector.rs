//! What is looked for in the packets of a channel.
//!
//! Owns the choice, by what the channel was asked for. What is found there is told as events, a moment after the
//! data; the looking itself is done by state machines of the core, where the file is written, so that it slows
//! neither the relay nor other channels.

use std::sync::Arc;

use portreeve_core::command::{InputRules, TerminalInspector};
use portreeve_core::envelope::Batch;
use portreeve_core::infrastructure::TransferRights;
use portreeve_core::inspection::{ChannelInspector, FileProgress};
use portreeve_core::record::RecordEvent;
use portreeve_core::transfer::TransferInspector;

/// Looks at the packets of one channel.
pub(super) struct Inspector {
    machine: Option<Box<dyn ChannelInspector>>,
    /// What the session may do with files.
    rights: TransferRights,
    /// What is kept of input to a terminal.
    input: Arc<InputRules>,
    /// The size of the terminal, if the channel has one.
    window: Option<(u32, u32)>,
}

/// What was seen in some packets.
#[derive(Default)]
pub(super) struct Inspected {
    /// What is to be recorded.
    pub(super) batch: Batch,
    pub(super) found: Found,
}

/// What was found in a channel.
#[derive(Default)]
pub(super) struct Found {
    /// What happened, in order.
    pub(super) events: Vec<RecordEvent>,
    /// Files that went on or were asked for.
    pub(super) moved: Vec<FileProgress>,
}

impl Inspector {
    /// Looks at a channel that was not asked for anything yet.
    pub(super) const fn new(rights: TransferRights, input: Arc<InputRules>) -> Self {
        Self { machine: None, rights, input, window: None }
    }

    /// Looks with `machine`, whatever is asked for.
    #[cfg(test)]
    pub(super) fn with(machine: Box<dyn ChannelInspector>) -> Self {
        Self { machine: Some(machine), ..Self::new(TransferRights::ALL, Arc::default()) }
    }

    /// Tells what was asked for on the channel.
    pub(super) fn request(&mut self, event: &RecordEvent) {
        match &mut self.machine {
            Some(machine) => machine.request(event),
            None => self.choose(event),
        }
    }

    /// A command may move files, whether or not it has a terminal; without a terminal no input is held.
    fn choose(&mut self, event: &RecordEvent) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the other requests start no program on a terminal"
        )]
        match event {
            RecordEvent::Pty { pty, .. } => self.window = Some((pty.width, pty.height)),
            RecordEvent::WindowChange { width, height, .. } if self.window.is_some() => {
                self.window = Some((*width, *height));
            }
            RecordEvent::Shell { channel } | RecordEvent::Exec { channel, .. } => {
                let transfers = TransferInspector::for_request(event, self.rights);
                let terminal = || {
                    let (columns, rows) = self.window?;
                    let rules = InputRules::clone(&self.input);
                    Some(Box::new(TerminalInspector::new(*channel, columns, rows, rules)) as Box<_>)
                };
                self.machine = transfers.map(|machine| Box::new(machine) as Box<_>).or_else(terminal);
            }
            _ => {
                let transfers = TransferInspector::for_request(event, self.rights);
                self.machine = transfers.map(|machine| Box::new(machine) as Box<_>);
            }
        }
    }

    /// Looks at packets, or that time has passed; `now` is in microseconds since the session started.
    pub(super) fn packets(&mut self, batch: Batch, now: u64) -> Inspected {
        let Some(machine) = &mut self.machine else { return Inspected { batch, found: Found::default() } };
        let mut events = Vec::new();
        let batch = machine.packets(batch, now, &mut events);
        Inspected { batch, found: Found { events, moved: machine.moved() } }
    }

    /// When to look again though nothing arrives, in microseconds since the session started.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.machine.as_ref().and_then(|machine| machine.deadline())
    }

    /// The channel is over.
    pub(super) fn finish(&mut self, now: u64) -> Inspected {
        let Some(machine) = &mut self.machine else { return Inspected::default() };
        let mut events = Vec::new();
        let batch = machine.finish(now, &mut events);
        Inspected { batch, found: Found { events, moved: machine.moved() } }
    }
}
