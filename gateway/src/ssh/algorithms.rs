//! The algorithms offered to users and asked of targets, most preferred first.
//!
//! AES-GCM comes before ChaCha20-Poly1305 towards targets: with AES instructions it costs a quarter
//! (towards users the client's order decides, RFC 4253 section 7.1). SHA-1 and CBC are never offered.

use std::borrow::Cow;

use russh::{Preferred, cipher, compression, kex, mac};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg};

/// Receive window of each channel, bytes.
pub(super) const WINDOW: u32 = 2 * 1024 * 1024;

/// Largest data of one packet, bytes.
pub(super) const PACKET: u32 = 32 * 1024;

/// Messages of a channel that wait for the other side; 16 MiB at most with full packets.
pub(super) const CHANNEL_QUEUE: usize = 512;

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_CTR,
    cipher::AES_192_CTR,
    cipher::AES_256_CTR,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];

/// The order in which targets are asked for a host key, so that the same target always shows the same.
const HOST_KEYS: [Algorithm; 6] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// What users' clients are offered.
pub(super) fn towards_users() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Owned(vec![Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }]),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        // Only compression that starts after authentication.
        compression: Cow::Borrowed(&[compression::NONE, compression::ZLIB_LEGACY]),
    }
}

/// What targets are asked for; `pinned` is the algorithm of the host key that is known already.
pub(super) fn towards_targets(pinned: Option<&Algorithm>) -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Owned(host_key_order(pinned)),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

fn host_key_order(pinned: Option<&Algorithm>) -> Vec<Algorithm> {
    // A stored RSA key names no hash; both hashes are then of its kind.
    let is_pinned = |algorithm: &Algorithm| match pinned {
        Some(Algorithm::Rsa { .. }) => matches!(algorithm, Algorithm::Rsa { .. }),
        Some(known) => known == algorithm,
        None => false,
    };
    let (mut order, rest): (Vec<_>, Vec<_>) = HOST_KEYS.into_iter().partition(is_pinned);
    order.extend(rest);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_algorithm_is_asked_for_first_and_nothing_is_lost() {
        let names = |pinned: Option<Algorithm>| -> Vec<String> {
            host_key_order(pinned.as_ref()).iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(None)[0], "ssh-ed25519");
        assert_eq!(names(Some(Algorithm::Rsa { hash: None }))[..2], ["rsa-sha2-512", "rsa-sha2-256"]);
        let p384 = Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 };
        assert_eq!(names(Some(p384))[..2], ["ecdsa-sha2-nistp384", "ssh-ed25519"]);
        assert_eq!(names(Some(Algorithm::Dsa)), names(None));
        assert_eq!(names(Some(Algorithm::Rsa { hash: None })).len(), HOST_KEYS.len());
    }
}
