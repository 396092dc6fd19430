//! A configuration file as a tree of values, each with its line.
//!
//! TOML and JSON end in the same tree, so that everything behind it is written once. Deserialising
//! into structs would stop at the first error; a tree can be read on past any number of them.
//! Invariant: a tree is at most [`MAX_DEPTH`] deep, so that walking it may recurse.

mod json;
mod toml;

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{ConfigError, Format};

/// How deep values may nest; the files of this product need eight.
pub(super) const MAX_DEPTH: usize = 32;

/// A value and where it is.
#[derive(Debug)]
pub(super) struct Node<'s> {
    /// Line of its first character, from 1.
    pub(super) line: usize,
    pub(super) value: Value<'s>,
}

/// A value of a configuration file.
#[derive(Debug)]
pub(super) enum Value<'s> {
    /// JSON only; as if the key were absent.
    Null,
    Boolean(bool),
    Integer(i64),
    Text(Cow<'s, str>),
    List(Vec<Node<'s>>),
    Table(Vec<Entry<'s>>),
    /// A kind of value that no key takes, by its name with an article.
    Foreign(&'static str),
}

/// A key of a table and its value.
#[derive(Debug)]
pub(super) struct Entry<'s> {
    pub(super) key: Cow<'s, str>,
    pub(super) node: Node<'s>,
}

/// Reads a file.
///
/// # Errors
/// What is wrong with its syntax, in the order of the file.
pub(super) fn parse(text: &str, format: Format) -> Result<Node<'_>, Vec<ConfigError>> {
    match format {
        Format::Toml => toml::parse(text),
        Format::Json => json::parse(text),
    }
}

impl Node<'_> {
    /// What the value is, with an article.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Boolean(_) => "a boolean",
            Value::Integer(_) => "an integer",
            Value::Text(_) => "a string",
            Value::List(_) => "an array",
            Value::Table(_) => "a table",
            Value::Foreign(kind) => kind,
        }
    }

    /// Calls `visit` with each node below this one and its key path, this one first.
    pub(super) fn walk(&self, visit: &mut dyn FnMut(&Node<'_>, &str)) {
        self.walk_below(&mut String::new(), visit);
    }

    fn walk_below(&self, path: &mut String, visit: &mut dyn FnMut(&Node<'_>, &str)) {
        visit(self, path);
        let length = path.len();
        match &self.value {
            Value::List(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    // Writing to a String cannot fail.
                    write!(path, "[{index}]").unwrap_or_default();
                    node.walk_below(path, visit);
                    path.truncate(length);
                }
            }
            Value::Table(entries) => {
                for entry in entries {
                    push_key(path, &entry.key);
                    entry.node.walk_below(path, visit);
                    path.truncate(length);
                }
            }
            Value::Null | Value::Boolean(_) | Value::Integer(_) | Value::Text(_) | Value::Foreign(_) => {}
        }
    }
}

/// Appends a key to a key path, quoted unless it is a bare key of TOML.
pub(super) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare {
        path.push_str(key);
    } else {
        write!(path, "{key:?}").unwrap_or_default();
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(breaks.map(|(offset, _)| offset + 1)).collect())
    }

    /// The line, from 1, that holds the byte at `offset`.
    fn line_at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

fn too_deep(line: usize) -> ConfigError {
    ConfigError {
        line: Some(line),
        key: String::new(),
        message: format!("values nest more than {MAX_DEPTH} deep here: no key of this file needs that"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(text: &str, format: Format) -> Vec<String> {
        let mut all = Vec::new();
        parse(text, format).unwrap().walk(&mut |node, path| all.push(format!("{}:{path}", node.line)));
        all.sort();
        all
    }

    #[test]
    fn nodes_know_their_line_and_path() {
        let toml = "top = 1\n\n[[rules]]\nname = \"a\"\n[[rules]]\nsub = [\n  { x = 1 },\n  { \"a b\" = 2 },\n]\n\n[ip.v4]\naddr = \"x\"\n";
        assert_eq!(
            paths(toml, Format::Toml),
            [
                "11:ip",
                "11:ip.v4",
                "12:ip.v4.addr",
                "1:",
                "1:top",
                "3:rules",
                "3:rules[0]",
                "4:rules[0].name",
                "5:rules[1]",
                "6:rules[1].sub",
                "7:rules[1].sub[0]",
                "7:rules[1].sub[0].x",
                "8:rules[1].sub[1]",
                "8:rules[1].sub[1].\"a b\"",
            ]
        );
        let json = "{\n \"rules\": [\n  {\"name\": \"a\"},\n  {\"sub\": [\n   1]}]}";
        assert_eq!(
            paths(json, Format::Json),
            [
                "1:",
                "2:rules",
                "3:rules[0]",
                "3:rules[0].name",
                "4:rules[1]",
                "4:rules[1].sub",
                "5:rules[1].sub[0]"
            ]
        );
    }

    #[test]
    fn syntax_errors_name_their_line() {
        let lines = |text: &str, format| {
            let errors = parse(text, format).unwrap_err();
            errors.iter().map(|error| error.line).collect::<Vec<_>>()
        };
        assert_eq!(lines("a = 1\nb = \nc = 2\n", Format::Toml), [Some(2)]);
        assert_eq!(lines("a = 1\nb = 2\na = 3\n", Format::Toml), [Some(3)]);
        assert_eq!(lines("{\n\"a\": 1,\n}", Format::Json), [Some(3)]);
        assert_eq!(lines("{\"a\": 1,\n\"a\": 2,\n\"a\": 3}", Format::Json), [Some(2), Some(3)]);
        assert_eq!(lines("", Format::Json), [Some(1)]);
        assert_eq!(lines("{} x", Format::Json), [Some(1)]);
    }

    #[test]
    fn depth_is_bounded() {
        for format in [Format::Toml, Format::Json] {
            let nested = |depth: usize| {
                let list = "[".repeat(depth) + &"]".repeat(depth);
                match format {
                    Format::Toml => format!("a = {list}"),
                    Format::Json => format!("{{\"a\": {list}}}"),
                }
            };
            assert!(parse(&nested(20), format).is_ok());
            assert!(parse(&nested(100), format).is_err());
            assert!(parse(&nested(100_000), format).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), near in "[\\[\\]{}=,:\"'a1.\n# -]{0,40}") {
            for text in [text, near] {
                for format in [Format::Toml, Format::Json] {
                    if let Err(errors) = parse(&text, format) {
                        prop_assert!(!errors.is_empty());
                    }
                }
            }
        }
    }
}
