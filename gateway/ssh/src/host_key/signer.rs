//! Signing with a key of ours.
//!
//! Owns a private key inside the cryptography library, which wipes it, and the blobs that go with it. The
//! same type serves a server's host key and a client's `publickey` authentication with an ephemeral key.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use ssh_key::private::{EcdsaKeypair, KeypairData};
use ssh_key::{Certificate, PrivateKey, PublicKey};

use super::HostKeyError;
use crate::negotiation::HostKeyAlgorithm;
use crate::wire::{put_positive_mpint, put_string};

/// A key that signs, Ed25519 or P-256, with an optional certificate. Clones share the key.
#[derive(Clone)]
pub struct HostKeySigner {
    key: Key,
    blob: Vec<u8>,
    certificate_blob: Option<Vec<u8>>,
}

#[derive(Clone)]
enum Key {
    Ed25519(Arc<Ed25519KeyPair>),
    P256(Arc<EcdsaKeyPair>),
}

impl HostKeySigner {
    /// Takes a key; `certificate` must be for it, and is shown before the plain key.
    ///
    /// # Errors
    /// [`HostKeyError::UnsupportedKey`] for keys of other types or encrypted ones,
    /// [`HostKeyError::CertificateKey`] when the certificate is for another key.
    pub fn new(key: &PrivateKey, certificate: Option<&Certificate>) -> Result<Self, HostKeyError> {
        let blob = key.public_key().to_bytes().map_err(|_| HostKeyError::Malformed)?;
        let plain = Self { key: Key::new(key.key_data())?, blob, certificate_blob: None };
        match certificate {
            None => Ok(plain),
            Some(certificate) => plain.certified(certificate),
        }
    }

    /// The same key, with a certificate for it, which is shown before the plain key.
    ///
    /// # Errors
    /// [`HostKeyError::CertificateKey`] when the certificate is for another key.
    pub fn certified(self, certificate: &Certificate) -> Result<Self, HostKeyError> {
        let certified = PublicKey::from(certificate.public_key().clone());
        if certified.to_bytes().map_err(|_| HostKeyError::Malformed)? != self.blob {
            return Err(HostKeyError::CertificateKey);
        }
        let blob = certificate.to_bytes().map_err(|_| HostKeyError::Malformed)?;
        Ok(Self { certificate_blob: Some(blob), ..self })
    }

    /// What the key can be negotiated as, best first.
    pub fn algorithms(&self) -> Vec<HostKeyAlgorithm> {
        let (certificate, plain) = self.key.algorithms();
        let certificate = self.certificate_blob.as_ref().map(|_| certificate);
        certificate.into_iter().chain([plain]).collect()
    }

    /// What is shown under `algorithm`: the certificate, or the plain key for everything else.
    pub fn public_blob(&self, algorithm: HostKeyAlgorithm) -> Vec<u8> {
        let certificate = self.certificate_blob.as_ref().filter(|_| algorithm.is_certificate());
        certificate.unwrap_or(&self.blob).clone()
    }

    /// The signature blob over `message`.
    ///
    /// # Errors
    /// [`HostKeyError::UnsupportedAlgorithm`] for what is not in [`Self::algorithms`],
    /// [`HostKeyError::Library`] without randomness.
    pub fn sign(&self, algorithm: HostKeyAlgorithm, message: &[u8]) -> Result<Vec<u8>, HostKeyError> {
        if !self.algorithms().contains(&algorithm) {
            return Err(HostKeyError::UnsupportedAlgorithm);
        }
        let content = self.key.sign(message)?;
        let mut blob = Vec::new();
        put_string(&mut blob, algorithm.signature_name().as_bytes())?;
        put_string(&mut blob, &content)?;
        Ok(blob)
    }
}

impl Key {
    fn new(key: &KeypairData) -> Result<Self, HostKeyError> {
        if let Some(pair) = key.ed25519() {
            let key = Ed25519KeyPair::from_seed_and_public_key(pair.private.as_ref(), &pair.public.0);
            return Ok(Self::Ed25519(Arc::new(key.map_err(|_| HostKeyError::UnsupportedKey)?)));
        }
        if let Some(EcdsaKeypair::NistP256 { public, private }) = key.ecdsa() {
            let key = EcdsaKeyPair::from_private_key_and_public_key(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                private.as_slice(),
                public.as_bytes(),
            );
            return Ok(Self::P256(Arc::new(key.map_err(|_| HostKeyError::UnsupportedKey)?)));
        }
        Err(HostKeyError::UnsupportedKey)
    }

    /// The algorithm with a certificate and the one without.
    const fn algorithms(&self) -> (HostKeyAlgorithm, HostKeyAlgorithm) {
        match self {
            Self::Ed25519(_) => (HostKeyAlgorithm::Ed25519Cert, HostKeyAlgorithm::Ed25519),
            Self::P256(_) => (HostKeyAlgorithm::EcdsaP256Cert, HostKeyAlgorithm::EcdsaP256),
        }
    }

    /// The content of a signature blob.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, HostKeyError> {
        match self {
            Self::Ed25519(key) => {
                Ok(key.try_sign(message).map_err(|_| HostKeyError::Library)?.as_ref().to_vec())
            }
            Self::P256(key) => {
                let fixed = key.sign(&SystemRandom::new(), message).map_err(|_| HostKeyError::Library)?;
                let (r, s) = fixed.as_ref().split_at_checked(32).ok_or(HostKeyError::Library)?;
                let mut content = Vec::new();
                put_positive_mpint(&mut content, r)?;
                put_positive_mpint(&mut content, s)?;
                Ok(content)
            }
        }
    }
}
