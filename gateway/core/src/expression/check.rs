//! From the syntax tree to a predicate: names resolved, types checked, patterns compiled.
//!
//! Everything that can be wrong with an expression is found here or before, so that evaluation has
//! next to nothing left that could fail. Patterns are searched for anywhere in the text (write `^`
//! and `$` to anchor), and ignore case where the field does.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::evaluate::{Predicate, Test};
use super::field::Field;
use super::lists::Lists;
use super::set::{ValueSet, ValueSetBuilder};
use super::syntax::{Comparison, Item, Literal, LiteralText, Node, Operand, Operator, Problem};
use super::value::{ValueType, parse_port};

/// Compiled size of one pattern, in bytes.
const MAX_PATTERN_SIZE: usize = 1 << 20;
/// Patterns of one expression.
const MAX_PATTERNS: usize = 64;
/// How deep groups and repetitions of a pattern may be nested.
const MAX_PATTERN_DEPTH: u32 = 64;

/// Compiles a tree, with `$name` looked up in `lists`.
///
/// # Errors
/// [`Problem`] at the first part that is no field, no value of its field's type, or no pattern.
pub(super) fn predicate(tree: &Node<'_>, lists: &Lists) -> Result<Predicate, Problem> {
    Checker { lists, patterns: 0 }.node(tree)
}

struct Checker<'l> {
    lists: &'l Lists,
    patterns: usize,
}

impl Checker<'_> {
    fn node(&mut self, node: &Node<'_>) -> Result<Predicate, Problem> {
        match node {
            Node::Or(parts) => self.nodes(parts).map(Predicate::Or),
            Node::And(parts) => self.nodes(parts).map(Predicate::And),
            Node::Not(part) => Ok(Predicate::Not(Box::new(self.node(part)?))),
            Node::Any { at, inner } => self.any(*at, inner),
            Node::Comparison(comparison) => {
                let field = field(comparison)?;
                if field.is_plural() {
                    return Err(Problem::new(
                        comparison.at,
                        format!("`{0}` has several values: write `any({0} ...)`", comparison.field),
                    ));
                }
                self.comparison(field, comparison)
            }
        }
    }

    fn nodes(&mut self, parts: &[Node<'_>]) -> Result<Vec<Predicate>, Problem> {
        parts.iter().map(|part| self.node(part)).collect()
    }

    fn any(&mut self, at: usize, inner: &Node<'_>) -> Result<Predicate, Problem> {
        let Node::Comparison(comparison) = inner else {
            return Err(Problem::new(
                at,
                "`any` holds one comparison: write `and`, `or` and `not` outside its brackets",
            ));
        };
        let field = field(comparison)?;
        if !field.is_plural() {
            return Err(Problem::new(
                comparison.at,
                format!("`{}` has one value: write the comparison without `any`", comparison.field),
            ));
        }
        self.comparison(field, comparison)
    }

    fn comparison(&mut self, field: Field, comparison: &Comparison<'_>) -> Result<Predicate, Problem> {
        let test = match comparison.operator {
            Operator::Equal => Test::In(Arc::new(single(field, comparison)?)),
            Operator::NotEqual => Test::NotIn(Arc::new(single(field, comparison)?)),
            Operator::In => Test::In(self.set(field, comparison)?),
            Operator::Matches => Test::Matches(self.pattern(field, comparison)?),
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                Test::In(Arc::new(ValueSet::ports(port_range(field, comparison)?)))
            }
        };
        Ok(Predicate::Comparison(field, test))
    }

    fn set(&self, field: Field, comparison: &Comparison<'_>) -> Result<Arc<ValueSet>, Problem> {
        match &comparison.operand {
            Operand::Set(items) => literal_set(field, items).map(Arc::new),
            Operand::List(name) => {
                let list =
                    self.lists.find(name).map_err(|message| Problem::new(comparison.operand_at, message))?;
                let (wanted, found) = (field.value_type(), list.value_type());
                if wanted == found {
                    return Ok(Arc::clone(list));
                }
                let (wanted, found) = (wanted.description(), found.description());
                let message = format!(
                    "a member of `${name}` is {found}, but `{}` is compared with {wanted}",
                    field.name()
                );
                Err(Problem::new(comparison.operand_at, message))
            }
            Operand::Value(literal) => {
                let shown = shown(literal);
                Err(Problem::new(
                    literal.at,
                    format!("`in` takes a set: write `in {{{shown}}}` or `in $list`"),
                ))
            }
        }
    }

    fn pattern(&mut self, field: Field, comparison: &Comparison<'_>) -> Result<Regex, Problem> {
        let value_type = field.value_type();
        let ValueType::Text(text_type) = value_type else {
            let message = format!(
                "`matches` is for texts, and `{}` is {}: use `==` or `in`",
                field.name(),
                value_type.description()
            );
            return Err(Problem::new(comparison.operator_at, message));
        };
        let Operand::Value(Literal { at, text: LiteralText::Quoted(pattern) }) = &comparison.operand else {
            let message =
                "`matches` takes a pattern in double quotes, as in `matches \".*@example\\\\.com$\"`";
            return Err(Problem::new(comparison.operand_at, message));
        };
        self.patterns = self.patterns.saturating_add(1);
        if self.patterns > MAX_PATTERNS {
            let message = format!("an expression has at most {MAX_PATTERNS} patterns: join some with `|`");
            return Err(Problem::new(*at, message));
        }
        RegexBuilder::new(pattern)
            .case_insensitive(text_type.ignores_case())
            .size_limit(MAX_PATTERN_SIZE)
            .dfa_size_limit(MAX_PATTERN_SIZE)
            .nest_limit(MAX_PATTERN_DEPTH)
            .build()
            .map_err(|error| Problem::new(*at, pattern_message(&error)))
    }
}

fn field(comparison: &Comparison<'_>) -> Result<Field, Problem> {
    Field::parse(comparison.field).map_err(|message| Problem::new(comparison.at, message))
}

/// The last line of a syntax error says what is wrong; the others draw the pattern.
fn pattern_message(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(limit) = error {
        return format!("this pattern compiles to more than {limit} bytes: make its repetitions smaller");
    }
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default();
    format!("this is no regular expression: {}", reason.strip_prefix("error: ").unwrap_or(reason))
}

/// The operand of `==` and `!=`.
fn single(field: Field, comparison: &Comparison<'_>) -> Result<ValueSet, Problem> {
    let symbol = comparison.operator.symbol();
    let literal = match &comparison.operand {
        Operand::Value(literal) => literal,
        Operand::Set(_) => {
            let message = format!("`{symbol}` takes one value: write `in` before a set");
            return Err(Problem::new(comparison.operand_at, message));
        }
        Operand::List(name) => {
            let message = format!("`{symbol}` takes one value: write `in ${name}`");
            return Err(Problem::new(comparison.operand_at, message));
        }
    };
    if let (ValueType::Ip, LiteralText::Bare(prefix)) = (field.value_type(), &literal.text)
        && prefix.contains('/')
    {
        let message = format!("`{symbol}` takes one address: write `{} in {{{prefix}}}`", field.name());
        return Err(Problem::new(literal.at, message));
    }
    literal_set(field, &[Item::One(literal.clone())])
}

fn literal_set(field: Field, items: &[Item<'_>]) -> Result<ValueSet, Problem> {
    let mut members = ValueSetBuilder::new(field.value_type());
    for item in items {
        match item {
            Item::One(literal) => {
                check_quotes(field, literal)?;
                members.add(literal.as_str()).map_err(|error| Problem::new(literal.at, error.to_string()))?;
            }
            Item::Range(first, last) => {
                if !field.value_type().is_text() {
                    check_quotes(field, first)?;
                    check_quotes(field, last)?;
                }
                members
                    .add_range(first.as_str(), last.as_str())
                    .map_err(|error| Problem::new(first.at, error.to_string()))?;
            }
        }
    }
    Ok(members.build())
}

/// Texts are quoted, addresses are not, ports may be.
fn check_quotes(field: Field, literal: &Literal<'_>) -> Result<(), Problem> {
    let (value_type, text) = (field.value_type(), literal.as_str());
    let mismatch = match &literal.text {
        LiteralText::Bare(_) if value_type.is_text() => format!(
            "`{}` is compared with {} in double quotes: write {text:?}",
            field.name(),
            value_type.description()
        ),
        LiteralText::Quoted(_) if value_type == ValueType::Ip => {
            format!(
                "`{}` is compared with an address, not with a string: write {text:?} without its quotes",
                field.name()
            )
        }
        LiteralText::Bare(_) | LiteralText::Quoted(_) => return Ok(()),
    };
    Err(Problem::new(literal.at, mismatch))
}

/// The ports that satisfy an ordering; `None` when there are none, as for `> 65535`.
fn port_range(field: Field, comparison: &Comparison<'_>) -> Result<Option<(u16, u16)>, Problem> {
    let symbol = comparison.operator.symbol();
    if field.value_type() != ValueType::Port {
        let advice = if field.value_type() == ValueType::Ip { ": write `in {first..last}`" } else { "" };
        let message = format!("`{symbol}` compares ports, and `{}` is none{advice}", field.name());
        return Err(Problem::new(comparison.operator_at, message));
    }
    let Operand::Value(literal) = &comparison.operand else {
        return Err(Problem::new(comparison.operand_at, format!("`{symbol}` takes one port")));
    };
    let port = parse_port(literal.as_str()).map_err(|error| Problem::new(literal.at, error.to_string()))?;
    Ok(match comparison.operator {
        Operator::Less => port.checked_sub(1).map(|last| (0, last)),
        Operator::LessOrEqual => Some((0, port)),
        Operator::Greater => port.checked_add(1).map(|first| (first, u16::MAX)),
        Operator::GreaterOrEqual => Some((port, u16::MAX)),
        Operator::Equal | Operator::NotEqual | Operator::In | Operator::Matches => None,
    })
}

fn shown(literal: &Literal<'_>) -> String {
    match &literal.text {
        LiteralText::Bare(text) => (*text).to_owned(),
        LiteralText::Quoted(text) => format!("{text:?}"),
    }
}
