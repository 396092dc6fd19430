//! Names of network interfaces of the gateway.
//!
//! Owns what may be such a name; whether there is an interface of that name is seen by whoever uses it.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The longest name of a network interface (IFNAMSIZ without its terminator).
const MAX_NAME: usize = 15;

/// Name of a network interface, as the kernel accepts it (`dev_valid_name`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(Arc<str>);

/// A text that is no name of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no name of an interface: write one that `ip link` shows, at most {MAX_NAME} characters")]
pub struct InterfaceNameError(pub String);

impl InterfaceName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InterfaceNameError`] when the kernel would refuse it.
    pub fn new(text: &str) -> Result<Self, InterfaceNameError> {
        let fits = (1..=MAX_NAME).contains(&text.len()) && !matches!(text, "." | "..");
        let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':');
        if fits && !text.chars().any(strange) {
            Ok(Self(text.into()))
        } else {
            Err(InterfaceNameError(text.to_owned()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `other`, or by its name a VLAN on it (`lan0.100` on `lan0`).
    pub fn is_on(&self, other: &str) -> bool {
        self.as_str().strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel() {
        for name in ["lan0", "lan1.100", "0", "a-very-long-one"] {
            assert_eq!(InterfaceName::new(name).unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "a/b", "a b", "a:1", "a-very-long-name", "a\n"] {
            assert_eq!(InterfaceName::new(name), Err(InterfaceNameError(name.to_owned())));
        }
    }

    #[test]
    fn a_vlan_is_on_its_interface() {
        let vlan = InterfaceName::new("lan0.100").unwrap();
        assert!(vlan.is_on("lan0") && vlan.is_on("lan0.100"));
        assert!(!vlan.is_on("lan") && !vlan.is_on("lan0.1") && !vlan.is_on("wan0"));
    }
}
