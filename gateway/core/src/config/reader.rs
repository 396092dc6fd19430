//! Reading values out of a tree, collecting every problem on the way.
//!
//! A function that returns `None` has reported why; its caller goes on with the next value. Key
//! paths are worked out once at the end, so that a file without problems pays nothing for them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::ptr;

use super::tree::{Entry, Node, Value, push_key};
use super::{ConfigError, ConfigErrors};
use crate::suggest::instead;

/// How many problems of a kind are shown; a generated file may have one in every object.
const SHOWN: usize = 100;

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

#[derive(Debug)]
struct Problem {
    /// Address of the node it is about, which tells its key path.
    node: usize,
    line: usize,
    /// A key below the node that is missing.
    missing: Option<&'static str>,
    message: String,
}

/// A table whose keys are all known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'t> {
    pub(super) node: &'t Node<'t>,
    entries: &'t [Entry<'t>],
    problems: &'t Problems,
}

impl Problems {
    /// Reports an error about a value.
    pub(super) fn error(&self, node: &Node<'_>, message: impl Display) {
        self.errors.borrow_mut().push(Problem::new(node, message));
    }

    /// Reports what is allowed but probably not meant.
    pub(super) fn warn(&self, node: &Node<'_>, message: impl Display) {
        self.warnings.borrow_mut().push(Problem::new(node, message));
    }

    /// What was read and the warnings, or else the errors, both in the order of the file.
    ///
    /// # Errors
    /// All errors; never none.
    pub(super) fn finish<T>(
        self,
        read: Option<T>,
        root: &Node<'_>,
        file: &str,
    ) -> Result<(T, Vec<String>), ConfigErrors> {
        let named = |errors| ConfigErrors { file: file.to_owned(), errors };
        let errors = located(self.errors.into_inner(), root);
        let warnings = located(self.warnings.into_inner(), root);
        match read {
            Some(read) if errors.is_empty() => {
                let warnings = warnings.into_iter().map(|warning| named(vec![warning]).to_string());
                Ok((read, warnings.collect()))
            }
            None if errors.is_empty() => {
                let message = "the file cannot be used as it is".to_owned();
                Err(named(vec![ConfigError { line: None, key: String::new(), message }]))
            }
            Some(_) | None => Err(named(errors)),
        }
    }

    /// A string.
    pub(super) fn text<'t>(&self, node: &'t Node<'t>) -> Option<&'t str> {
        if let Value::Text(text) = &node.value {
            return Some(text);
        }
        self.error(node, format_args!("write a string in quotes, not {}", node.kind()));
        None
    }

    /// A string that names something: not empty, and no control characters.
    pub(super) fn name<'t>(&self, node: &'t Node<'t>) -> Option<&'t str> {
        let text = self.text(node)?;
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            self.error(node, "write a name: not empty, and without control characters");
            return None;
        }
        Some(text)
    }

    /// A string that `parse` accepts.
    pub(super) fn parsed<T, E: Display>(
        &self,
        node: &Node<'_>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(self.text(node)?).map_err(|error| self.error(node, error)).ok()
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, node: &Node<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let instead = instead(text, &known);
            self.error(node, format_args!("{text:?} is not possible here: {instead}"));
        }
        found
    }

    /// A boolean.
    pub(super) fn flag(&self, node: &Node<'_>) -> Option<bool> {
        if let Value::Boolean(flag) = node.value {
            return Some(flag);
        }
        self.error(node, format_args!("write true or false, not {}", node.kind()));
        None
    }

    /// An integer within a range.
    pub(super) fn integer<T: TryFrom<i64> + PartialOrd + Display>(
        &self,
        node: &Node<'_>,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        let number = if let Value::Integer(number) = node.value { T::try_from(number).ok() } else { None };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.error(node, format_args!("write an integer from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// An array.
    pub(super) fn list<'t>(&self, node: &'t Node<'t>) -> &'t [Node<'t>] {
        if let Value::List(nodes) = &node.value {
            return nodes;
        }
        self.error(node, format_args!("write an array in brackets, not {}", node.kind()));
        &[]
    }

    /// The entries of a table whose keys the file chooses.
    pub(super) fn entries<'t>(&self, node: &'t Node<'t>) -> Option<&'t [Entry<'t>]> {
        if let Value::Table(entries) = &node.value {
            return Some(entries);
        }
        self.error(node, format_args!("write a table, not {}", node.kind()));
        None
    }
}

impl Problem {
    fn new(node: &Node<'_>, message: impl Display) -> Self {
        Self {
            node: ptr::from_ref(node).addr(),
            line: node.line,
            missing: None,
            message: message.to_string(),
        }
    }
}

/// Sorts problems by line and gives each its key path.
fn located(mut problems: Vec<Problem>, root: &Node<'_>) -> Vec<ConfigError> {
    problems.sort_by_key(|problem| problem.line);
    let hidden = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    let mut paths: HashMap<usize, String> =
        problems.iter().map(|problem| (problem.node, String::new())).collect();
    if !paths.is_empty() {
        root.walk(&mut |node, path| {
            if let Some(known) = paths.get_mut(&ptr::from_ref(node).addr()) {
                path.clone_into(known);
            }
        });
    }
    let mut errors: Vec<ConfigError> = problems
        .into_iter()
        .map(|problem| {
            let mut key = paths.get(&problem.node).cloned().unwrap_or_default();
            if let Some(missing) = problem.missing {
                push_key(&mut key, missing);
            }
            ConfigError { line: Some(problem.line), key, message: problem.message }
        })
        .collect();
    if hidden > 0 {
        let message = format!("and {hidden} more");
        errors.push(ConfigError { line: None, key: String::new(), message });
    }
    errors
}

impl<'t> Object<'t> {
    /// Opens a table and reports every key that is not in `known`.
    pub(super) fn open(node: &'t Node<'t>, problems: &'t Problems, known: &[&str]) -> Option<Self> {
        let entries = problems.entries(node)?;
        for entry in entries.iter().filter(|entry| !known.contains(&&*entry.key)) {
            let instead = instead(&entry.key, known);
            problems.error(&entry.node, format_args!("there is no key {:?} here: {instead}", entry.key));
        }
        Some(Self { node, entries, problems })
    }

    /// The value of a key, if it is there.
    pub(super) fn find(&self, key: &str) -> Option<&'t Node<'t>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (!matches!(entry.node.value, Value::Null)).then_some(&entry.node)
    }

    /// The value of a key that must be there; `example` is how it could look.
    pub(super) fn need(&self, key: &'static str, example: &str) -> Option<&'t Node<'t>> {
        let found = self.find(key);
        if found.is_none() {
            let mut problem =
                Problem::new(self.node, format_args!("this key is missing: write for example {example}"));
            problem.missing = Some(key);
            self.problems.errors.borrow_mut().push(problem);
        }
        found
    }

    /// A table below this one, if it is there.
    pub(super) fn object(&self, key: &str, known: &[&str]) -> Option<Self> {
        Self::open(self.find(key)?, self.problems, known)
    }

    /// The nodes of an array; none if the key is absent.
    pub(super) fn list(&self, key: &str) -> &'t [Node<'t>] {
        self.find(key).map_or(&[], |node| self.problems.list(node))
    }

    /// Whether a key is absent or an empty array.
    pub(super) fn is_empty(&self, key: &str) -> bool {
        self.find(key).is_none_or(|node| matches!(&node.value, Value::List(nodes) if nodes.is_empty()))
    }

    /// The strings of an array; none if the key is absent.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.list(key).iter().filter_map(|node| self.problems.name(node)).map(str::to_owned).collect()
    }

    /// A boolean; `default` if the key is absent.
    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        self.find(key).and_then(|node| self.problems.flag(node)).unwrap_or(default)
    }

    /// A name, if the key is there.
    pub(super) fn name(&self, key: &str) -> Option<&'t str> {
        self.find(key).and_then(|node| self.problems.name(node))
    }

    /// A name that must be there.
    pub(super) fn need_name(&self, key: &'static str, example: &str) -> Option<&'t str> {
        self.need(key, example).and_then(|node| self.problems.name(node))
    }
}
