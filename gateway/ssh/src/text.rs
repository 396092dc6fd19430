//! Text that ends up in a user's terminal.
//!
//! OpenSSH prints at most 400 bytes of a disconnect, on one line, after "Received disconnect from ADDRESS
//! port N:". Invariant: nothing a target or a policy author wrote can move the cursor, set a title, or
//! reorder a line (RFC 4251 section 9.2).

use std::fmt;

/// Longest text, in bytes.
pub const MAX_TEXT: usize = 400;

/// One line that is safe to print in a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalText(String);

impl TerminalText {
    /// Keeps `text` as one line: white space and what cannot be printed becomes one space between words,
    /// the end is cut at [`MAX_TEXT`].
    pub fn new(text: &str) -> Self {
        let mut line = String::with_capacity(text.len().min(MAX_TEXT));
        for c in text.chars().map(|c| if is_unprintable(c) { ' ' } else { c }) {
            if c == ' ' && (line.is_empty() || line.ends_with(' ')) {
                continue;
            }
            if line.len() + c.len_utf8() > MAX_TEXT {
                break;
            }
            line.push(c);
        }
        line.truncate(line.trim_end().len());
        Self(line)
    }

    /// What a peer said, which need not be UTF-8.
    pub fn from_peer(text: &[u8]) -> Self {
        Self::new(&String::from_utf8_lossy(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TerminalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Control characters, and the Unicode marks that reorder or break a line.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        TerminalText::new(text).to_string()
    }

    #[test]
    fn lines_become_one() {
        assert_eq!(shown(" denied:\r\n\tno policy \n"), "denied: no policy");
        assert_eq!(shown("\n\n"), "");
    }

    #[test]
    fn escape_sequences_lose_their_escape() {
        assert_eq!(shown("a\x1b]0;owned\x07b\u{9b}2J\u{202e}c"), "a ]0;owned b 2J c");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shown(&"é".repeat(300)).len(), 400);
        assert_eq!(shown(&format!("x{}", "é".repeat(300))).len(), 399);
    }
}
