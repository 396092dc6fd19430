//! Host keys: the proof that a server holds the key that it shows.
//!
//! Owns the check of a signature over an exchange hash, and the signing with a key of ours; both serve
//! `publickey` user authentication too. Invariants: what is returned as a [`PublicHostKey`] has signed the
//! message, its type is the one that was negotiated, and a certificate carries a valid signature of the
//! CA that it names. Does not decide whether key or CA are trusted, nor whether a certificate is for this
//! host and this time.

pub mod announced;
mod certificate;
mod signature;
mod signer;
#[cfg(test)]
pub(crate) mod tests;

use ssh_key::{Certificate, PublicKey};
use thiserror::Error;

pub use self::signer::HostKeySigner;
use crate::negotiation::HostKeyAlgorithm;
use crate::wire::{PayloadTooLong, Reader, WireError};

/// A host key that has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicHostKey {
    /// A key without certificate.
    Plain(PublicKey),
    /// A certificate whose own signature fits its CA's key. To be checked by the caller: the CA, the type
    /// (host or user), principals, validity and critical options.
    Certificate(Box<Certificate>),
}

/// A host key or its signature is not acceptable, or cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HostKeyError {
    /// The blob is no key or certificate.
    #[error("the host key is malformed")]
    Malformed,
    /// The blob holds another type of key than was negotiated.
    #[error("the host key is not of the negotiated type")]
    KeyType,
    /// The signature was made with another algorithm than was negotiated.
    #[error("the host key's signature is not of the negotiated algorithm")]
    SignatureType,
    /// The signature does not verify, or the key is too weak to count.
    #[error("the host key's signature is not valid")]
    Signature,
    /// The signature of the CA in a certificate does not verify.
    #[error("the signature of the host certificate's CA is not valid")]
    CaSignature,
    /// The certificate is for another key.
    #[error("the certificate is not for this key")]
    CertificateKey,
    /// We sign with Ed25519 and P-256 only.
    #[error("keys of this type cannot be used to sign")]
    UnsupportedKey,
    /// The algorithm does not fit our key.
    #[error("the key cannot sign with this algorithm")]
    UnsupportedAlgorithm,
    /// The cryptography library refused to sign.
    #[error("the cryptography library failed")]
    Library,
}

impl PublicHostKey {
    /// The key itself; of a certificate the key that is certified.
    pub fn key(&self) -> PublicKey {
        match self {
            Self::Plain(key) => key.clone(),
            Self::Certificate(certificate) => certificate.public_key().clone().into(),
        }
    }
}

/// Checks that the holder of the key in `host_key_blob` signed `message` with `algorithm`.
///
/// # Errors
/// [`HostKeyError`] when key and signature are not of the negotiated type, or a signature is not valid.
pub fn verify(
    algorithm: HostKeyAlgorithm,
    host_key_blob: &[u8],
    signature_blob: &[u8],
    message: &[u8],
) -> Result<PublicHostKey, HostKeyError> {
    let key_type = Reader::new(host_key_blob).string()?;
    if key_type != algorithm.key_type().as_bytes() {
        return Err(HostKeyError::KeyType);
    }
    let host_key = if algorithm.is_certificate() {
        PublicHostKey::Certificate(Box::new(certificate::parse(host_key_blob)?))
    } else {
        PublicHostKey::Plain(PublicKey::from_bytes(host_key_blob).map_err(|_| HostKeyError::Malformed)?)
    };
    let (name, signature) = signature::split(signature_blob)?;
    if name != algorithm.signature_name() {
        return Err(HostKeyError::SignatureType);
    }
    signature::verify(algorithm, host_key.key().key_data(), signature, message)?;
    Ok(host_key)
}

impl From<WireError> for HostKeyError {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
}

impl From<PayloadTooLong> for HostKeyError {
    fn from(_: PayloadTooLong) -> Self {
        Self::Malformed
    }
}
