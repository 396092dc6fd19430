//! Host keys shown to users, derived from the account secret and the target's identity.
//!
//! A target's identity is one of its own host keys: the one by which the gateway saw it first. Derived
//! keys are the same on every connection and on every gateway that holds the same secret and knows
//! the target by the same key; different as soon as that is another one. Pure: no randomness, no storage. RSA keys are not derived.
//!
//! Each key is HKDF-SHA256 (RFC 5869) of the account secret without salt, where `info` is a label
//! that names the purpose, a zero byte, the target's identity as an SSH wire blob (RFC 4253 section 6.6)
//! and, for P-256, one counter byte.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair};
use ssh_key::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

const ED25519_LABEL: &[u8] = b"portreeve host key v1 ed25519";
const P256_LABEL: &[u8] = b"portreeve host key v1 nistp256";

/// The secret that all gateways of an account share: 32 bytes.
pub struct AccountSecret(Zeroizing<[u8; 32]>);

/// The host keys that stand for one target.
pub struct DerivedHostKeys {
    /// For clients that prefer Ed25519.
    pub ed25519: PrivateKey,
    /// For clients that know only ECDSA.
    pub p256: PrivateKey,
}

impl fmt::Debug for AccountSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountSecret(..)")
    }
}

impl AccountSecret {
    /// Keeps the secret; it is wiped when dropped.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

/// Derives the host keys that stand for the target whose identity is `target_key`.
///
/// # Panics
/// Never: a parsed public key always has a wire encoding.
pub fn derive(secret: &AccountSecret, target_key: &PublicKey) -> DerivedHostKeys {
    let blob = target_key.to_bytes().expect("a parsed public key has a wire encoding");
    DerivedHostKeys { ed25519: derive_ed25519(secret, &blob), p256: derive_p256(secret, &blob) }
}

fn derive_ed25519(secret: &AccountSecret, target_blob: &[u8]) -> PrivateKey {
    let seed = expand(secret, &[ED25519_LABEL, &[0], target_blob]);
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// Takes the first candidate scalar in 1..n; all but one in 2^32 first candidates are.
fn derive_p256(secret: &AccountSecret, target_blob: &[u8]) -> PrivateKey {
    let mut counter = 0u8;
    loop {
        let candidate = expand(secret, &[P256_LABEL, &[0], target_blob, &[counter]]);
        if let Some(keypair) = p256_keypair(&candidate) {
            return PrivateKey::from(keypair);
        }
        counter = counter.wrapping_add(1);
    }
}

/// The key pair of a big-endian scalar, or `None` for 0 and for n (the group's order) and above.
fn p256_keypair(scalar: &[u8; 32]) -> Option<EcdsaKeypair> {
    let private = p256::SecretKey::from_slice(scalar).ok()?;
    let public = private.public_key();
    Some(EcdsaKeypair::NistP256 { public: public.into(), private: private.into() })
}

fn expand(secret: &AccountSecret, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut okm = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, &*secret.0)
        .expand_multi_info(info, &mut *okm)
        .expect("32 bytes are within HKDF's limit of 255 blocks");
    okm
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3WkK0mPCnzoVYDDw1bNqpMkPJBuqJYw3xVeo0PfHDr";

    fn secret(byte: u8) -> AccountSecret {
        AccountSecret::new([byte; 32])
    }

    fn target() -> PublicKey {
        TARGET.parse().unwrap()
    }

    fn other_target() -> PublicKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[9; 32])).public_key().clone()
    }

    fn lines(keys: &DerivedHostKeys) -> [String; 2] {
        [&keys.ed25519, &keys.p256].map(|key| key.public_key().to_openssh().unwrap())
    }

    /// Computed with another implementation of HKDF, Ed25519 and P-256.
    #[test]
    fn golden_vector() {
        let ed25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG4w2THrw+2qCw8sCHJbaGDw+P/KsssUibl60UvF3+EF";
        let p256 = concat!(
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBCODdtjb/eNtK/lWYQjV1nKy",
            "1sP1lQnWvin5xI2pzd7nL2EhQzywSDQ20QkOW7gAvLEeUtf4KHhwQieWnPgoVf4="
        );
        assert_eq!(lines(&derive(&secret(7), &target())), [ed25519, p256]);
    }

    #[test]
    fn same_inputs_give_the_same_keys() {
        assert_eq!(lines(&derive(&secret(1), &target())), lines(&derive(&secret(1), &target())));
    }

    #[test]
    fn a_comment_on_the_target_key_changes_nothing() {
        let mut commented = target();
        commented.set_comment("root@server");
        assert_eq!(lines(&derive(&secret(1), &commented)), lines(&derive(&secret(1), &target())));
    }

    #[test]
    fn another_target_key_gives_other_keys() {
        let (a, b) = (lines(&derive(&secret(1), &target())), lines(&derive(&secret(1), &other_target())));
        assert!(a[0] != b[0] && a[1] != b[1]);
    }

    #[test]
    fn another_secret_gives_other_keys() {
        let (a, b) = (lines(&derive(&secret(1), &target())), lines(&derive(&secret(2), &target())));
        assert!(a[0] != b[0] && a[1] != b[1]);
    }

    #[test]
    fn derived_keys_sign() {
        use ssh_key::HashAlg;
        let keys = derive(&secret(1), &target());
        for key in [&keys.ed25519, &keys.p256] {
            let signature = key.sign("test", HashAlg::Sha256, b"message").unwrap();
            key.public_key().verify("test", b"message", &signature).unwrap();
        }
    }

    #[test]
    fn scalars_outside_the_group_are_rejected() {
        let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
        let order: [u8; 32] = order.try_into().unwrap();
        let mut below = order;
        below[31] -= 1;
        assert!(p256_keypair(&[0; 32]).is_none());
        assert!(p256_keypair(&order).is_none());
        assert!(p256_keypair(&[0xff; 32]).is_none());
        assert!(p256_keypair(&below).is_some());
    }
}
