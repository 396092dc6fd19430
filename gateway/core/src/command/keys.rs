//! What the user's side sends to a terminal, key by key.
//!
//! Owns the split of bytes into keys, which may be cut anywhere. Deliberately absent: what a key does, which
//! is the program's affair; those that editors of lines agree on have names here.

/// Bytes of a control sequence that are remembered; a longer one ends there.
const MOST_SEQUENCE: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A character that shows itself.
    Printable(char),
    /// Backspace or delete.
    EraseCharacter,
    /// ^W.
    EraseWord,
    /// ^U.
    EraseLine,
    /// Carriage return or line feed.
    Enter,
    /// ^C, ^\ or ^Z: what was typed and not yet read is gone.
    Interrupt,
    /// ^D.
    End,
    /// A key whose effect only the screen can tell: cursor keys, completion, search, ...
    Other,
    /// The terminal's own bytes around pasted text, or a byte inside a sequence.
    Silent,
}

/// Splits bytes into keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    state: State,
    sequence: Vec<u8>,
    pasting: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    /// After `ESC [`.
    Control,
    /// After `ESC O`.
    Single,
    /// In a character of UTF-8 that wants so many bytes more.
    Utf8(u8),
}

impl Keys {
    /// The key that `byte` completes; [`Key::Silent`] if none.
    pub(super) fn next(&mut self, byte: u8) -> Key {
        match self.state {
            State::Ground => self.ground(byte),
            State::Escape => self.escape(byte),
            State::Control => self.control(byte),
            State::Single => {
                self.state = State::Ground;
                Key::Other
            }
            State::Utf8(wanted) => self.utf8(byte, wanted),
        }
    }

    fn ground(&mut self, byte: u8) -> Key {
        match byte {
            0x1b => {
                self.state = State::Escape;
                Key::Silent
            }
            b'\r' | b'\n' if self.pasting => Key::Other,
            b'\r' | b'\n' => Key::Enter,
            0x03 | 0x1a | 0x1c => Key::Interrupt,
            0x04 => Key::End,
            0x08 | 0x7f => Key::EraseCharacter,
            0x15 => Key::EraseLine,
            0x17 => Key::EraseWord,
            0x20..0x7f => Key::Printable(char::from(byte)),
            0xc2..=0xf4 => {
                self.sequence.clear();
                self.sequence.push(byte);
                self.state = State::Utf8(if byte < 0xe0 {
                    1
                } else if byte < 0xf0 {
                    2
                } else {
                    3
                });
                Key::Silent
            }
            _ => Key::Other,
        }
    }

    fn escape(&mut self, byte: u8) -> Key {
        self.sequence.clear();
        self.state = match byte {
            b'[' => State::Control,
            b'O' => State::Single,
            0x1b => State::Escape,
            _ => State::Ground,
        };
        if self.state == State::Ground { Key::Other } else { Key::Silent }
    }

    fn control(&mut self, byte: u8) -> Key {
        if !(0x40..0x7f).contains(&byte) && self.sequence.len() < MOST_SEQUENCE {
            self.sequence.push(byte);
            return Key::Silent;
        }
        self.state = State::Ground;
        match (self.sequence.as_slice(), byte) {
            (b"200", b'~') => self.pasting = true,
            (b"201", b'~') => self.pasting = false,
            _ => return Key::Other,
        }
        Key::Silent
    }

    fn utf8(&mut self, byte: u8, wanted: u8) -> Key {
        if !(0x80..0xc0).contains(&byte) {
            self.state = State::Ground;
            return self.ground(byte);
        }
        self.sequence.push(byte);
        if wanted > 1 {
            self.state = State::Utf8(wanted - 1);
            return Key::Silent;
        }
        self.state = State::Ground;
        let character = str::from_utf8(&self.sequence).ok().and_then(|text| text.chars().next());
        character.map_or(Key::Other, Key::Printable)
    }
}
