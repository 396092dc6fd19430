//! The unix account a user asks for.
//!
//! Invariant: a [`Login`] is non-empty, at most 255 bytes of UTF-8, and free of control characters
//! and commas (a comma separates principals in OpenSSH's own lists).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A unix account on a target, as the SSH user name (RFC 4252 section 5).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Login(Arc<str>);

/// Why a text is no login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoginError {
    /// The text is empty.
    #[error("a login must not be empty")]
    Empty,
    /// The text has more than 255 bytes.
    #[error("a login has at most 255 bytes")]
    TooLong,
    /// The text contains a character that cannot be part of a login.
    #[error("a login must not contain control characters or commas")]
    BadCharacter,
}

impl Login {
    /// Checks `text` and keeps it.
    ///
    /// # Errors
    /// [`LoginError`] when the text breaks the invariant of this module.
    pub fn new(text: &str) -> Result<Self, LoginError> {
        if text.is_empty() {
            return Err(LoginError::Empty);
        }
        if text.len() > 255 {
            return Err(LoginError::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c == ',') {
            return Err(LoginError::BadCharacter);
        }
        Ok(Self(text.into()))
    }

    /// The account name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Login {
    type Error = LoginError;

    fn try_from(text: String) -> Result<Self, LoginError> {
        Self::new(&text)
    }
}

impl From<Login> for String {
    fn from(login: Login) -> Self {
        login.as_str().to_owned()
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_what_is_no_account() {
        assert_eq!(Login::new(""), Err(LoginError::Empty));
        assert_eq!(Login::new(&"a".repeat(256)), Err(LoginError::TooLong));
        assert_eq!(Login::new("a\n"), Err(LoginError::BadCharacter));
        assert_eq!(Login::new("root,bob"), Err(LoginError::BadCharacter));
        assert_eq!(Login::new("root").unwrap().as_str(), "root");
    }
}
