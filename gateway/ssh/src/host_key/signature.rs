//! One signature, verified by the cryptography library.
//!
//! Owns the translation between SSH's signature formats (RFC 4253 section 6.6, RFC 5656 section 3.1.2,
//! RFC 8332, RFC 8709) and the library's. Invariants: RSA keys have 2048 to 8192 bits, with SHA-1 (legacy)
//! 1024 to 8192; points of ECDSA keys are uncompressed; Ed25519 keys are not of small order.

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

/// Points of Ed25519 whose order divides 8, without the sign of x, in every encoding (RFC 8032 section
/// 5.1.2): y is 0, 1, p - 1, p (0 again), p + 1 (1 again), or one of two of order 8. The library takes them,
/// and anybody can sign for them.
pub(super) const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    little(1),
    near_p(0xec),
    near_p(0xed),
    near_p(0xee),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

const fn little(y: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = y;
    bytes
}

/// y with this lowest byte, near p = 2^255 - 19, whose lowest is 0xed.
const fn near_p(lowest: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = lowest;
    bytes[31] = 0x7f;
    bytes
}

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
            let mut y = key.0;
            y[31] &= 0x7f;
            if SMALL_ORDER.contains(&y) {
                return Err(HostKeyError::Signature);
            }
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
