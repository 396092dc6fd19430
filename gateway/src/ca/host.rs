//! The host CA: signs certificates for the host keys that users see.
//!
//! Owns the host CA's key while the gateway runs. What a certificate says is
//! [`portreeve_core::host_certificate`]'s, and whether one is shown the session's.

use portreeve_core::host_certificate::{HostCertificateSpec, HostCertificates};
use portreeve_core::host_key::DerivedHostKeys;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::{Certificate, PublicKey};

use super::IssueError;
use super::key::HostCaKey;

/// Signs host certificates.
#[derive(Debug)]
pub struct HostSigner {
    key: HostCaKey,
}

impl HostSigner {
    /// A signer with this key.
    pub fn new(key: HostCaKey) -> Self {
        Self { key }
    }

    /// Certifies both keys as `spec` says (OpenSSH's PROTOCOL.certkeys).
    ///
    /// # Errors
    /// [`IssueError`] when the spec cannot be encoded or the signature fails.
    pub fn issue(
        &self,
        spec: &HostCertificateSpec,
        keys: &DerivedHostKeys,
    ) -> Result<HostCertificates, IssueError> {
        Ok(HostCertificates {
            ed25519: self.certify(spec, keys.ed25519.public_key())?,
            p256: self.certify(spec, keys.p256.public_key())?,
        })
    }

    fn certify(&self, spec: &HostCertificateSpec, key: &PublicKey) -> Result<Certificate, IssueError> {
        let (after, before) = (spec.valid_after, spec.valid_before);
        let mut builder = Builder::new_with_random_nonce(&mut rand::rng(), key, after, before)?;
        builder.cert_type(CertType::Host)?;
        builder.serial(rand::random::<u64>() >> 1)?;
        builder.key_id(spec.key_id.as_str())?;
        for principal in &spec.principals {
            builder.valid_principal(principal.as_str())?;
        }
        Ok(builder.sign(self.key.signing_key())?)
    }
}

#[cfg(test)]
mod tests {
    use portreeve_core::host_key::{AccountSecret, derive};
    use ssh_key::HashAlg;

    use super::*;
    use crate::ca::key::CaAlgorithm;

    #[test]
    fn both_host_keys_get_what_the_spec_says_and_verify_under_the_host_ca() {
        for algorithm in [CaAlgorithm::EcdsaP256, CaAlgorithm::Ed25519] {
            let dir = tempfile::tempdir().unwrap();
            let ca = HostCaKey::init(dir.path(), algorithm).unwrap();
            let fingerprint = ca.public_key().fingerprint(HashAlg::Sha256);
            let keys = derive(&AccountSecret::new([7; 32]), ca.public_key());
            let spec = HostCertificateSpec {
                principals: vec!["db1".into(), "10.1.2.3".into()],
                key_id: "id db1 10.1.2.3:22".into(),
                valid_after: 1_000,
                valid_before: 4_900,
            };
            let signer = HostSigner::new(ca);
            let HostCertificates { ed25519, p256 } = signer.issue(&spec, &keys).unwrap();
            assert_ne!(ed25519.serial(), p256.serial());
            for (certificate, key) in [(ed25519, &keys.ed25519), (p256, &keys.p256)] {
                certificate.validate_at(1_100, [&fingerprint]).unwrap();
                assert!(certificate.validate_at(999, [&fingerprint]).is_err(), "not valid yet");
                assert!(certificate.validate_at(4_901, [&fingerprint]).is_err(), "expired");
                assert_eq!(certificate.cert_type(), CertType::Host);
                assert_eq!(certificate.valid_principals(), ["db1", "10.1.2.3"]);
                assert_eq!(certificate.key_id(), "id db1 10.1.2.3:22");
                assert_eq!(certificate.critical_options().iter().count(), 0);
                assert_eq!(certificate.extensions().iter().count(), 0);
                assert_eq!(certificate.public_key(), key.public_key().key_data());
            }
        }
    }
}
