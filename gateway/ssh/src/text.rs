//! Text that ends up in a user's terminal.
//!
//! Invariant: a [`TerminalText`] has no control characters but line feeds, so that nothing a target
//! or a policy author wrote can move the cursor or set a title (RFC 4251 section 9.2), and at most
//! 400 bytes, which is what OpenSSH prints of a disconnect.

use std::fmt;

/// Longest text, in bytes.
pub const MAX_TEXT: usize = 400;

/// Text that is safe to print in a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalText(String);

impl TerminalText {
    /// Keeps `text`: control characters become spaces, the end is cut at [`MAX_TEXT`].
    pub fn new(text: &str) -> Self {
        let clean: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
        let mut end = clean.len().min(MAX_TEXT);
        while !clean.is_char_boundary(end) {
            end -= 1;
        }
        Self(clean.get(..end).unwrap_or_default().to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_lose_their_escape() {
        assert_eq!(TerminalText::new("a\x1b]0;owned\x07b\u{9b}2J\nc").as_str(), "a ]0;owned b 2J\nc");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = TerminalText::new(&"ä".repeat(300));
        assert_eq!(text.as_str(), "ä".repeat(200));
        assert_eq!(TerminalText::new(&format!("a{}", "ä".repeat(300))).as_str().len(), 399);
    }
}
