//! Which algorithms a side offers, best first.
//!
//! Owns the default and the legacy order; a caller may shorten or reorder the lists, for instance to the
//! ciphers that the other leg took, or to the host keys that it has. Invariant: the defaults hold no
//! SHA-1, no CBC and no group below 2048 bits.

use super::HostKeyAlgorithm;
use crate::cipher::{Cipher, Mac};
use crate::kex::Kex;

/// What one side offers, each list best first. A list without entries makes the negotiation fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// Key exchange methods.
    pub kex: Vec<Kex>,
    /// Host key algorithms: what a server can sign with, what a client can verify.
    pub host_keys: Vec<HostKeyAlgorithm>,
    /// Ciphers, for both directions.
    pub ciphers: Vec<Cipher>,
    /// MACs for ciphers that are no AEAD, for both directions.
    pub macs: Vec<Mac>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            kex: Kex::MODERN.to_vec(),
            host_keys: HostKeyAlgorithm::ALL.to_vec(),
            ciphers: Cipher::ALL.to_vec(),
            macs: Mac::ALL.to_vec(),
        }
    }
}

impl Preferences {
    /// The defaults, followed by what only old peers need: SHA-1, the group of 1024 bits, and CBC.
    pub fn legacy() -> Self {
        let mut preferences = Self::default();
        preferences.kex.extend(Kex::LEGACY);
        preferences.host_keys.push(HostKeyAlgorithm::SshRsa);
        preferences.ciphers.extend(Cipher::LEGACY);
        preferences.macs.extend(Mac::LEGACY);
        preferences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_nothing_legacy_and_legacy_only_appends() {
        let (modern, legacy) = (Preferences::default(), Preferences::legacy());
        assert!(!modern.kex.iter().any(|kex| kex.is_legacy()));
        assert!(!modern.host_keys.contains(&HostKeyAlgorithm::SshRsa));
        assert!(!modern.ciphers.iter().any(|cipher| cipher.is_legacy()));
        assert!(!modern.macs.iter().any(|mac| mac.is_legacy()));
        assert!(legacy.kex.starts_with(&modern.kex) && legacy.kex.len() == modern.kex.len() + 3);
        assert!(legacy.host_keys.starts_with(&modern.host_keys));
        assert!(legacy.macs.starts_with(&modern.macs));
        assert!(legacy.ciphers.starts_with(&modern.ciphers));
        assert_eq!(
            (legacy.ciphers.len(), legacy.macs.len()),
            (modern.ciphers.len() + 4, modern.macs.len() + 2)
        );
    }
}
