//! ML-KEM-768 with X25519 (draft-ietf-sshm-mlkem-hybrid-kex).
//!
//! Layout: the client sends its encapsulation key (1184 bytes) and its X25519 value, the server answers
//! with the ciphertext (1088 bytes) and its X25519 value. Invariant: the secret is SHA-256 over both
//! shared secrets, ML-KEM's first, so it is safe while either of them is.

use aws_lc_rs::digest;
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use zeroize::Zeroizing;

use super::KexError;
use super::ecdh::{Curve, EcdhSecret};

const ENCAPSULATION_KEY: usize = 1184;
const CIPHERTEXT: usize = 1088;

/// The client's half of an exchange.
pub(super) struct HybridSecret {
    kem: DecapsulationKey,
    ecdh: EcdhSecret,
    public: Vec<u8>,
}

impl HybridSecret {
    pub(super) fn generate() -> Result<Self, KexError> {
        let kem = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| KexError::Library)?;
        let ecdh = EcdhSecret::generate(Curve::X25519)?;
        let encapsulation_key = kem.encapsulation_key().map_err(|_| KexError::Library)?;
        let mut public = encapsulation_key.key_bytes().map_err(|_| KexError::Library)?.as_ref().to_vec();
        public.extend_from_slice(ecdh.public());
        Ok(Self { kem, ecdh, public })
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// The secret from the server's answer.
    pub(super) fn agree(&self, answer: &[u8]) -> Result<Zeroizing<Vec<u8>>, KexError> {
        let (ciphertext, point) = split(answer, CIPHERTEXT)?;
        let encapsulated =
            self.kem.decapsulate(Ciphertext::from(ciphertext)).map_err(|_| KexError::PublicValue)?;
        Ok(combine(encapsulated.as_ref(), &self.ecdh.agree(point)?))
    }
}

/// The server's half: its answer to the client's public value, and the secret.
pub(super) fn respond(public: &[u8]) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), KexError> {
    let (key, point) = split(public, ENCAPSULATION_KEY)?;
    let key = EncapsulationKey::new(&ML_KEM_768, key).map_err(|_| KexError::PublicValue)?;
    // Fails for a key whose coefficients are not reduced (FIPS 203 section 7.2).
    let (ciphertext, encapsulated) = key.encapsulate().map_err(|_| KexError::PublicValue)?;
    let ecdh = EcdhSecret::generate(Curve::X25519)?;
    let secret = combine(encapsulated.as_ref(), &ecdh.agree(point)?);
    let mut answer = ciphertext.as_ref().to_vec();
    answer.extend_from_slice(ecdh.public());
    Ok((answer, secret))
}

fn split(public: &[u8], kem: usize) -> Result<(&[u8], &[u8]), KexError> {
    public
        .split_at_checked(kem)
        .filter(|(_, point)| point.len() == Curve::X25519.public_len())
        .ok_or(KexError::PublicValue)
}

fn combine(encapsulated: &[u8], agreed: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(encapsulated);
    hash.update(agreed);
    Zeroizing::new(hash.finish().as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_and_server_agree_on_a_secret_that_needs_both_halves() {
        let client = HybridSecret::generate().unwrap();
        assert_eq!(client.public().len(), 1216);
        let (answer, secret) = respond(client.public()).unwrap();
        assert_eq!(answer.len(), 1120);
        assert_eq!(client.agree(&answer).unwrap(), secret);
        // A changed ciphertext decapsulates to an unrelated secret (implicit rejection).
        let mut other = answer.clone();
        other[0] ^= 1;
        assert_ne!(client.agree(&other).unwrap(), secret);
        let mut other = answer;
        other[CIPHERTEXT + 3] ^= 1;
        assert_ne!(client.agree(&other).unwrap(), secret);
    }

    #[test]
    fn public_values_of_the_wrong_shape_are_refused() {
        let client = HybridSecret::generate().unwrap();
        let (answer, _) = respond(client.public()).unwrap();
        for length in [0, 31, 32, CIPHERTEXT, CIPHERTEXT + 31] {
            assert_eq!(client.agree(&answer[..length]).err(), Some(KexError::PublicValue), "{length}");
        }
        for length in [0, 32, ENCAPSULATION_KEY, ENCAPSULATION_KEY + 31] {
            assert_eq!(respond(&client.public()[..length]).err(), Some(KexError::PublicValue), "{length}");
        }
        let mut low_order = client.public().to_vec();
        low_order[ENCAPSULATION_KEY..].fill(0);
        assert_eq!(respond(&low_order).err(), Some(KexError::PublicValue), "X25519 of low order");
        let mut unreduced = client.public().to_vec();
        unreduced[..3].fill(0xff);
        assert_eq!(respond(&unreduced).err(), Some(KexError::PublicValue), "coefficients of 4095");
    }
}
