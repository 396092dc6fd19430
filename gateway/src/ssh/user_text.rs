//! Texts that users read in their terminal by way of SSH_MSG_DISCONNECT.
//!
//! OpenSSH prints at most 400 bytes, on one line, after "Received disconnect from ADDRESS port N:".

const MAX_BYTES: usize = 400;

/// One printable line of at most 400 bytes: control characters and line breaks become one space.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_BYTES));
    let spaced = text.chars().map(|c| if is_unprintable(c) { ' ' } else { c });
    for c in spaced {
        if c == ' ' && (line.is_empty() || line.ends_with(' ')) {
            continue;
        }
        if line.len() + c.len_utf8() > MAX_BYTES {
            break;
        }
        line.push(c);
    }
    line.truncate(line.trim_end().len());
    line
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

    #[test]
    fn lines_become_one() {
        assert_eq!(one_line(" denied:\r\n\tno policy \n"), "denied: no policy");
        assert_eq!(one_line("a\u{1b}[31mb\u{202e}c"), "a [31mb c");
        assert_eq!(one_line("\n\n"), "");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(one_line(&"é".repeat(300)).len(), 400);
        assert_eq!(one_line(&format!("x{}", "é".repeat(300))).len(), 399);
    }
}
