//! What a rule says about a line.

use std::fmt;

/// Whether a finding fails the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// It is told.
    Warning,
    /// It fails the check.
    Error,
}

/// One rule broken at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Path from the root.
    pub(super) path: String,
    /// Line, from 1.
    pub(super) line: usize,
    /// Name of the rule.
    pub(super) rule: &'static str,
    /// Whether it fails the check.
    pub(super) severity: Severity,
    /// What is wrong, and what to do.
    pub(super) message: String,
}

impl Finding {
    /// An error.
    pub(super) fn error(path: &str, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, severity: Severity::Error, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning: ",
            Severity::Error => "",
        };
        write!(f, "{}:{}: {severity}{}: {}", self.path, self.line, self.rule, self.message)
    }
}
