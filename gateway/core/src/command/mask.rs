//! What an operator never wants to keep: texts that match are replaced by [`MASKED`].
//!
//! Masks are for what was typed and for commands. What a program writes is not touched: it comes in pieces of
//! any size, and its place on a screen is not its place in the stream.

use std::borrow::Cow;

use regex::Regex;
use regex::bytes::Regex as BytesRegex;

use crate::record::{RecordEvent, Text};

/// What stands for a text that matched.
const MASKED: &str = "[masked]";

/// Bytes of a line that wait for its end.
const MOST_LINE: usize = 4096;

/// One expression.
#[derive(Clone, Debug)]
pub struct Mask {
    expression: BytesRegex,
}

/// All expressions of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks(Vec<Mask>);

/// Gathers input into lines, since keys come one by one.
#[derive(Debug, Default)]
pub(super) struct MaskedInput {
    line: Vec<u8>,
}

impl Mask {
    /// Reads an expression in the syntax of the `regex` crate.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(expression: &str) -> Result<Self, String> {
        // The error of the text form shows the place; that of the byte form is the same without it.
        Regex::new(expression).map_err(|error| error.to_string())?;
        let expression = BytesRegex::new(expression).map_err(|error| error.to_string())?;
        if expression.is_match(b"") {
            return Err("it matches the empty text: make it say what is to be masked".to_owned());
        }
        Ok(Self { expression })
    }
}

impl PartialEq for Mask {
    fn eq(&self, other: &Self) -> bool {
        self.expression.as_str() == other.expression.as_str()
    }
}

impl Eq for Mask {}

impl Masks {
    /// All of `masks`, applied in their order.
    pub const fn new(masks: Vec<Mask>) -> Self {
        Self(masks)
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `text` with all that matches replaced.
    pub fn apply(&self, text: &[u8]) -> Vec<u8> {
        self.0.iter().fold(text.to_vec(), |text, mask| {
            mask.expression.replace_all(&text, MASKED.as_bytes()).into_owned()
        })
    }

    /// `event` with what users wrote masked: the command of `Exec` and the value of `Env`.
    pub fn apply_event<'e>(&self, event: &'e RecordEvent) -> Cow<'e, RecordEvent> {
        let mut masked = event.clone();
        #[expect(clippy::wildcard_enum_match_arm, reason = "the other events hold nothing that users wrote")]
        match &mut masked {
            _ if self.is_empty() => return Cow::Borrowed(event),
            RecordEvent::Exec { command: text, .. } | RecordEvent::Env { value: text, .. } => {
                *text = Text(self.apply(&text.0));
            }
            _ => return Cow::Borrowed(event),
        }
        Cow::Owned(masked)
    }
}

impl MaskedInput {
    /// Adds input and appends to `out` the lines that are whole, masked. A line longer than 4096 bytes is cut
    /// there.
    pub(super) fn push(&mut self, masks: &Masks, input: &[u8], out: &mut Vec<u8>) {
        for byte in input {
            self.line.push(*byte);
            if matches!(byte, b'\r' | b'\n' | 0x03 | 0x04) || self.line.len() >= MOST_LINE {
                self.flush(masks, out);
            }
        }
    }

    /// Appends to `out` what waits for the end of its line, masked.
    pub(super) fn flush(&mut self, masks: &Masks, out: &mut Vec<u8>) {
        out.extend(masks.apply(&self.line));
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ChannelNumber;

    fn masks() -> Masks {
        Masks::new(vec![Mask::new("(?i)token=\\S+").unwrap(), Mask::new("AKIA[0-9A-Z]{16}").unwrap()])
    }

    #[test]
    fn every_match_is_replaced() {
        let text = b"curl -H Token=abc https://x/?k=AKIA0123456789ABCDEF\xff token=1";
        assert_eq!(masks().apply(text), b"curl -H [masked] https://x/?k=[masked]\xff [masked]");
    }

    #[test]
    fn keys_are_masked_as_lines() {
        let (mut input, mut out) = (MaskedInput::default(), Vec::new());
        for byte in b"x token=abc\rls" {
            input.push(&masks(), &[*byte], &mut out);
        }
        assert_eq!(out, b"x [masked]\r");
        input.flush(&masks(), &mut out);
        assert_eq!(out, b"x [masked]\rls");
    }

    #[test]
    fn commands_and_variables_of_events_are_masked() {
        let exec = RecordEvent::Exec { channel: ChannelNumber(0), command: "x token=1".into() };
        let masked = RecordEvent::Exec { channel: ChannelNumber(0), command: "x [masked]".into() };
        assert_eq!(*masks().apply_event(&exec), masked);
        assert_eq!(*Masks::default().apply_event(&exec), exec);
        let shell = RecordEvent::Shell { channel: ChannelNumber(0) };
        assert_eq!(*masks().apply_event(&shell), shell);
    }

    #[test]
    fn an_expression_that_matches_nothing_or_is_broken_is_refused() {
        assert!(Mask::new("a*").unwrap_err().contains("empty text"));
        assert!(Mask::new("(").unwrap_err().contains("unclosed group"));
    }
}
