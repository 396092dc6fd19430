//! From text to tokens with positions.
//!
//! Owns what a word, a string and a symbol are, and the unescaping of strings: a pattern written
//! `".*@example\\.com"` leaves here as `.*@example\.com`, before anything compiles it. An escape
//! that is not known is refused rather than guessed. Knows no fields and no types.

use winnow::combinator::{alt, dispatch, eof, fail, not, peek, preceded, repeat, terminated};
use winnow::error::{ErrMode, ModalResult};
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location, Stream};
use winnow::token::{any, one_of, take_till, take_while};

use super::syntax::{Operator, Problem};

type Source<'s> = LocatingSlice<&'s str>;

/// A token and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'s> {
    /// Byte offset of its first character.
    pub(super) at: usize,
    /// What it is.
    pub(super) kind: TokenKind<'s>,
}

/// The kinds of token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenKind<'s> {
    /// A field, a number, an address, or a misspelling of one.
    Word(&'s str),
    /// A quoted string, unescaped.
    Text(String),
    /// `$name`, without the sign.
    List(&'s str),
    /// An operator between field and operand.
    Operator(Operator),
    /// A keyword or a piece of punctuation.
    Symbol(Symbol),
}

/// Tokens that are nothing but themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    /// `and`
    And,
    /// `or`
    Or,
    /// `not`
    Not,
    /// `any`
    Any,
    /// `(`
    OpenBracket,
    /// `)`
    CloseBracket,
    /// `{`
    OpenBrace,
    /// `}`
    CloseBrace,
    /// `..`
    Range,
    /// After the last character.
    End,
}

impl Symbol {
    /// What messages call it.
    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::And => "`and`",
            Self::Or => "`or`",
            Self::Not => "`not`",
            Self::Any => "`any`",
            Self::OpenBracket => "`(`",
            Self::CloseBracket => "`)`",
            Self::OpenBrace => "`{`",
            Self::CloseBrace => "`}`",
            Self::Range => "`..`",
            Self::End => "the end",
        }
    }
}

/// Splits `source`; the last token is always [`Symbol::End`].
///
/// # Errors
/// [`Problem`] at the first character that begins no token.
pub(super) fn tokens(source: &str) -> Result<Vec<Token<'_>>, Problem> {
    let all = repeat(0.., preceded(blanks, token));
    let mut tokens: Vec<_> = terminated(all, (blanks, eof))
        .parse(LocatingSlice::new(source))
        .map_err(|error| error.into_inner())?;
    tokens.push(Token { at: source.len(), kind: TokenKind::Symbol(Symbol::End) });
    Ok(tokens)
}

fn blanks<'s>(input: &mut Source<'s>) -> ModalResult<&'s str, Problem> {
    take_while(0.., char::is_whitespace).parse_next(input)
}

fn token<'s>(input: &mut Source<'s>) -> ModalResult<Token<'s>, Problem> {
    let at = input.current_token_start();
    let kind = dispatch! { peek(any);
        '"' => string,
        '$' => list,
        '(' => symbol("(", Symbol::OpenBracket),
        ')' => symbol(")", Symbol::CloseBracket),
        '{' => symbol("{", Symbol::OpenBrace),
        '}' => symbol("}", Symbol::CloseBrace),
        '=' | '!' | '<' | '>' => alt((operator, refuse)),
        _ => alt((symbol("..", Symbol::Range), word, refuse)),
    }
    .parse_next(input)?;
    Ok(Token { at, kind })
}

fn symbol<'s>(
    text: &'static str,
    symbol: Symbol,
) -> impl Parser<Source<'s>, TokenKind<'s>, ErrMode<Problem>> {
    text.value(TokenKind::Symbol(symbol))
}

fn operator<'s>(input: &mut Source<'s>) -> ModalResult<TokenKind<'s>, Problem> {
    alt((
        "==".value(Operator::Equal),
        "!=".value(Operator::NotEqual),
        "<=".value(Operator::LessOrEqual),
        ">=".value(Operator::GreaterOrEqual),
        "<".value(Operator::Less),
        ">".value(Operator::Greater),
    ))
    .map(TokenKind::Operator)
    .parse_next(input)
}

/// A run of word characters, which ends before `..`; `[*]` is part of a word.
fn word<'s>(input: &mut Source<'s>) -> ModalResult<TokenKind<'s>, Problem> {
    let character = preceded(not(".."), one_of(is_word_character)).void();
    let text = repeat::<_, _, (), _, _>(1.., alt(("[*]".void(), character))).take().parse_next(input)?;
    Ok(match text {
        "and" => TokenKind::Symbol(Symbol::And),
        "or" => TokenKind::Symbol(Symbol::Or),
        "not" => TokenKind::Symbol(Symbol::Not),
        "any" => TokenKind::Symbol(Symbol::Any),
        "in" => TokenKind::Operator(Operator::In),
        "matches" => TokenKind::Operator(Operator::Matches),
        _ => TokenKind::Word(text),
    })
}

/// Characters of fields, numbers and addresses, and those of texts that lack their quotes, so
/// that a message can show the whole of what was written.
fn is_word_character(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '@' | '*' | '+' | '%')
}

fn list<'s>(input: &mut Source<'s>) -> ModalResult<TokenKind<'s>, Problem> {
    let at = input.current_token_start();
    let name = preceded('$', take_while(0.., |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
        .parse_next(input)?;
    if name.is_empty() {
        return Err(Problem::cut(at, "`$` needs the name of a list after it, as in `$servers`"));
    }
    Ok(TokenKind::List(name))
}

fn string<'s>(input: &mut Source<'s>) -> ModalResult<TokenKind<'s>, Problem> {
    let at = input.current_token_start();
    let plain = take_till(1.., |c: char| matches!(c, '"' | '\\') || c.is_control());
    let fragment = alt((escape, plain.map(Fragment::Plain)));
    let text = preceded(
        '"',
        repeat(0.., fragment).fold(String::new, |mut text, fragment| {
            match fragment {
                Fragment::Plain(plain) => text.push_str(plain),
                Fragment::Escaped(c) => text.push(c),
            }
            text
        }),
    )
    .parse_next(input)?;
    match input.next_token() {
        Some('"') => Ok(TokenKind::Text(text)),
        _ => Err(Problem::cut(at, "this string has no closing `\"` on its line")),
    }
}

enum Fragment<'s> {
    Plain(&'s str),
    Escaped(char),
}

fn escape<'s>(input: &mut Source<'s>) -> ModalResult<Fragment<'s>, Problem> {
    let at = input.current_token_start();
    let escaped = preceded('\\', any).parse_next(input)?;
    match escaped {
        '\\' | '"' => Ok(Fragment::Escaped(escaped)),
        'n' => Ok(Fragment::Escaped('\n')),
        'r' => Ok(Fragment::Escaped('\r')),
        't' => Ok(Fragment::Escaped('\t')),
        other => Err(Problem::cut(
            at,
            format!(
                "`\\{}` is no escape: a backslash that is part of the text or pattern is written twice, `\\\\{}`",
                other.escape_debug(),
                other.escape_debug()
            ),
        )),
    }
}

/// Fails with what to write instead of the character found.
fn refuse<'s>(input: &mut Source<'s>) -> ModalResult<TokenKind<'s>, Problem> {
    let at = input.current_token_start();
    let rest: &str = input.as_ref();
    let Some(first) = rest.chars().next() else { return fail.parse_next(input) };
    let message = match first {
        '&' => "write `and`".to_owned(),
        '|' => "write `or`".to_owned(),
        '^' => "there is no exclusive or: spell it out with `and`, `or` and `not`".to_owned(),
        '!' => "write `not` to negate, or `!=` for \"differs from\"".to_owned(),
        '=' => "write `==` to compare".to_owned(),
        '~' => "write `matches` to compare with a pattern".to_owned(),
        ',' | ';' => "the members of a set are separated by spaces only: `{22 2222}`".to_owned(),
        '\'' | '`' => "strings are written in double quotes".to_owned(),
        '[' | ']' => {
            "the elements of a field are written `[*]`, as in `any(identity.groups[*].name == \"admins\")`"
                .to_owned()
        }
        '#' => "there are no comments in expressions".to_owned(),
        other => format!("unexpected character `{}`", other.escape_debug()),
    };
    Err(Problem::cut(at, message))
}
