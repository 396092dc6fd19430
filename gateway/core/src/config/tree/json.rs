//! From JSON to a tree.
//!
//! `serde_json` tells no positions, but a [`RawValue`] borrows from the text: where it lies in the
//! text is its position. The whole text is checked once, and then opened level by level.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{ConfigError, Entry, Lines, MAX_DEPTH, Node, Value, push_key, too_deep};

pub(super) fn parse(text: &str) -> Result<Node<'_>, Vec<ConfigError>> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| vec![syntax_error(&error)])?;
    let mut reader = Reader { text, lines: Lines::new(text), errors: Vec::new() };
    let node = reader.node(raw, MAX_DEPTH);
    if reader.errors.is_empty() { Ok(node) } else { Err(reader.errors) }
}

fn syntax_error(error: &serde_json::Error) -> ConfigError {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let what = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    ConfigError {
        line: Some(line.max(1)),
        key: String::new(),
        message: format!("this is no JSON: {what} (column {column})"),
    }
}

struct Reader<'s> {
    text: &'s str,
    lines: Lines,
    errors: Vec<ConfigError>,
}

/// The members of an object in their order, duplicates included.
struct Members<'s>(Vec<(Text<'s>, &'s RawValue)>);

/// A string, borrowed unless it holds escapes.
#[derive(serde::Deserialize)]
struct Text<'s>(#[serde(borrow)] Cow<'s, str>);

impl<'s> Reader<'s> {
    fn node(&mut self, raw: &'s RawValue, depth: usize) -> Node<'s> {
        let offset = raw.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        let line = self.lines.line_at(offset);
        let opened = match raw.get().as_bytes().first() {
            Some(b'{' | b'[') if depth == 0 => {
                self.errors.push(too_deep(line));
                Ok(Value::Null)
            }
            Some(b'{') => serde_json::from_str(raw.get()).map(|members| self.table(members, depth - 1)),
            Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(raw.get())
                .map(|raws| Value::List(raws.into_iter().map(|raw| self.node(raw, depth - 1)).collect())),
            Some(b'"') => serde_json::from_str(raw.get()).map(|Text(text)| Value::Text(text)),
            Some(b't' | b'f') => serde_json::from_str(raw.get()).map(Value::Boolean),
            Some(b'n') => Ok(Value::Null),
            Some(_) | None => Ok(number(raw.get())),
        };
        let value = opened.unwrap_or_else(|error| {
            self.errors.push(ConfigError { line: Some(line), ..syntax_error(&error) });
            Value::Null
        });
        Node { line, value }
    }

    fn table(&mut self, Members(members): Members<'s>, depth: usize) -> Value<'s> {
        let mut seen = HashSet::new();
        let mut entries = Vec::with_capacity(members.len());
        for (Text(key), raw) in members {
            let node = self.node(raw, depth);
            if seen.insert(key.clone()) {
                entries.push(Entry { key, node });
            } else {
                let mut path = String::new();
                push_key(&mut path, &key);
                let message = format!("the key {path} is given twice in one object: take one out");
                self.errors.push(ConfigError { line: Some(node.line), key: String::new(), message });
            }
        }
        Value::Table(entries)
    }
}

fn number(text: &str) -> Value<'static> {
    match text.parse() {
        Ok(number) => Value::Integer(number),
        Err(_) if text.contains(['.', 'e', 'E']) => Value::Foreign("a floating-point number"),
        Err(_) => Value::Foreign("an integer of more than 64 bits"),
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}
