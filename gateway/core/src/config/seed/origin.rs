//! Where in a seed stands what another loader complains about.

use std::collections::HashMap;

use super::super::tree::Node;
use super::super::{ConfigError, ConfigErrors};

/// Lines of a seed by key path.
pub(super) struct Origins(HashMap<String, usize>);

impl Origins {
    pub(super) fn of(root: &Node<'_>) -> Self {
        let mut lines = HashMap::new();
        root.walk(&mut |node, path| {
            lines.insert(path.to_owned(), node.line);
        });
        Self(lines)
    }

    /// Errors of a section that was rendered by itself, with lines and keys of the seed.
    pub(super) fn errors(&self, section: &str, errors: &ConfigErrors) -> Vec<ConfigError> {
        let moved = errors.errors.iter().map(|error| {
            let joint = if error.key.is_empty() { "" } else { "." };
            let key = format!("{section}{joint}{}", error.key);
            ConfigError { line: self.line(&key), key, message: error.message.clone() }
        });
        moved.collect()
    }

    /// An error at a key of the seed.
    pub(super) fn error(&self, (key, message): (String, String)) -> ConfigError {
        ConfigError { line: self.line(&key), key, message }
    }

    /// The line of a key, or of what is around it where the key is missing.
    fn line(&self, key: &str) -> Option<usize> {
        let mut path = key;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            path = path.rfind(['.', '[']).and_then(|end| path.get(..end))?;
        }
    }
}
