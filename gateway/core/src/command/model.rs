//! The terminal as it is read: output changes the screen, and what it means for the line that is typed is
//! told to `lines` before it happens.
//!
//! Owns the modes that tell who reads the keyboard: bracketed paste (mode 2004) is on exactly while an editor
//! of lines reads; the alternate screen (1049) or application cursor keys (DECCKM, 1) without it are those of
//! programs that draw; marks of the shell (OSC 133, as of FinalTerm) and its directory (OSC 7).

use vte::{Params, Perform};

use super::hold::Hold;
use super::keys::Keys;
use super::lines::Lines;
use super::pty::Outcome;
use super::screen::{Position, Screen};
use super::typed::Typed;

/// Bytes of a directory's URI, and parts of it between semicolons. Of an operating system command `vte` keeps 1024 bytes and 16
/// parts without saying so: what comes near that is cut.
const MOST_DIRECTORY: usize = 1000;
const MOST_PARTS: usize = 14;

#[derive(Debug)]
pub(super) struct Model {
    pub(super) screen: Screen,
    pub(super) keys: Keys,
    pub(super) typed: Typed,
    pub(super) hold: Hold,
    pub(super) lines: Lines,
    /// An editor of lines reads.
    pub(super) editing: bool,
    /// Cursor keys are in application mode.
    application: bool,
    /// Since the last piece of output the terminal was used by a program that draws.
    pub(super) drew: bool,
    /// Where the cursor was after the last piece of output.
    pub(super) rested: Position,
    /// The directory that the shell told by OSC 7.
    pub(super) directory: Option<String>,
    /// Microseconds.
    pub(super) now: u64,
    pub(super) out: Outcome,
}

impl Model {
    pub(super) fn new(columns: u32, rows: u32) -> Self {
        Self {
            screen: Screen::new(columns, rows),
            keys: Keys::default(),
            typed: Typed::default(),
            hold: Hold::default(),
            lines: Lines::default(),
            editing: false,
            application: false,
            drew: false,
            rested: Position::default(),
            directory: None,
            now: 0,
            out: Outcome::default(),
        }
    }

    /// Whether a program that draws the screen has the terminal.
    pub(super) const fn is_drawn(&self) -> bool {
        self.screen.is_alternate() || (self.application && !self.editing)
    }

    /// The shell tells its directory, in parts between semicolons. One that is cut is none.
    fn moved(&mut self, uri: &[&[u8]]) {
        let (parts, uri) = (uri.len(), uri.join(&b';'));
        self.directory = if parts > MOST_PARTS || uri.len() > MOST_DIRECTORY {
            None
        } else {
            directory_of(&uri).or(self.directory.take())
        };
    }

    fn mode(&mut self, mode: u16, on: bool) {
        match mode {
            1 => self.application = on,
            47 | 1047 | 1049 => self.screen.alternate(on),
            2004 if on && !self.screen.is_alternate() => {
                self.editor_started();
                self.editing = true;
            }
            2004 if self.editing && !on => {
                self.editor_ended();
                self.editing = false;
            }
            _ => {}
        }
        self.drew |= self.is_drawn();
    }
}

impl Perform for Model {
    fn print(&mut self, character: char) {
        self.lines.written();
        if self.editing || self.is_drawn() {
            self.hold.written(character);
        }
        self.screen.print(character);
    }

    fn execute(&mut self, byte: u8) {
        if matches!(byte, b'\n' | 0x0b | 0x0c) && !self.screen.is_alternate() {
            self.line_ended();
        }
        self.screen.control(byte);
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        match (intermediates, action) {
            _ if ignore => {}
            (b"?", 'h' | 'l') => {
                for values in params {
                    values.first().into_iter().for_each(|mode| self.mode(*mode, action == 'h'));
                }
            }
            (b"", _) => self.screen.sequence(params, action),
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], ignore: bool, byte: u8) {
        if intermediates.is_empty() && !ignore {
            self.screen.escape(byte);
            if byte == b'c' {
                (self.editing, self.application) = (false, false);
            }
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _bell_terminated: bool) {
        match params {
            // 633 is VS Code's own number for the same.
            [b"133" | b"633", kind, ..] if !self.screen.is_alternate() => match kind.first() {
                Some(b'B') => self.lines.mark(self.screen.cursor()),
                Some(b'C') => self.marked_end(),
                _ => {}
            },
            [b"7", uri @ ..] => self.moved(uri),
            _ => {}
        }
    }
}

/// The path of `file://host/path`, percent-decoded.
fn directory_of(uri: &[u8]) -> Option<String> {
    let rest = uri.strip_prefix(b"file://")?;
    let path = rest.get(rest.iter().position(|byte| *byte == b'/')?..)?;
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            decoded.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_decoded() {
        assert_eq!(directory_of(b"file://host/srv/a%20b").as_deref(), Some("/srv/a b"));
        assert_eq!(directory_of(b"file:///").as_deref(), Some("/"));
        for broken in [&b"file://host"[..], b"http://host/x", b"file:///%2", b"file:///%ff", b"file:///%zz"] {
            assert_eq!(directory_of(broken), None);
        }
    }
}
