//! The syntax tree of an expression, and the problems found on the way to it.
//!
//! Owns shapes only: names are not resolved and values not typed yet. Every part that a message
//! may point at carries its byte offset in the source. Invariant: chains of one operator are
//! flat, so the depth of a tree is bounded by what the parser allows for brackets and `not`.

use winnow::error::{ErrMode, ParserError};
use winnow::stream::Stream;

use super::ExpressionError;

/// A node of the tree; `'s` is the source text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node<'s> {
    /// `a or b or …`, two parts at least.
    Or(Vec<Self>),
    /// `a and b and …`, two parts at least.
    And(Vec<Self>),
    /// `not a`.
    Not(Box<Self>),
    /// `any(a)`.
    Any {
        /// Where `any` stands.
        at: usize,
        /// What stands in its brackets.
        inner: Box<Self>,
    },
    /// `field operator operand`.
    Comparison(Comparison<'s>),
}

/// `field operator operand`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comparison<'s> {
    /// Where the field stands.
    pub(super) at: usize,
    /// The field as written.
    pub(super) field: &'s str,
    /// Where the operator stands.
    pub(super) operator_at: usize,
    /// How to compare.
    pub(super) operator: Operator,
    /// Where the operand begins.
    pub(super) operand_at: usize,
    /// What to compare with.
    pub(super) operand: Operand<'s>,
}

/// The operators between a field and its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `in`
    In,
    /// `matches`
    Matches,
}

/// The right-hand side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operand<'s> {
    /// One value.
    Value(Literal<'s>),
    /// `{a b c..d}`
    Set(Vec<Item<'s>>),
    /// `$name`, without the sign.
    List(&'s str),
}

/// A member of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item<'s> {
    /// A value, or a prefix of addresses.
    One(Literal<'s>),
    /// `first..last`, both included.
    Range(Literal<'s>, Literal<'s>),
}

/// A value as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literal<'s> {
    /// Where it begins.
    pub(super) at: usize,
    /// Its text; what was quoted is unescaped.
    pub(super) text: LiteralText<'s>,
}

/// The text of a value, by spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LiteralText<'s> {
    /// Without quotes: a number or an address.
    Bare(&'s str),
    /// From a quoted string.
    Quoted(String),
}

impl Literal<'_> {
    /// The text, however it was spelt.
    pub(super) fn as_str(&self) -> &str {
        match &self.text {
            LiteralText::Bare(text) => text,
            LiteralText::Quoted(text) => text,
        }
    }
}

impl Operator {
    /// How the operator is written.
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::Matches => "matches",
        }
    }
}

/// What is wrong at a byte offset of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Byte offset of the offending token.
    at: usize,
    /// What is wrong and what to write instead.
    message: String,
}

impl Problem {
    /// A problem at byte `at`.
    pub(super) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    /// The same as an error that stops a parser from trying anything else.
    pub(super) fn cut(at: usize, message: impl Into<String>) -> ErrMode<Self> {
        ErrMode::Cut(Self::new(at, message))
    }

    /// Turns the byte offset into line and column.
    pub(super) fn locate(self, source: &str) -> ExpressionError {
        let before = source.get(..self.at).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline.saturating_add(1));
        let column = before.get(line_start..).map_or(0, |line| line.chars().count());
        ExpressionError {
            line: before.matches('\n').count().saturating_add(1),
            column: column.saturating_add(1),
            message: self.message,
        }
    }
}

/// Combinators make an error of their own only to backtrack from it, so it needs no position.
impl<I: Stream> ParserError<I> for Problem {
    type Inner = Self;

    fn from_input(_input: &I) -> Self {
        Self::new(0, "this is no expression")
    }

    fn into_inner(self) -> Result<Self::Inner, Self> {
        Ok(self)
    }
}
