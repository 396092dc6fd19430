//! From TOML to a tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Entry, Lines, MAX_DEPTH, Node, Value, too_deep};

/// How many syntax errors are shown: a missing quote may cause one in every line behind it.
const SHOWN_ERRORS: usize = 10;

pub(super) fn parse(text: &str) -> Result<Node<'_>, Vec<ConfigError>> {
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let errors = errors.iter().take(SHOWN_ERRORS).map(|error| ConfigError {
            line: error.span().map(|span| lines.line_at(span.start)),
            key: String::new(),
            message: format!("this is no TOML: {}", error.message()),
        });
        return Err(errors.collect());
    }
    let mut root = table_node(table.into_inner(), 1, &lines, MAX_DEPTH).map_err(|error| vec![error])?;
    root.line = 1;
    Ok(root)
}

fn table_node<'s>(
    table: DeTable<'s>,
    line: usize,
    lines: &Lines,
    depth: usize,
) -> Result<Node<'s>, ConfigError> {
    let below = depth.checked_sub(1).ok_or_else(|| too_deep(line))?;
    let entries = table
        .into_iter()
        .map(|(key, value)| Ok(Entry { key: key.into_inner(), node: node(value, lines, below)? }));
    Ok(Node { line, value: Value::Table(entries.collect::<Result<_, _>>()?) })
}

fn node<'s>(value: Spanned<DeValue<'s>>, lines: &Lines, depth: usize) -> Result<Node<'s>, ConfigError> {
    let line = lines.line_at(value.span().start);
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text),
        DeValue::Boolean(flag) => Value::Boolean(flag),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Foreign("an integer of more than 64 bits"), Value::Integer),
        DeValue::Float(_) => Value::Foreign("a floating-point number"),
        DeValue::Datetime(_) => Value::Foreign("a date"),
        DeValue::Array(array) => {
            let below = depth.checked_sub(1).ok_or_else(|| too_deep(line))?;
            let nodes = array.into_iter().map(|value| node(value, lines, below));
            Value::List(nodes.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => return table_node(table, line, lines, depth),
    };
    Ok(Node { line, value })
}
