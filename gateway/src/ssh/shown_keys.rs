//! The host keys that users are shown for a target, ready to sign.
//!
//! They are the same on every connection, and deriving them is scalar multiplications on two curves, so
//! those of the targets that were asked for are kept. Invariant: at most [`KEPT`] targets' keys are.
//!
//! Owns the account secret while the gateway runs. Does not know how keys are derived
//! ([`portreeve_core::host_key`]) nor which key a target is known by.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use portreeve_core::host_certificate::HostCertificates;
use portreeve_core::host_key::{AccountSecret, DerivedHostKeys, derive};
use portreeve_ssh::host_key::{HostKeyError, HostKeySigner};
use ssh_key::PublicKey;

/// Targets whose keys are kept; a gateway with more derives some of them again.
const KEPT: usize = 4096;

/// Derives host keys, and remembers them.
pub struct KeyRing {
    secret: AccountSecret,
    kept: Mutex<HashMap<PublicKey, ShownKeys>>,
}

/// The host keys that stand for one target; cheap to clone.
#[derive(Clone)]
pub struct ShownKeys {
    derived: Arc<DerivedHostKeys>,
    ed25519: HostKeySigner,
    p256: HostKeySigner,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(..)")
    }
}

impl KeyRing {
    /// Derives from `secret`.
    pub fn new(secret: AccountSecret) -> Self {
        Self { secret, kept: Mutex::default() }
    }

    /// The host keys that stand for the target that is known by `identity`.
    ///
    /// # Errors
    /// [`HostKeyError`] if the cryptography library does not take a derived key.
    pub fn keys_for(&self, identity: &PublicKey) -> Result<ShownKeys, HostKeyError> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = kept().get(identity) {
            return Ok(keys.clone());
        }
        let keys = ShownKeys::new(derive(&self.secret, identity))?;
        let mut kept = kept();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(identity.clone(), keys.clone());
        Ok(keys)
    }
}

impl ShownKeys {
    /// Makes derived keys ready to sign.
    ///
    /// # Errors
    /// [`HostKeyError`] if the cryptography library does not take them.
    pub fn new(derived: DerivedHostKeys) -> Result<Self, HostKeyError> {
        let ed25519 = HostKeySigner::new(&derived.ed25519, None)?;
        let p256 = HostKeySigner::new(&derived.p256, None)?;
        Ok(Self { derived: Arc::new(derived), ed25519, p256 })
    }

    /// The keys themselves, for certificates over them.
    pub fn derived(&self) -> &DerivedHostKeys {
        &self.derived
    }

    /// What a transport shows, best first; each certificate before its key.
    pub(super) fn signers(
        self,
        certificates: Option<&HostCertificates>,
    ) -> Result<Vec<HostKeySigner>, HostKeyError> {
        match certificates {
            None => Ok(vec![self.ed25519, self.p256]),
            Some(HostCertificates { ed25519, p256 }) => {
                Ok(vec![self.ed25519.certified(ed25519)?, self.p256.certified(p256)?])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ssh_key::PrivateKey;
    use ssh_key::private::Ed25519Keypair;

    use super::*;

    fn identity(seed: u16) -> PublicKey {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&seed.to_be_bytes());
        PrivateKey::from(Ed25519Keypair::from_seed(&bytes)).public_key().clone()
    }

    fn line(ring: &KeyRing, identity: &PublicKey) -> String {
        ring.keys_for(identity).unwrap().derived().p256.public_key().to_openssh().unwrap()
    }

    #[test]
    fn keys_are_those_of_their_target_whether_kept_or_not() {
        let ring = KeyRing::new(AccountSecret::new([1; 32]));
        let (first, second) = (line(&ring, &identity(1)), line(&ring, &identity(2)));
        assert_ne!(first, second);
        assert_eq!(line(&ring, &identity(1)), first);
        assert_eq!(line(&KeyRing::new(AccountSecret::new([1; 32])), &identity(1)), first);
        assert_ne!(line(&KeyRing::new(AccountSecret::new([2; 32])), &identity(1)), first);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let ring = KeyRing::new(AccountSecret::new([1; 32]));
        let one = ring.keys_for(&identity(0)).unwrap();
        let mut kept = ring.kept.lock().unwrap();
        kept.extend((0..4096).map(|seed| (identity(seed), one.clone())));
        assert_eq!(kept.len(), KEPT);
        drop(kept);
        ring.keys_for(&identity(5000)).unwrap();
        assert_eq!(ring.kept.lock().unwrap().len(), 1);
    }
}
