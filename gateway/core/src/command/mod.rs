//! What was typed at a terminal: the commands, and what of the input must not be kept.
//!
//! [`PtyReader`] is shown both sides of a pty's stream and finds the lines that the user sent, as they stood
//! on the screen between the end of the prompt and the cursor, and which input was never shown (a password).
//! It is a heuristic: no stream says where a prompt ends. docs/typed-commands.md tells how it works, how often
//! it is right, and what it cannot see. [`Masks`] takes out what an operator never wants to keep.
//!
//! Invariants: pure; the same bytes at the same times give the same findings however they are split; memory is
//! bounded by the window's size (`screen`) and constants (`hold`, `typed`, `flood`); nothing that the screen
//! did not show becomes a command.

mod flood;
mod found;
mod hold;
mod inspector;
mod keys;
mod lines;
mod mask;
mod model;
mod parser;
mod prompt;
mod pty;
mod screen;
#[cfg(test)]
mod tests;
mod typed;

pub use inspector::{InputRules, TerminalInspector};
pub use mask::{Mask, Masks};
pub use pty::{Outcome, PtyReader};

use crate::record::{Confidence, PromptKind};

/// A line that was typed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedCommand {
    /// The text; lines of one command that were typed at continuation prompts are joined by newlines.
    pub text: String,
    /// The directory that shell or prompt named last.
    pub directory: Option<String>,
    /// How sure it is.
    pub confidence: Confidence,
    /// Whose prompt it was.
    pub prompt: PromptKind,
}

/// What a terminal's stream told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A line was typed.
    Command(TypedCommand),
    /// Input was left out because the terminal did not show it.
    InputOmitted,
}

/// What happens to input that the terminal does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnechoedInput {
    /// It is left out.
    #[default]
    Omit,
    /// It is kept like any other.
    Keep,
}
