//! One signature, verified by the cryptography library.
//!
//! Owns the translation between SSH's signature formats (RFC 4253 section 6.6, RFC 5656 section 3.1.2,
//! RFC 8332, RFC 8709) and the library's. Invariants: RSA keys have 2048 to 8192 bits, with SHA-1 (legacy)
//! 1024 to 8192; points of ECDSA keys are uncompressed.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    EcdsaVerificationAlgorithm, RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use ssh_key::EcdsaCurve;
use ssh_key::public::{EcdsaPublicKey, KeyData, RsaPublicKey};

use super::HostKeyError;
use crate::negotiation::HostKeyAlgorithm;
use crate::wire::Reader;

const UNCOMPRESSED_POINT: u8 = 4;

/// Name and content of a signature blob.
pub(super) fn split(blob: &[u8]) -> Result<(&str, &[u8]), HostKeyError> {
    let mut reader = Reader::new(blob);
    let (name, content) = (reader.text()?, reader.string()?);
    reader.finish()?;
    Ok((name, content))
}

/// Verifies the content of a signature blob; whether its name fits `algorithm` is checked by the caller.
pub(super) fn verify(
    algorithm: HostKeyAlgorithm,
    key: &KeyData,
    content: &[u8],
    message: &[u8],
) -> Result<(), HostKeyError> {
    match algorithm {
        HostKeyAlgorithm::Ed25519 | HostKeyAlgorithm::Ed25519Cert => {
            let key = key.ed25519().ok_or(HostKeyError::KeyType)?;
            verified(UnparsedPublicKey::new(&ED25519, &key.0).verify(message, content))
        }
        HostKeyAlgorithm::EcdsaP256 | HostKeyAlgorithm::EcdsaP256Cert => {
            ecdsa(EcdsaCurve::NistP256, key, content, message)
        }
        HostKeyAlgorithm::EcdsaP384 | HostKeyAlgorithm::EcdsaP384Cert => {
            ecdsa(EcdsaCurve::NistP384, key, content, message)
        }
        HostKeyAlgorithm::EcdsaP521 | HostKeyAlgorithm::EcdsaP521Cert => {
            ecdsa(EcdsaCurve::NistP521, key, content, message)
        }
        HostKeyAlgorithm::RsaSha512 | HostKeyAlgorithm::RsaSha512Cert => {
            rsa(&RSA_PKCS1_2048_8192_SHA512, key, content, message)
        }
        HostKeyAlgorithm::RsaSha256 | HostKeyAlgorithm::RsaSha256Cert => {
            rsa(&RSA_PKCS1_2048_8192_SHA256, key, content, message)
        }
        HostKeyAlgorithm::SshRsa => rsa(&RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, key, content, message),
    }
}

fn ecdsa(curve: EcdsaCurve, key: &KeyData, content: &[u8], message: &[u8]) -> Result<(), HostKeyError> {
    let key = key.ecdsa().filter(|key| key.curve() == curve).ok_or(HostKeyError::KeyType)?;
    let (algorithm, scalar_len): (&EcdsaVerificationAlgorithm, _) = match key {
        EcdsaPublicKey::NistP256(_) => (&ECDSA_P256_SHA256_FIXED, 32),
        EcdsaPublicKey::NistP384(_) => (&ECDSA_P384_SHA384_FIXED, 48),
        EcdsaPublicKey::NistP521(_) => (&ECDSA_P521_SHA512_FIXED, 66),
    };
    let point = key.as_sec1_bytes();
    if point.first() != Some(&UNCOMPRESSED_POINT) {
        return Err(HostKeyError::Malformed);
    }
    let mut reader = Reader::new(content);
    let scalars = [reader.positive_mpint()?, reader.positive_mpint()?];
    reader.finish()?;
    let mut fixed = Vec::with_capacity(2 * scalar_len);
    for scalar in scalars {
        put_padded(&mut fixed, scalar, scalar_len)?;
    }
    verified(UnparsedPublicKey::new(algorithm, point).verify(message, &fixed))
}

fn rsa(
    parameters: &RsaParameters,
    key: &KeyData,
    content: &[u8],
    message: &[u8],
) -> Result<(), HostKeyError> {
    let key: &RsaPublicKey = key.rsa().ok_or(HostKeyError::KeyType)?;
    let n = key.n().as_positive_bytes().ok_or(HostKeyError::Malformed)?;
    let e = key.e().as_positive_bytes().ok_or(HostKeyError::Malformed)?;
    // Some signers leave out the leading zeros of the number; the library wants the modulus's length.
    let mut fixed = Vec::with_capacity(n.len());
    put_padded(&mut fixed, content, n.len())?;
    verified(RsaPublicKeyComponents { n, e }.verify(parameters, message, &fixed))
}

/// Appends a big-endian number with leading zeros up to `length` bytes.
fn put_padded(out: &mut Vec<u8>, number: &[u8], length: usize) -> Result<(), HostKeyError> {
    let zeros = length.checked_sub(number.len()).ok_or(HostKeyError::Signature)?;
    out.resize(out.len() + zeros, 0);
    out.extend_from_slice(number);
    Ok(())
}

fn verified(result: Result<(), aws_lc_rs::error::Unspecified>) -> Result<(), HostKeyError> {
    result.map_err(|_| HostKeyError::Signature)
}
