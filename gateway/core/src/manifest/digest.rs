//! SHA-256 values, and their text form: 64 hexadecimal digits in lower case.

use std::fmt;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// A SHA-256 value (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sha256(#[serde(with = "hex::serde")] [u8; 32]);

impl Sha256 {
    /// What the first manifest of a chain names as its predecessor.
    pub const NONE: Self = Self([0; 32]);

    /// The value of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(&digest::digest(&digest::SHA256, bytes))
    }

    pub(super) fn from_digest(digest: &digest::Digest) -> Self {
        Self(digest.as_ref().try_into().unwrap_or_else(|_| unreachable!("SHA-256 has 32 bytes")))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
