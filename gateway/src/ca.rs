//! The certificate authority: signs what a [`CertificateSpec`] says, and nothing else.
//!
//! The signing key stays in [`key`], sealed to a TPM where there is one ([`sealed`]). Every certificate is for a fresh key that lives as long as one
//! log-in; nothing here decides who gets one. Certificates for host keys have another CA, [`host`].

pub mod host;
pub mod key;
pub mod sealed;

use portreeve_core::certificate::CertificateSpec;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::{Algorithm, Certificate, PrivateKey};
use thiserror::Error;

use self::key::CaKey;

/// Why no certificate was issued.
#[derive(Debug, Error)]
#[error("cannot issue a certificate")]
pub struct IssueError(#[from] ssh_key::Error);

/// A fresh key pair and the certificate for it.
#[derive(Debug)]
pub struct Credential {
    /// The private key; it never leaves the process.
    pub key: PrivateKey,
    /// The certificate for its public half.
    pub certificate: Certificate,
}

/// Signs user certificates.
#[derive(Debug)]
pub struct Signer {
    key: CaKey,
}

impl Signer {
    /// A signer with this key.
    pub fn new(key: CaKey) -> Self {
        Self { key }
    }

    /// Makes an ephemeral Ed25519 key and certifies it as `spec` says (OpenSSH's PROTOCOL.certkeys).
    ///
    /// # Errors
    /// [`IssueError`] when the spec cannot be encoded or the signature fails.
    pub fn issue(&self, spec: &CertificateSpec) -> Result<Credential, IssueError> {
        let mut rng = rand::rng();
        let key = PrivateKey::random(&mut rng, Algorithm::Ed25519)?;
        let mut builder =
            Builder::new_with_random_nonce(&mut rng, key.public_key(), spec.valid_after, spec.valid_before)?;
        builder.cert_type(CertType::User)?;
        builder.serial(rand::random::<u64>() >> 1)?;
        builder.key_id(spec.key_id.as_str())?;
        for principal in &spec.principals {
            builder.valid_principal(principal.as_str())?;
        }
        builder.critical_option("source-address", source_address(spec))?;
        for extension in &spec.extensions {
            builder.extension(*extension, "")?;
        }
        let certificate = builder.sign(&self.key)?;
        Ok(Credential { key, certificate })
    }
}

/// A list of one prefix of full length, as `source-address` wants it.
fn source_address(spec: &CertificateSpec) -> String {
    let bits = if spec.source_address.is_ipv4() { 32 } else { 128 };
    format!("{}/{bits}", spec.source_address)
}
