//! Which algorithms a side offers, best first.
//!
//! Owns the default and the legacy order; a caller may shorten or reorder the lists, for instance to the
//! ciphers that the other leg took, or to the host keys that it has. Invariants: the defaults hold no
//! SHA-1, no CBC and no group below 2048 bits; in a FIPS build both hold [`Preferences::approved`] alone.
//! As a name is chosen only where both sides offer it, nothing else is accepted either.

use super::HostKeyAlgorithm;
use crate::cipher::{Cipher, Mac};
use crate::fips;
use crate::kex::Kex;

/// What of [`Kex::MODERN`] is approved and computed by the FIPS module: finite fields are crypto-bigint's.
const APPROVED_KEX: [Kex; 3] = [Kex::EcdhP256, Kex::EcdhP384, Kex::EcdhP521];
/// What of [`Cipher::ALL`] is approved, in its order.
const APPROVED_CIPHERS: [Cipher; 5] =
    [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::Aes128Ctr, Cipher::Aes192Ctr, Cipher::Aes256Ctr];

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
        if fips::BUILD { Self::approved() } else { Self::modern() }
    }
}

impl Preferences {
    /// What is offered to everybody.
    fn modern() -> Self {
        Self {
            kex: Kex::MODERN.to_vec(),
            host_keys: HostKeyAlgorithm::ALL.to_vec(),
            ciphers: Cipher::ALL.to_vec(),
            macs: Mac::ALL.to_vec(),
        }
    }

    /// What of it FIPS approves: SP 800-56A for key exchange, SP 800-38A and D for ciphers, FIPS 198-1 for
    /// MACs, and FIPS 186-5 for host keys, all of which it has, Ed25519 among them.
    pub fn approved() -> Self {
        Self { kex: APPROVED_KEX.to_vec(), ciphers: APPROVED_CIPHERS.to_vec(), ..Self::modern() }
    }

    /// The defaults, followed by what only old peers need: SHA-1, the group of 1024 bits, and CBC. Nothing
    /// follows in a FIPS build.
    pub fn legacy() -> Self {
        let mut preferences = Self::default();
        if fips::BUILD {
            return preferences;
        }
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
    fn legacy_appends_what_is_old_to_defaults_without_it_unless_this_is_a_fips_build() {
        let (default, legacy) = (Preferences::default(), Preferences::legacy());
        assert!(!default.kex.iter().any(|kex| kex.is_legacy()));
        assert!(!default.host_keys.contains(&HostKeyAlgorithm::SshRsa));
        assert!(!default.ciphers.iter().any(|cipher| cipher.is_legacy()));
        assert!(!default.macs.iter().any(|mac| mac.is_legacy()));
        if fips::BUILD {
            assert_eq!((&default, &legacy), (&Preferences::approved(), &default));
            return;
        }
        assert_eq!(default, Preferences::modern());
        assert!(legacy.kex.starts_with(&default.kex) && legacy.kex.len() == default.kex.len() + 3);
        assert!(legacy.host_keys.starts_with(&default.host_keys));
        assert!(legacy.macs.starts_with(&default.macs));
        assert!(legacy.ciphers.starts_with(&default.ciphers));
        assert_eq!(
            (legacy.ciphers.len(), legacy.macs.len()),
            (default.ciphers.len() + 4, default.macs.len() + 2)
        );
    }

    #[test]
    fn what_is_approved_is_this() {
        let approved = Preferences::approved();
        let kex: Vec<_> = approved.kex.iter().map(|kex| kex.name()).collect();
        assert_eq!(kex, ["ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"]);
        let ciphers: Vec<_> = approved.ciphers.iter().map(|cipher| cipher.name()).collect();
        let gcm = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"];
        assert_eq!(ciphers, [&gcm[..], &["aes128-ctr", "aes192-ctr", "aes256-ctr"]].concat());
        let macs: Vec<_> = approved.macs.iter().map(|mac| mac.name()).collect();
        let etm = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"];
        assert_eq!(macs, [&etm[..], &["hmac-sha2-256", "hmac-sha2-512"]].concat());
        let plain = approved.host_keys.iter().filter(|algorithm| !algorithm.is_certificate());
        let nist = ["ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];
        assert_eq!(
            plain.map(|algorithm| algorithm.name()).collect::<Vec<_>>(),
            [&["ssh-ed25519"], &nist[..], &["rsa-sha2-512", "rsa-sha2-256"]].concat()
        );
        let certified = approved.host_keys.iter().filter(|algorithm| algorithm.is_certificate());
        assert_eq!(certified.count(), 6);
    }
}
