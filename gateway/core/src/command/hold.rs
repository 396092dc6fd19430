//! Input that waits until the terminal has shown it or has not.
//!
//! What a key typed is kept in the recording once the screen shows it where it was typed; a line that the
//! screen has not shown when its Enter is answered is left out. Invariants: at most [`MOST_HELD`] bytes wait,
//! a longer line is no password and is let go; what is let go is in the order in which it came.

use std::collections::VecDeque;

use super::keys::Key;
use super::screen::{Position, Screen};

/// Bytes that wait.
const MOST_HELD: usize = 4096;

/// Characters that are looked for on the screen at once.
const MOST_LOOKED_FOR: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Hold {
    bytes: VecDeque<u8>,
    /// Bytes of the user's side before those that wait.
    base: u64,
    keys: VecDeque<HeldKey>,
    /// Where the first key was typed, if that is known.
    origin: Option<Position>,
    /// Keys from the front that were seen in the output.
    seen: usize,
    /// When the last key came, in microseconds.
    latest: u64,
}

#[derive(Clone, Copy, Debug)]
struct HeldKey {
    key: Key,
    /// Bytes of the user's side up to its end.
    end: u64,
}

impl Hold {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of the user's side so far.
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    pub(super) const fn latest(&self) -> u64 {
        self.latest
    }

    /// Adds a byte and the key that it completes, typed at `cursor` if that is known.
    pub(super) fn push(&mut self, byte: u8, key: Key, now: u64, cursor: Option<Position>) {
        if self.keys.is_empty() {
            self.origin = cursor;
        }
        self.bytes.push_back(byte);
        self.latest = now;
        if key != Key::Silent {
            self.keys.push_back(HeldKey { key, end: self.end() });
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= MOST_HELD
    }

    /// A character was written while a program that shows what it reads has the terminal.
    pub(super) fn written(&mut self, character: char) {
        while let Some(HeldKey { key, .. }) = self.keys.get(self.seen) {
            match key {
                Key::Enter | Key::Interrupt => return,
                Key::Printable(wanted) if *wanted == character => {
                    self.seen += 1;
                    return;
                }
                // Editors step over blanks that stand there already.
                Key::Printable(wanted) if *wanted != ' ' => return,
                Key::Printable(_) | Key::EraseCharacter | Key::EraseWord | Key::EraseLine => self.seen += 1,
                Key::End | Key::Other | Key::Silent => self.seen += 1,
            }
        }
    }

    /// Lets go what the screen shows now, after some output.
    pub(super) fn release_shown(&mut self, screen: &Screen, out: &mut Vec<u8>) {
        if let Some(HeldKey { end, .. }) = self.seen.checked_sub(1).and_then(|seen| self.keys.get(seen)) {
            self.release_to(*end, out);
        }
        while let Some((end, origin)) = self.shown_at_origin(screen) {
            self.release_to(end, out);
            self.origin = Some(origin);
        }
        while let Some(HeldKey { key: Key::Other | Key::End | Key::Silent, end }) = self.keys.front().copied()
        {
            self.release_to(end, out);
            self.origin = None;
        }
    }

    /// The end of the longest run of keys whose characters stand where they were typed.
    fn shown_at_origin(&self, screen: &Screen) -> Option<(u64, Position)> {
        let origin = self.origin?;
        let (mut line, mut shown) = (Vec::new(), None);
        for HeldKey { key, end } in &self.keys {
            match key {
                Key::Printable(character) if line.len() < MOST_LOOKED_FOR => {
                    line.push(*character);
                    let (count, behind) = screen.matches(origin, &line);
                    if count == line.len() {
                        shown = Some((*end, behind));
                    }
                }
                Key::EraseCharacter => drop(line.pop()),
                Key::EraseLine => line.clear(),
                Key::EraseWord | Key::Printable(_) | Key::Enter | Key::Interrupt => break,
                Key::End | Key::Other | Key::Silent => break,
            }
        }
        shown
    }

    /// Whether characters wait that come before an Enter; a program that redraws the screen has answered all
    /// others.
    pub(super) fn has_unanswered_line(&self) -> bool {
        let entered = self.keys.iter().position(|held| held.key == Key::Enter);
        entered.is_some_and(|end| self.keys.iter().take(end).skip(self.seen).any(HeldKey::is_printable))
    }

    /// Lets go all that came up to `end`.
    pub(super) fn release_to(&mut self, end: u64, out: &mut Vec<u8>) {
        let count = end.saturating_sub(self.base).min(self.bytes.len() as u64);
        self.base += count;
        out.extend(self.bytes.drain(..usize::try_from(count).unwrap_or(self.bytes.len())));
        self.forget_keys(end);
    }

    /// Leaves out all that came up to `end`; whether there was a character among it.
    pub(super) fn drop_to(&mut self, end: u64, out: &mut Vec<u8>) -> bool {
        let secret = self.keys.iter().take_while(|held| held.end <= end).any(HeldKey::is_printable);
        if secret {
            self.release_to(end, &mut Vec::new());
        } else {
            self.release_to(end, out);
        }
        secret
    }

    fn forget_keys(&mut self, end: u64) {
        while self.keys.front().is_some_and(|held| held.end <= end) {
            self.keys.pop_front();
            self.seen = self.seen.saturating_sub(1);
        }
    }
}

impl HeldKey {
    const fn is_printable(&self) -> bool {
        matches!(self.key, Key::Printable(_))
    }
}
