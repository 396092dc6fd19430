//! The line that is being typed, as far as its keys alone tell, and the lines that were sent.
//!
//! Invariants: a text has at most [`MOST_TYPED`] bytes; a line whose keys do not tell its text has none.

use super::keys::Key;

/// Bytes of a line that are compared with the screen.
const MOST_TYPED: usize = 4096;

/// A line that is being typed.
#[derive(Debug, Default)]
pub(super) struct Typed {
    text: String,
    /// A key was among them whose effect only the screen can tell.
    edited: bool,
    begun: bool,
}

/// A line that was sent, or given up, and is not answered yet.
#[derive(Debug)]
pub(super) struct Sent {
    /// What the keys say it was; `None` where they cannot.
    pub(super) text: Option<String>,
    /// It ended with Enter; else with ^C or ^D, and is no command.
    pub(super) entered: bool,
    /// Bytes of the user's side up to its end.
    pub(super) end: u64,
    /// When its last key came, in microseconds.
    pub(super) at: u64,
}

impl Typed {
    pub(super) const fn is_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn key(&mut self, key: Key) {
        self.begun |= key != Key::Silent;
        match key {
            Key::Printable(character) if self.text.len() < MOST_TYPED => self.text.push(character),
            Key::EraseCharacter => drop(self.text.pop()),
            Key::EraseWord => erase_word(&mut self.text),
            Key::EraseLine => self.text.clear(),
            Key::Printable(_) | Key::Other | Key::End => self.edited = true,
            Key::Enter | Key::Interrupt | Key::Silent => {}
        }
    }

    /// Ends the line with the byte before `end`; the next one is empty.
    pub(super) fn send(&mut self, entered: bool, end: u64, at: u64) -> Sent {
        let line = std::mem::take(self);
        Sent { text: (!line.edited).then_some(line.text), entered, end, at }
    }
}

impl Sent {
    /// The text, if its keys tell it and it is not empty.
    pub(super) fn known(&self) -> Option<&str> {
        self.text.as_deref().filter(|text| self.entered && !text.trim().is_empty())
    }
}

fn erase_word(text: &mut String) {
    let word = text.trim_end().rsplit(char::is_whitespace).next().map_or(0, str::len);
    text.truncate(text.trim_end().len() - word);
}
