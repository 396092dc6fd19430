//! Output of the command line: results on standard output, one error on standard error.

use std::io::Write as _;

use serde::Serialize;

/// Prints a line of text on standard output.
///
/// # Errors
/// When standard output is closed.
pub fn line(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")
}

/// Prints a value as one line of JSON on standard output. Control characters, which JSON lets stand in strings
/// from U+007F on, are escapes in it.
///
/// # Errors
/// When standard output is closed.
pub fn json(value: &impl Serialize) -> std::io::Result<()> {
    line(&without_controls(&serde_json::to_string(value)?))
}

/// Prints an error on standard error, prefixed with the program's name.
pub fn error(text: &str) {
    // Nobody is left to tell when standard error is closed.
    if writeln!(std::io::stderr().lock(), "portreeve: {text}").is_err() {}
}

/// Text of others in which nothing can steer a terminal: control characters as `\u` escapes.
pub fn without_controls(text: &str) -> String {
    use std::fmt::Write as _;
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            // Writing to a string does not fail.
            if write!(clean, "\\u{:04x}", u32::from(character)).is_err() {}
        } else {
            clean.push(character);
        }
    }
    clean
}
