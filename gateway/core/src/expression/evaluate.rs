//! The compiled form of an expression and its value for one flow.
//!
//! Two rules decide every doubtful case:
//! - An absent fact satisfies no comparison, neither `==` nor `!=`, so `not (x == y)` holds for it.
//! - An error wins over whatever the other parts say. `and`, `or` and `any` therefore evaluate all
//!   their parts: the result does not depend on the order in which they are written, and a part
//!   that cannot be evaluated is never hidden by its neighbour.
//!
//! Recursion is as deep as the parser allowed and no deeper.

use std::sync::Arc;

use regex::Regex;
use thiserror::Error;

use super::FlowFacts;
use super::field::{Fact, Field};
use super::set::ValueSet;

/// The longest text, in bytes, that a pattern is run on: time is bounded per connection.
pub const MAX_MATCHED_TEXT: usize = 4096;

/// Why an expression has no value for some facts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EvaluationError {
    /// A text is longer than [`MAX_MATCHED_TEXT`].
    #[error("`{field}` has a value of {length} bytes, and patterns are run on {MAX_MATCHED_TEXT} at most")]
    TextTooLong {
        /// The field with the text.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },
}

/// An expression whose types are checked.
#[derive(Clone, Debug)]
pub(super) enum Predicate {
    /// At least one holds.
    Or(Vec<Self>),
    /// All hold; none does so too.
    And(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// At least one value of the field passes.
    Comparison(Field, Test),
}

/// What a value must pass.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// To be a member.
    In(Arc<ValueSet>),
    /// To be no member.
    NotIn(Arc<ValueSet>),
    /// To contain a match.
    Matches(Regex),
}

impl Predicate {
    /// Whether it holds for `facts`.
    ///
    /// # Errors
    /// [`EvaluationError`] when any part cannot be evaluated.
    pub(super) fn holds(&self, facts: &FlowFacts<'_>) -> Result<bool, EvaluationError> {
        match self {
            Self::Or(parts) => any(parts.iter().map(|part| part.holds(facts))),
            Self::And(parts) => {
                let fails = any(parts.iter().map(|part| part.holds(facts).map(|holds| !holds)));
                fails.map(|fails| !fails)
            }
            Self::Not(part) => part.holds(facts).map(|holds| !holds),
            Self::Comparison(field, test) => {
                any(field.facts(facts).iter().map(|fact| test.passes(*field, fact)))
            }
        }
    }

    /// Whether some comparison is about `field`.
    pub(super) fn asks(&self, field: Field) -> bool {
        match self {
            Self::Or(parts) | Self::And(parts) => parts.iter().any(|part| part.asks(field)),
            Self::Not(part) => part.asks(field),
            Self::Comparison(asked, _) => *asked == field,
        }
    }
}

/// Whether one result is true, after a look at all of them for an error.
fn any(mut results: impl Iterator<Item = Result<bool, EvaluationError>>) -> Result<bool, EvaluationError> {
    results.try_fold(false, |found, result| Ok(found | result?))
}

impl Test {
    /// Whether a value of `field` passes.
    ///
    /// # Errors
    /// [`EvaluationError`].
    pub(super) fn passes(&self, field: Field, fact: Fact<'_>) -> Result<bool, EvaluationError> {
        match (self, fact) {
            (Self::In(set), fact) => Ok(set.contains(fact)),
            (Self::NotIn(set), fact) => Ok(!set.contains(fact)),
            (Self::Matches(_), Fact::Text(text)) if text.len() > MAX_MATCHED_TEXT => {
                Err(EvaluationError::TextTooLong { field: field.name(), length: text.len() })
            }
            (Self::Matches(pattern), Fact::Text(text)) => Ok(pattern.is_match(text)),
            (Self::Matches(_), Fact::Ip(_) | Fact::Port(_)) => Ok(false),
        }
    }
}
