//! The audit key: Ed25519 (RFC 8032), kept in OpenSSH's format like the gateway's other keys.
//!
//! Owns both halves, the id by which a key is named, and the set of keys that a verifier trusts. The
//! private half is inside the cryptography library and never shown.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::public::{Ed25519PublicKey, KeyData};
use ssh_key::{LineEnding, PrivateKey, PublicKey};
use thiserror::Error;
use zeroize::Zeroizing;

use super::Sha256;

/// The private half: signs the gateway's documents.
pub struct AuditKey {
    pair: Ed25519KeyPair,
    public: AuditPublicKey,
}

/// The public half: verifies them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuditPublicKey([u8; 32]);

/// The keys that a verifier trusts.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<AuditPublicKey>);

/// Why a text is no audit key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuditKeyError {
    /// Not an unencrypted Ed25519 private key in OpenSSH format.
    #[error("an audit key is an unencrypted Ed25519 private key in OpenSSH format")]
    Private,
    /// Not an Ed25519 public key in OpenSSH format.
    #[error("the public half of an audit key is a line that begins with ssh-ed25519")]
    Public,
}

impl AuditKey {
    /// The key of a seed of 32 random bytes, and the text of its file.
    ///
    /// # Errors
    /// [`AuditKeyError::Private`] if the text cannot be made.
    pub fn from_seed(seed: &[u8; 32]) -> Result<(Self, Zeroizing<String>), AuditKeyError> {
        let mut private = PrivateKey::from(Ed25519Keypair::from_seed(seed));
        let key = Self::new(&private)?;
        private.set_comment(key.public.comment());
        let text = private.to_openssh(LineEnding::LF).map_err(|_| AuditKeyError::Private)?;
        Ok((key, text))
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// [`AuditKeyError::Private`].
    pub fn from_openssh(text: &[u8]) -> Result<Self, AuditKeyError> {
        let private = PrivateKey::from_openssh(text).map_err(|_| AuditKeyError::Private)?;
        Self::new(&private)
    }

    fn new(private: &PrivateKey) -> Result<Self, AuditKeyError> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other kind of key is refused")]
        let keypair = match private.key_data() {
            KeypairData::Ed25519(keypair) => keypair,
            _ => return Err(AuditKeyError::Private),
        };
        let seed = Zeroizing::new(keypair.private.to_bytes());
        let pair = Ed25519KeyPair::from_seed_and_public_key(&*seed, &keypair.public.0);
        let pair = pair.map_err(|_| AuditKeyError::Private)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| AuditKeyError::Private)?;
        Ok(Self { pair, public: AuditPublicKey(public) })
    }

    /// The public half.
    pub const fn public_key(&self) -> AuditPublicKey {
        self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuditKey").field(&self.public.id()).finish()
    }
}

impl AuditPublicKey {
    /// Names the key: the first 8 bytes of the SHA-256 of the raw key, in hexadecimal.
    pub fn id(&self) -> String {
        let digest = Sha256::of(&self.0).to_string();
        digest.get(..16).unwrap_or(&digest).to_owned()
    }

    fn comment(self) -> String {
        format!("portreeve-audit-{}", self.id())
    }

    pub(super) fn key_data(self) -> KeyData {
        KeyData::Ed25519(Ed25519PublicKey(self.0))
    }

    pub(super) fn from_key_data(data: &KeyData) -> Option<Self> {
        data.ed25519().map(|key| Self(key.0))
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for AuditPublicKey {
    /// One line in OpenSSH's format, with the id in the comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = PublicKey::new(self.key_data(), self.comment()).to_openssh();
        f.write_str(&line.map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for AuditPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuditPublicKey").field(&self.id()).finish()
    }
}

impl FromStr for AuditPublicKey {
    type Err = AuditKeyError;

    fn from_str(line: &str) -> Result<Self, AuditKeyError> {
        let key = PublicKey::from_openssh(line.trim()).map_err(|_| AuditKeyError::Public)?;
        Self::from_key_data(key.key_data()).ok_or(AuditKeyError::Public)
    }
}

impl TryFrom<String> for AuditPublicKey {
    type Error = AuditKeyError;

    fn try_from(line: String) -> Result<Self, AuditKeyError> {
        line.parse()
    }
}

impl From<AuditPublicKey> for String {
    fn from(key: AuditPublicKey) -> Self {
        key.to_string()
    }
}

impl TrustedKeys {
    /// Reads a file of public keys, one a line; empty lines and those that begin with `#` count nothing.
    ///
    /// # Errors
    /// [`AuditKeyError::Public`] for any other line.
    pub fn add_lines(&mut self, text: &str) -> Result<(), AuditKeyError> {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            self.add(line.parse()?);
        }
        Ok(())
    }

    /// Trusts a key; says whether it is new.
    pub fn add(&mut self, key: AuditPublicKey) -> bool {
        let new = !self.contains(&key);
        if new {
            self.0.push(key);
        }
        new
    }

    /// Whether a key is trusted.
    pub fn contains(&self, key: &AuditPublicKey) -> bool {
        self.0.contains(key)
    }

    /// Whether no key is trusted.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
