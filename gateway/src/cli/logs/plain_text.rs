//! What a program printed, as lines of text without what steers a terminal.
//!
//! Not a terminal: where the cursor goes to another place the line ends, and what is overwritten there is not known.
//! Invariant: at most [`MAX_LINE`] bytes of a line are kept; a longer one comes in pieces.

use vte::{Params, Parser, Perform};

/// Longest line that is kept in one piece, in bytes.
const MAX_LINE: usize = 16 * 1024;

/// Makes lines of bytes.
#[derive(Default)]
pub(super) struct PlainText {
    parser: Parser,
    lines: Lines,
}

#[derive(Default)]
struct Lines {
    line: String,
    ended: Vec<String>,
}

impl PlainText {
    /// The lines that end in `bytes`; empty ones are left out.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Vec<String> {
        self.parser.advance(&mut self.lines, bytes);
        std::mem::take(&mut self.lines.ended)
    }

    /// The line that has not ended.
    pub(super) fn rest(&mut self) -> Option<String> {
        self.lines.end();
        self.lines.ended.pop()
    }
}

impl Lines {
    fn end(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.trim().is_empty() {
            self.ended.push(line);
        }
    }
}

impl Perform for Lines {
    fn print(&mut self, character: char) {
        self.line.push(character);
        if self.line.len() >= MAX_LINE {
            self.end();
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' | b'\r' | 0x0b | 0x0c => self.end(),
            b'\t' => self.print('\t'),
            // Backspace: the next character takes the place of the last one.
            0x08 => drop(self.line.pop()),
            _ => {}
        }
    }

    /// Cursor movements (ECMA-48 section 8.3) but those within a line, and erasing the screen.
    fn csi_dispatch(&mut self, _: &Params, _: &[u8], _: bool, action: char) {
        match action {
            'A' | 'B' | 'E' | 'F' | 'H' | 'J' | 'd' | 'f' => self.end(),
            'C' => self.print(' '),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut text = PlainText::default();
        let mut lines: Vec<String> = pieces.iter().flat_map(|piece| text.add(piece)).collect();
        lines.extend(text.rest());
        lines
    }

    #[test]
    fn text_comes_without_what_steers_a_terminal() {
        assert_eq!(
            lines(&[b"\x1b]0;title\x07\x1b[1;31mro", b"ot\x1b[0m# id\r\nuid=0\r\n\r\n# "]),
            ["root# id", "uid=0", "# "]
        );
        assert_eq!(
            lines(&[b"10%\r20%\rdone\n", b"\x1b[2J\x1b[1;1Htop\x1b[5;1Hrow"]),
            ["10%", "20%", "done", "top", "row"]
        );
        assert_eq!(lines(&[b"lx\x08s\xc3", b"\xa4\xff\tb\x1b[Cc\x1b[31"]), ["ls\u{e4}\u{fffd}\tb c"]);
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let lines = lines(&[&[b'x'; 3 * MAX_LINE]]);
        assert!(lines.iter().all(|line| line.len() == MAX_LINE) && lines.len() == 3);
    }
}
