//! Elliptic curves: X25519 (RFC 8731) and the NIST curves (RFC 5656).
//!
//! Invariants: points of NIST curves travel uncompressed and are checked to be on the curve; a shared
//! secret of zeros, which points of low order lead to, is refused (RFC 8731 section 3).

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521, PrivateKey, UnparsedPublicKey, X25519};
use zeroize::Zeroizing;

use super::KexError;

const UNCOMPRESSED_POINT: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    X25519,
    P256,
    P384,
    P521,
}

/// Our half of an exchange.
pub(super) struct EcdhSecret {
    curve: Curve,
    private: PrivateKey,
    public: Vec<u8>,
}

impl Curve {
    const fn algorithm(self) -> &'static agreement::Algorithm {
        match self {
            Self::X25519 => &X25519,
            Self::P256 => &ECDH_P256,
            Self::P384 => &ECDH_P384,
            Self::P521 => &ECDH_P521,
        }
    }

    /// Length of a public value in bytes.
    pub(super) const fn public_len(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::P256 => 65,
            Self::P384 => 97,
            Self::P521 => 133,
        }
    }

    /// Whether `public` has the one form that this method allows; the library would take others too.
    fn is_plain_encoding(self, public: &[u8]) -> bool {
        public.len() == self.public_len()
            && (self == Self::X25519 || public.first() == Some(&UNCOMPRESSED_POINT))
    }
}

impl EcdhSecret {
    pub(super) fn generate(curve: Curve) -> Result<Self, KexError> {
        Self::from_private(curve, PrivateKey::generate(curve.algorithm()).map_err(|_| KexError::Library)?)
    }

    pub(super) fn from_private(curve: Curve, private: PrivateKey) -> Result<Self, KexError> {
        let public = private.compute_public_key().map_err(|_| KexError::Library)?.as_ref().to_vec();
        Ok(Self { curve, private, public })
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// The shared secret as the curve gives it, with leading zeros.
    pub(super) fn agree(&self, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, KexError> {
        if !self.curve.is_plain_encoding(peer) {
            return Err(KexError::PublicValue);
        }
        let peer = UnparsedPublicKey::new(self.curve.algorithm(), peer);
        agreement::agree(&self.private, peer, KexError::PublicValue, |secret| {
            let any = secret.iter().fold(0, |any, byte| any | byte);
            if any == 0 { Err(KexError::PublicValue) } else { Ok(Zeroizing::new(secret.to_vec())) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIST: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    fn x25519(private: &str) -> EcdhSecret {
        let private = PrivateKey::from_private_key(&X25519, &hex::decode(private).unwrap()).unwrap();
        EcdhSecret::from_private(Curve::X25519, private).unwrap()
    }

    #[test]
    fn x25519_gives_the_values_of_rfc_7748_section_6_1() {
        let alice = x25519("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let bob = x25519("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        assert_eq!(
            hex::encode(alice.public()),
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
        );
        assert_eq!(
            hex::encode(bob.public()),
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
        );
        for secret in [alice.agree(bob.public()), bob.agree(alice.public())] {
            assert_eq!(
                hex::encode(secret.unwrap()),
                "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
            );
        }
    }

    /// The points of RFC 7748 section 6.1's warning: orders 1, 2, 4 and 8, reduced and not.
    #[test]
    fn x25519_points_of_low_order_are_refused() {
        let p_plus = |last: u8| format!("{last:02x}{}7f", "ff".repeat(30));
        let points = [
            "00".repeat(32),
            format!("01{}", "00".repeat(31)),
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800".to_owned(),
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157".to_owned(),
            p_plus(0xec),
            p_plus(0xed),
            p_plus(0xee),
        ];
        for point in points {
            let secret = EcdhSecret::generate(Curve::X25519).unwrap().agree(&hex::decode(&point).unwrap());
            assert_eq!(secret.err(), Some(KexError::PublicValue), "{point}");
        }
    }

    #[test]
    fn points_that_are_not_on_the_curve_are_refused() {
        for curve in NIST {
            let own = EcdhSecret::generate(curve).unwrap();
            let peer = EcdhSecret::generate(curve).unwrap();
            assert!(own.agree(peer.public()).is_ok());
            let mut off_curve = peer.public().to_vec();
            *off_curve.last_mut().unwrap() ^= 1;
            let mut zeros = vec![0; curve.public_len()];
            zeros[0] = UNCOMPRESSED_POINT;
            let beyond_the_field = [&[UNCOMPRESSED_POINT], &vec![0xff; curve.public_len() - 1][..]].concat();
            for point in [off_curve, zeros, beyond_the_field, vec![0]] {
                assert_eq!(own.agree(&point).err(), Some(KexError::PublicValue), "{curve:?}");
            }
        }
    }

    #[test]
    fn only_the_uncompressed_form_of_a_point_is_taken() {
        for curve in NIST {
            let own = EcdhSecret::generate(curve).unwrap();
            let peer = EcdhSecret::generate(curve).unwrap().public().to_vec();
            let half = peer.len() / 2;
            let sign = peer.last().unwrap() & 1;
            let compressed = [&[2 + sign], &peer[1..=half]].concat();
            let hybrid = [&[6 + sign], &peer[1..]].concat();
            for point in
                [compressed, hybrid, peer[..peer.len() - 1].to_vec(), [&peer[..], &[0]].concat(), vec![]]
            {
                assert_eq!(own.agree(&point).err(), Some(KexError::PublicValue), "{curve:?}");
            }
        }
        let own = EcdhSecret::generate(Curve::X25519).unwrap();
        for length in [0, 31, 33, 44] {
            assert_eq!(own.agree(&vec![9; length]).err(), Some(KexError::PublicValue), "{length}");
        }
    }
}
