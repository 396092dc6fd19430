//! The recipient's key pair: who can open a recording.
//!
//! Owns the text form (32 raw bytes in padded standard base64, 44 characters). Invariant: a
//! [`RecipientKey`] is never a point of low order, so sealing to it cannot fail. The private half is
//! wiped when dropped and never shown by `Debug`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hpke::{Deserializable as _, Kem as _, OpModeR, Serializable as _};
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{Aead, Kdf, Kem};

/// The public half: recordings are sealed to it (X25519, RFC 7748).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecipientKey([u8; 32]);

/// The private half: opens recordings; has no place on a gateway.
pub struct RecipientPrivateKey(Zeroizing<[u8; 32]>);

/// Why a text or its bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecipientKeyError {
    /// The text is not padded standard base64.
    #[error("a recipient key is 44 characters of base64")]
    NotBase64,
    /// The decoded text has the wrong length.
    #[error("a recipient key has 32 bytes, this one has {0}")]
    Length(usize),
    /// The public key is a point of low order: anyone could open what is sealed to it.
    #[error("this public key is a point of low order, which protects nothing")]
    LowOrder,
}

impl RecipientKey {
    /// Checks 32 raw bytes and keeps them.
    ///
    /// # Errors
    /// [`RecipientKeyError::LowOrder`] (RFC 9180 section 7.1.4).
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, RecipientKeyError> {
        let as_peer = <Kem as hpke::Kem>::EncappedKey::from_bytes(&bytes);
        let any_scalar = <Kem as hpke::Kem>::PrivateKey::from_bytes(&[1; 32]);
        let agreed = as_peer.and_then(|peer| {
            let scalar = any_scalar?;
            hpke::setup_receiver::<Aead, Kdf, Kem>(&OpModeR::Base, &scalar, &peer, &[])
        });
        match agreed {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(RecipientKeyError::LowOrder),
        }
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Names the key in headers: the first 8 bytes of the SHA-256 of the raw key, in hexadecimal.
    pub fn id(&self) -> String {
        let digest = Sha256::digest(self.0);
        hex::encode(digest.get(..8).unwrap_or(&digest))
    }
}

impl RecipientPrivateKey {
    /// Makes a key pair's private half from `rng`.
    pub fn generate<R: CryptoRng>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut());
        Self(bytes)
    }

    /// Keeps 32 raw bytes; every value is a valid private key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The public half.
    pub fn recipient_key(&self) -> RecipientKey {
        RecipientKey(Kem::sk_to_pk(&self.to_hpke()).to_bytes().into())
    }

    /// The text of a private key file: 44 characters, no newline.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_ref()))
    }

    pub(super) fn to_hpke(&self) -> <Kem as hpke::Kem>::PrivateKey {
        <Kem as hpke::Kem>::PrivateKey::from_bytes(self.0.as_ref())
            .unwrap_or_else(|_| unreachable!("32 bytes are always an X25519 scalar"))
    }
}

impl FromStr for RecipientKey {
    type Err = RecipientKeyError;

    /// Reads the text form; white space around it is allowed.
    fn from_str(text: &str) -> Result<Self, RecipientKeyError> {
        Self::from_bytes(*decode(text)?)
    }
}

impl FromStr for RecipientPrivateKey {
    type Err = RecipientKeyError;

    /// Reads the text form; white space around it is allowed.
    fn from_str(text: &str) -> Result<Self, RecipientKeyError> {
        decode(text).map(Self)
    }
}

fn decode(text: &str) -> Result<Zeroizing<[u8; 32]>, RecipientKeyError> {
    let bytes = STANDARD.decode(text.trim_ascii()).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| RecipientKeyError::NotBase64)?;
    let raw = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| RecipientKeyError::Length(bytes.len()))?;
    Ok(Zeroizing::new(raw))
}

impl fmt::Display for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for RecipientPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecipientPrivateKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_are_44_characters_and_come_back() {
        let private = RecipientPrivateKey::from_bytes([7; 32]);
        let text = private.to_base64();
        assert_eq!(text.len(), 44);
        assert!(text.ends_with('='));
        let again: RecipientPrivateKey = text.parse().unwrap();
        assert_eq!(again.recipient_key(), private.recipient_key());
        let public = private.recipient_key();
        assert_eq!(format!(" {public}\n").parse(), Ok(public));
    }

    /// The value comes from `openssl pkey -pubout`.
    #[test]
    fn public_key_is_that_of_another_implementation() {
        let public = RecipientPrivateKey::from_bytes([7; 32]).recipient_key();
        assert_eq!(
            hex::encode(public.as_bytes()),
            "13be4feaeaf204c7fd3358fc9c00721881d174278128227ec674f37f7fe97b6d"
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!("not base64!".parse::<RecipientKey>(), Err(RecipientKeyError::NotBase64));
        assert_eq!("AAAA".parse::<RecipientKey>(), Err(RecipientKeyError::Length(3)));
        assert_eq!(RecipientKey::from_bytes([0; 32]), Err(RecipientKeyError::LowOrder));
        assert_eq!("".parse::<RecipientPrivateKey>().unwrap_err(), RecipientKeyError::Length(0));
    }

    #[test]
    fn debug_does_not_show_the_private_key() {
        let private = RecipientPrivateKey::from_bytes([0x41; 32]);
        let shown = format!("{private:?}");
        assert!(
            !shown.contains("41") && !shown.contains("65") && !shown.contains(private.to_base64().as_str())
        );
    }
}
