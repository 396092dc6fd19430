//! From tokens to the syntax tree.
//!
//! ```text
//! expression  = conjunction { "or" conjunction }
//! conjunction = condition { "and" condition }
//! condition   = "not" condition | "any" "(" expression ")" | "(" expression ")" | comparison
//! comparison  = FIELD OPERATOR operand
//! operand     = value | "{" item { item } "}" | "$" NAME
//! item        = value [ ".." value ]
//! ```
//! `not` binds tighter than `and`, `and` tighter than `or`. Invariant: recursion is bounded by
//! [`MAX_DEPTH`], so no text can exhaust the stack. Fields, types and the rule that `any` holds one
//! comparison are checked later.

use winnow::combinator::{repeat_till, separated, terminated};
use winnow::error::{ErrMode, ModalResult};
use winnow::prelude::*;
use winnow::stream::{Stream, TokenSlice};
use winnow::token::any;

use super::lexer::{Symbol, Token, TokenKind};
use super::syntax::{Comparison, Item, Literal, LiteralText, Node, Operand, Operator, Problem};

/// How deep brackets and `not` may be nested.
pub(super) const MAX_DEPTH: usize = 64;

type Tokens<'t, 's> = TokenSlice<'t, Token<'s>>;

/// Builds the tree of `tokens`, which end with [`Symbol::End`].
///
/// # Errors
/// [`Problem`] at the first token that does not fit.
pub(super) fn tree<'s>(tokens: &[Token<'s>]) -> Result<Node<'s>, Problem> {
    terminated(expression(0), end).parse(TokenSlice::new(tokens)).map_err(|error| error.into_inner())
}

fn expression<'t, 's: 't>(depth: usize) -> impl Parser<Tokens<'t, 's>, Node<'s>, ErrMode<Problem>> {
    let conjunction = separated(1.., move |input: &mut _| condition(input, depth), exactly(Symbol::And))
        .map(|parts| flat(parts, Node::And));
    separated(1.., conjunction, exactly(Symbol::Or)).map(|parts| flat(parts, Node::Or))
}

/// A chain of one part is that part.
fn flat<'s>(mut parts: Vec<Node<'s>>, join: fn(Vec<Node<'s>>) -> Node<'s>) -> Node<'s> {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => join(parts),
    }
}

fn condition<'s>(input: &mut Tokens<'_, 's>, depth: usize) -> ModalResult<Node<'s>, Problem> {
    let token = any.parse_next(input)?;
    let at = token.at;
    if depth > MAX_DEPTH {
        return Err(Problem::cut(at, format!("brackets and `not` are nested more than {MAX_DEPTH} deep")));
    }
    let depth = depth.saturating_add(1);
    match &token.kind {
        TokenKind::Symbol(Symbol::Not) => Ok(Node::Not(Box::new(condition(input, depth)?))),
        TokenKind::Symbol(Symbol::OpenBracket) => {
            terminated(expression(depth), close_bracket(at)).parse_next(input)
        }
        TokenKind::Symbol(Symbol::Any) => {
            expect(Symbol::OpenBracket, "`(` after `any`").parse_next(input)?;
            let inner = terminated(expression(depth), close_bracket(at)).parse_next(input)?;
            Ok(Node::Any { at, inner: Box::new(inner) })
        }
        TokenKind::Word(field) => comparison(input, at, field).map(Node::Comparison),
        TokenKind::Text(_) | TokenKind::List(_) | TokenKind::Operator(_) | TokenKind::Symbol(_) => {
            Err(unexpected(token, "a condition such as `net.dst.port == 22`"))
        }
    }
}

fn comparison<'s>(
    input: &mut Tokens<'_, 's>,
    at: usize,
    field: &'s str,
) -> ModalResult<Comparison<'s>, Problem> {
    let token = any.parse_next(input)?;
    let TokenKind::Operator(operator) = token.kind else {
        if let Some(correct) = misspelt_keyword(field) {
            return Err(Problem::cut(at, format!("`{field}` is no field; write `{correct}`")));
        }
        return Err(unexpected(token, &format!("an operator after `{field}`: == != < <= > >= in matches")));
    };
    let operand_at = input.peek_token().map_or(token.at, |token| token.at);
    let operand = operand(input, operator)?;
    Ok(Comparison { at, field, operator_at: token.at, operator, operand_at, operand })
}

fn operand<'s>(input: &mut Tokens<'_, 's>, operator: Operator) -> ModalResult<Operand<'s>, Problem> {
    let token = any.parse_next(input)?;
    match &token.kind {
        TokenKind::Symbol(Symbol::OpenBrace) => set(input, token.at).map(Operand::Set),
        TokenKind::List(name) => Ok(Operand::List(name)),
        TokenKind::Word(_) | TokenKind::Text(_) | TokenKind::Operator(_) | TokenKind::Symbol(_) => {
            let expected = format!("a value after `{}`", operator.symbol());
            value(token, &expected).map(Operand::Value)
        }
    }
}

fn set<'s>(input: &mut Tokens<'_, 's>, at: usize) -> ModalResult<Vec<Item<'s>>, Problem> {
    let (items, _): (Vec<_>, _) = repeat_till(0.., item, exactly(Symbol::CloseBrace)).parse_next(input)?;
    if items.is_empty() {
        return Err(Problem::cut(at, "an empty set holds nothing: name its members, as in `{22 2222}`"));
    }
    Ok(items)
}

fn item<'s>(input: &mut Tokens<'_, 's>) -> ModalResult<Item<'s>, Problem> {
    let token = any.parse_next(input)?;
    if let TokenKind::List(name) = &token.kind {
        return Err(Problem::cut(
            token.at,
            format!("a list stands alone: write `in ${name}`, without braces"),
        ));
    }
    let first = value(token, "a member of the set or its closing `}`")?;
    if !input.peek_token().is_some_and(|token| token.kind == TokenKind::Symbol(Symbol::Range)) {
        return Ok(Item::One(first));
    }
    exactly(Symbol::Range).parse_next(input)?;
    let last = value(any.parse_next(input)?, "the end of the range after `..`")?;
    Ok(Item::Range(first, last))
}

fn value<'s>(token: &Token<'s>, expected: &str) -> ModalResult<Literal<'s>, Problem> {
    let text = match &token.kind {
        TokenKind::Word(word) => LiteralText::Bare(word),
        TokenKind::Text(text) => LiteralText::Quoted(text.clone()),
        TokenKind::List(_) | TokenKind::Operator(_) | TokenKind::Symbol(_) => {
            return Err(unexpected(token, expected));
        }
    };
    Ok(Literal { at: token.at, text })
}

fn end<'t, 's: 't>(input: &mut Tokens<'t, 's>) -> ModalResult<(), Problem> {
    expect(Symbol::End, "`and`, `or` or the end of the expression").parse_next(input)
}

/// Consumes this symbol, or backtracks.
fn exactly<'t, 's: 't>(symbol: Symbol) -> impl Parser<Tokens<'t, 's>, (), ErrMode<Problem>> {
    any.verify(move |token: &Token<'s>| token.kind == TokenKind::Symbol(symbol)).void()
}

/// Consumes this symbol, or fails with what was expected.
fn expect<'t, 's: 't>(
    symbol: Symbol,
    expected: &'static str,
) -> impl Parser<Tokens<'t, 's>, (), ErrMode<Problem>> {
    move |input: &mut Tokens<'t, 's>| {
        let token = any.parse_next(input)?;
        if token.kind == TokenKind::Symbol(symbol) { Ok(()) } else { Err(unexpected(token, expected)) }
    }
}

/// Consumes the `)` of the bracket opened at byte `opened_at`.
fn close_bracket<'t, 's: 't>(opened_at: usize) -> impl Parser<Tokens<'t, 's>, (), ErrMode<Problem>> {
    move |input: &mut Tokens<'t, 's>| {
        let token = any.parse_next(input)?;
        match token.kind {
            TokenKind::Symbol(Symbol::CloseBracket) => Ok(()),
            TokenKind::Symbol(Symbol::End) => {
                Err(Problem::cut(opened_at, "this bracket is never closed: a `)` is missing"))
            }
            TokenKind::Word(_)
            | TokenKind::Text(_)
            | TokenKind::List(_)
            | TokenKind::Operator(_)
            | TokenKind::Symbol(_) => Err(unexpected(token, "`and`, `or` or `)`")),
        }
    }
}

fn unexpected(token: &Token<'_>, expected: &str) -> ErrMode<Problem> {
    let found = match &token.kind {
        TokenKind::Word(word) => {
            if let Some(correct) = misspelt_keyword(word) {
                return Problem::cut(token.at, format!("`{word}` is no operator; write `{correct}`"));
            }
            format!("`{word}`")
        }
        TokenKind::Text(text) => format!("the string {text:?}"),
        TokenKind::List(name) => format!("`${name}`"),
        TokenKind::Operator(operator) => format!("`{}`", operator.symbol()),
        TokenKind::Symbol(symbol) => symbol.description().to_owned(),
    };
    Problem::cut(token.at, format!("expected {expected}, found {found}"))
}

/// What to write instead of a keyword of related languages, or of a keyword in capitals.
fn misspelt_keyword(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "and" => "and",
        "or" => "or",
        "not" => "not",
        "any" => "any",
        "in" => "in",
        "matches" => "matches",
        "eq" => "==",
        "ne" => "!=",
        "lt" => "<",
        "le" => "<=",
        "gt" => ">",
        "ge" => ">=",
        "contains" | "like" | "regex" => "matches \"...\"",
        "is" => "==",
        _ => return None,
    })
}
