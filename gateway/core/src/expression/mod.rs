//! The rule language of network policies: parse, check types, evaluate.
//!
//! # Language
//! - A comparison is `field operator operand`; comparisons are joined by `not`, `and`, `or` (in order
//!   of precedence) and grouped by round brackets. An expression without any text holds always.
//! - A field with `[*]` has several values and stands in `any(...)`, which holds one comparison:
//!   `any(identity.groups[*].name in {"admins" "ops"})`.
//!
//! | field | operators | operand |
//! |---|---|---|
//! | `net.src.ip`, `net.dst.ip` | `==` `!=` `in` | `10.0.0.1`, in sets also `10.0.0.0/8` and `10.0.0.1..10.0.0.9` |
//! | `net.src.port`, `net.dst.port` | `==` `!=` `in` `<` `<=` `>` `>=` | `22` or `"22"`, in sets also `8000..8100` |
//! | `net.src.geo.country` | `==` `!=` `in` `matches` | `"DE"`; case is ignored |
//! | `net.protocol` (always `tcp`) | `==` `!=` `in` `matches` | `"tcp"`; case is ignored |
//! | `access.target`, `identity.email` | `==` `!=` `in` `matches` | quoted; case is ignored |
//! | `net.vnet_id`, `identity.name` | `==` `!=` `in` `matches` | quoted; compared exactly |
//! | `identity.groups[*].name` (or `identity.groups.name[*]`), `device_posture.checks.passed[*]` | `==` `!=` `in` `matches` | quoted; compared exactly |
//!
//! - A set is `{a b}`, its members separated by blanks; `in $name` asks a [`Lists`] entry. A prefix is a
//!   set: `== 10.0.0.0/8` is refused. An IPv4-mapped IPv6 address is IPv4.
//! - Strings are unescaped (`\\`, `\"`, `\n`, `\r`, `\t`, nothing else) before a pattern is compiled.
//!   Patterns are searched for anywhere in the text; `^` and `$` anchor them.
//! - An absent fact satisfies no comparison, not even `!=`.
//!
//! # Invariants
//! Whatever is wrong with a text is refused by [`Expression::parse`] with its position; texts,
//! nesting and patterns are bounded, and no input panics. Deliberately absent: what a policy does
//! with the result.

mod check;
mod evaluate;
mod facts;
mod field;
mod lexer;
mod lists;
mod parser;
mod region;
mod set;
mod syntax;
#[cfg(test)]
pub(crate) mod tests;
mod value;

use std::fmt;
use std::sync::Arc;

pub use evaluate::{EvaluationError, MAX_MATCHED_TEXT};
pub use facts::FlowFacts;
pub use lists::{ListError, ListKind, ListKindError, Lists};
pub use value::ValueError;

use serde::{Serialize, Serializer};
use thiserror::Error;

use evaluate::Predicate;
use field::Field;
use syntax::Problem;

use crate::net::flow_box::{Region, TooManyBoxes};

/// The longest source of an expression, in bytes; longer enumerations belong in a list.
pub const MAX_SOURCE: usize = 65_536;

/// A parsed, type-checked expression; clones share it.
#[derive(Clone)]
pub struct Expression {
    source: Arc<str>,
    predicate: Arc<Predicate>,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ExpressionError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Expression {
    /// Parses and checks `source`; `$name` is looked up in `lists` now, not at evaluation.
    ///
    /// # Errors
    /// [`ExpressionError`] with the position of the first problem found; syntax is looked at before
    /// names and types.
    pub fn parse(source: &str, lists: &Lists) -> Result<Self, ExpressionError> {
        let predicate = compile(source, lists).map_err(|problem| problem.locate(source))?;
        Ok(Self { source: source.into(), predicate: Arc::new(predicate) })
    }

    /// Evaluates the expression.
    ///
    /// # Errors
    /// [`EvaluationError`] when any part of it cannot be evaluated; callers deny.
    pub fn evaluate(&self, facts: &FlowFacts<'_>) -> Result<bool, EvaluationError> {
        self.predicate.holds(facts)
    }

    /// Whether its value may depend on `net.src.port`, which is known of a connection and not of a user.
    pub fn asks_source_port(&self) -> bool {
        self.predicate.asks(Field::SourcePort)
    }

    /// The flows for which it holds, where everything but addresses, ports and protocol is unknown: a
    /// comparison with something else counts as `undecided`, negated or not.
    ///
    /// With `false` it holds for every flow of the region, whoever connects; with `true` it holds for no
    /// other flow. Where the two are equal, nothing else matters. Not to be asked of an expression that
    /// [may fail](Self::may_fail), which is neither true nor false then.
    ///
    /// # Errors
    /// [`TooManyBoxes`].
    pub fn holding(&self, undecided: bool) -> Result<Region, TooManyBoxes> {
        region::holding(&self.predicate, undecided)
    }

    /// Whether [`Self::evaluate`] fails for some facts.
    pub fn may_fail(&self) -> bool {
        region::may_fail(&self.predicate)
    }

    /// The text it was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// As its source text.
impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

fn compile(source: &str, lists: &Lists) -> Result<Predicate, Problem> {
    if source.len() > MAX_SOURCE {
        let message = format!("this expression is longer than {MAX_SOURCE} bytes: move its sets to lists");
        return Err(Problem::new(0, message));
    }
    if source.trim().is_empty() {
        return Ok(Predicate::And(Vec::new()));
    }
    let tokens = lexer::tokens(source)?;
    check::predicate(&parser::tree(&tokens)?, lists)
}
