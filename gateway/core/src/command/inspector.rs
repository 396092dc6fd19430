//! The reader of terminals behind the contract of a recorder: packets in, packets to record and events out.
//!
//! Owns the order: input that is let go stands before the output that showed it, at the time of that output.
//! Deliberately absent: which channels have a terminal; without a pty nothing is looked at or held.

use super::mask::MaskedInput;
use super::{Finding, Masks, Outcome, PtyReader, UnechoedInput};
use crate::envelope::{Batch, Packer, Packet};
use crate::inspection::ChannelInspector;
use crate::record::{ChannelNumber, RecordEvent, Source, Text};

/// What is kept of input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputRules {
    /// What happens to input that the terminal does not show.
    pub unechoed: UnechoedInput,
    /// What is replaced.
    pub masks: Masks,
}

/// Finds commands in a channel with a terminal, and leaves out what must not be kept.
#[derive(Debug)]
pub struct TerminalInspector {
    channel: ChannelNumber,
    rules: InputRules,
    masked: MaskedInput,
    reader: PtyReader,
}

impl TerminalInspector {
    /// For `channel`, whose terminal has `columns` x `rows`.
    pub fn new(channel: ChannelNumber, columns: u32, rows: u32, rules: InputRules) -> Self {
        let reader = PtyReader::new(columns, rows, rules.unechoed);
        Self { channel, rules, masked: MaskedInput::default(), reader }
    }

    fn told(&mut self, outcome: Outcome, elapsed: u64, kept: &mut Packer, found: &mut Vec<RecordEvent>) {
        let mut input = outcome.input;
        if !self.rules.masks.is_empty() {
            let mut masked = Vec::with_capacity(input.len());
            self.masked.push(&self.rules.masks, &input, &mut masked);
            input = masked;
        }
        kept.push(Packet { source: Source::Client, code: 0, elapsed, data: &input });
        found.extend(outcome.findings.into_iter().map(|finding| self.event(finding)));
    }

    fn event(&self, finding: Finding) -> RecordEvent {
        let channel = self.channel;
        match finding {
            Finding::InputOmitted => RecordEvent::InputOmitted { channel },
            Finding::Command(command) => RecordEvent::Command {
                channel,
                command: Text(self.rules.masks.apply(command.text.as_bytes())),
                directory: command.directory.map(|directory| directory.as_str().into()),
                confidence: command.confidence,
                prompt: command.prompt,
            },
        }
    }
}

impl ChannelInspector for TerminalInspector {
    fn request(&mut self, event: &RecordEvent) {
        if let RecordEvent::WindowChange { width, height, .. } = event {
            self.reader.resize(*width, *height);
        }
    }

    fn packets(&mut self, batch: Batch, now: u64, found: &mut Vec<RecordEvent>) -> Batch {
        // Where no input waits and none comes, as in a flood, all of it is kept as it is.
        let all =
            self.reader.holds_nothing() && batch.packets().all(|packet| packet.source == Source::Target);
        let mut kept = Packer::default();
        for packet in batch.packets() {
            if let Some(due) = self.reader.deadline().filter(|due| *due < packet.elapsed) {
                let outcome = self.reader.quiet(due);
                self.told(outcome, due, &mut kept, found);
            }
            match packet.source {
                Source::Client => {
                    let outcome = self.reader.client(packet.elapsed, packet.data);
                    self.told(outcome, packet.elapsed, &mut kept, found);
                }
                Source::Target => {
                    let outcome = self.reader.target(packet.elapsed, packet.data);
                    self.told(outcome, packet.elapsed, &mut kept, found);
                    if !all {
                        kept.push(packet);
                    }
                }
            }
        }
        if self.reader.deadline().is_some_and(|due| due <= now) {
            let outcome = self.reader.quiet(now);
            self.told(outcome, now, &mut kept, found);
        }
        if all { batch } else { kept.take(Vec::new()) }
    }

    fn deadline(&self) -> Option<u64> {
        self.reader.deadline()
    }

    fn finish(&mut self, now: u64, found: &mut Vec<RecordEvent>) -> Batch {
        let mut kept = Packer::default();
        let outcome = self.reader.finish();
        self.told(outcome, now, &mut kept, found);
        let mut rest = Vec::new();
        self.masked.flush(&self.rules.masks, &mut rest);
        kept.push(Packet { source: Source::Client, code: 0, elapsed: now, data: &rest });
        kept.take(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Mask;
    use crate::record::{Confidence, PromptKind};

    /// Client and target by turns, each at its time.
    fn inspect(
        inspector: &mut TerminalInspector,
        pieces: &[(u64, Source, &str)],
    ) -> (Vec<String>, Vec<RecordEvent>) {
        let (mut packer, mut found) = (Packer::default(), Vec::new());
        for (elapsed, source, data) in pieces {
            packer.push(Packet { source: *source, code: 0, elapsed: *elapsed, data: data.as_bytes() });
        }
        let batch = inspector.packets(packer.take(Vec::new()), 60_000_000, &mut found);
        let end = inspector.finish(60_000_000, &mut found);
        let shown = |packet: Packet<'_>| {
            format!("{} {:?} {}", packet.elapsed, packet.source, packet.data.escape_ascii())
        };
        (batch.packets().chain(end.packets()).map(shown).collect(), found)
    }

    #[test]
    fn output_alone_is_kept_as_it_is_and_what_was_held_comes_before_it() {
        let mut inspector = TerminalInspector::new(ChannelNumber(3), 80, 24, InputRules::default());
        let (mut packer, mut found) = (Packer::default(), Vec::new());
        let mut look = |pieces: &[(u64, Source, &[u8])]| {
            for (elapsed, source, data) in pieces {
                packer.push(Packet { source: *source, code: 0, elapsed: *elapsed, data });
            }
            let batch = inspector.packets(packer.take(Vec::new()), 50, &mut found);
            let shown = |packet: Packet<'_>| (packet.source, packet.data.escape_ascii().to_string());
            batch.packets().map(shown).collect::<Vec<_>>()
        };
        let output = |text: &str| (Source::Target, text.to_owned());
        assert_eq!(
            look(&[(1, Source::Target, b"y"), (2, Source::Target, b"$ ")]),
            [output("y"), output("$ ")]
        );
        assert_eq!(look(&[(3, Source::Client, b"l")]), []);
        let echoed = look(&[(4, Source::Target, b"l"), (5, Source::Target, b"s")]);
        assert_eq!(echoed, [(Source::Client, "l".to_owned()), output("l"), output("s")]);
        assert_eq!(look(&[(6, Source::Target, b"y")]), [output("y")]);
    }

    const DIALOGUE: &[(u64, Source, &str)] = &[
        (1, Source::Target, "me@host:/srv$ "),
        (10, Source::Client, "su"),
        (20, Source::Target, "su"),
        (30, Source::Client, "\r"),
        (40, Source::Target, "\r\nPassword: "),
        (50, Source::Client, "hunt"),
        (60, Source::Client, "er2"),
        (70, Source::Client, "\r"),
        (80, Source::Target, "\r\nme@host:/srv# "),
    ];

    fn su(prompt: &str) -> RecordEvent {
        RecordEvent::Command {
            channel: ChannelNumber(3),
            command: prompt.into(),
            directory: Some("/srv".into()),
            confidence: Confidence::High,
            prompt: PromptKind::Shell,
        }
    }

    #[test]
    fn a_password_is_left_out_and_marked() {
        let mut inspector = TerminalInspector::new(ChannelNumber(3), 80, 24, InputRules::default());
        let (kept, found) = inspect(&mut inspector, DIALOGUE);
        let client: Vec<_> = kept.iter().filter(|packet| packet.contains("Client")).collect();
        assert_eq!(client, ["20 Client su", "40 Client \\r"]);
        assert_eq!(kept.len(), 2 + 4);
        assert_eq!(found, [su("su"), RecordEvent::InputOmitted { channel: ChannelNumber(3) }]);
    }

    #[test]
    fn all_is_kept_where_that_is_wanted() {
        let rules = InputRules { unechoed: UnechoedInput::Keep, ..InputRules::default() };
        let (kept, found) = inspect(&mut TerminalInspector::new(ChannelNumber(3), 80, 24, rules), DIALOGUE);
        assert_eq!(kept.len(), DIALOGUE.len());
        assert!(kept.contains(&"50 Client hunt".to_owned()) && kept.contains(&"60 Client er2".to_owned()));
        assert_eq!(found, [su("su")]);
    }

    #[test]
    fn masks_are_laid_over_input_and_commands() {
        let masks = Masks::new(vec![Mask::new("^s").unwrap()]);
        let rules = InputRules { masks, ..InputRules::default() };
        let (kept, found) = inspect(&mut TerminalInspector::new(ChannelNumber(3), 80, 24, rules), DIALOGUE);
        assert!(kept.contains(&"40 Client [masked]u\\r".to_owned()), "{kept:?}");
        assert_eq!(found.first(), Some(&su("[masked]u")));
    }
}
