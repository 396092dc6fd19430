//! Host key algorithms: what a name in a key exchange says about key and signature.
//!
//! Owns the three names that belong to one algorithm: the negotiated name, the type inside the host key
//! blob and the name inside the signature blob. They differ for RSA (RFC 8332) and for certificates
//! (OpenSSH's PROTOCOL.certkeys). Does not verify anything.

/// A public key algorithm for host keys; the same names serve `publickey` user authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostKeyAlgorithm {
    /// `ssh-ed25519` (RFC 8709).
    Ed25519,
    /// `ecdsa-sha2-nistp256` (RFC 5656).
    EcdsaP256,
    /// `ecdsa-sha2-nistp384`.
    EcdsaP384,
    /// `ecdsa-sha2-nistp521`.
    EcdsaP521,
    /// `rsa-sha2-512` (RFC 8332).
    RsaSha512,
    /// `rsa-sha2-256`.
    RsaSha256,
    /// `ssh-ed25519-cert-v01@openssh.com`.
    Ed25519Cert,
    /// `ecdsa-sha2-nistp256-cert-v01@openssh.com`.
    EcdsaP256Cert,
    /// `ecdsa-sha2-nistp384-cert-v01@openssh.com`.
    EcdsaP384Cert,
    /// `ecdsa-sha2-nistp521-cert-v01@openssh.com`.
    EcdsaP521Cert,
    /// `rsa-sha2-512-cert-v01@openssh.com`.
    RsaSha512Cert,
    /// `rsa-sha2-256-cert-v01@openssh.com`.
    RsaSha256Cert,
    /// `ssh-rsa` with SHA-1 (RFC 4253 section 6.6), for targets with a legacy profile only; never signed with.
    SshRsa,
}

impl HostKeyAlgorithm {
    /// Every algorithm without `ssh-rsa`, in the order in which targets are asked: the types of keys in a
    /// fixed order, so that a target's choice does not change with what is known about it, and within a
    /// type the certificate first.
    pub const ALL: [Self; 12] = [
        Self::Ed25519Cert,
        Self::Ed25519,
        Self::EcdsaP256Cert,
        Self::EcdsaP256,
        Self::EcdsaP384Cert,
        Self::EcdsaP384,
        Self::EcdsaP521Cert,
        Self::EcdsaP521,
        Self::RsaSha512Cert,
        Self::RsaSha256Cert,
        Self::RsaSha512,
        Self::RsaSha256,
    ];

    /// The name in a key exchange.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RsaSha512Cert => "rsa-sha2-512-cert-v01@openssh.com",
            Self::RsaSha256Cert => "rsa-sha2-256-cert-v01@openssh.com",
            Self::Ed25519Cert | Self::EcdsaP256Cert | Self::EcdsaP384Cert | Self::EcdsaP521Cert => {
                self.key_type()
            }
            Self::Ed25519
            | Self::EcdsaP256
            | Self::EcdsaP384
            | Self::EcdsaP521
            | Self::RsaSha512
            | Self::RsaSha256
            | Self::SshRsa => self.signature_name(),
        }
    }

    /// The algorithm of that name, `ssh-rsa` included.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::SshRsa]).find(|algorithm| algorithm.name() == name)
    }

    /// The type that the blob of the key or certificate starts with.
    pub const fn key_type(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::RsaSha512 | Self::RsaSha256 | Self::SshRsa => "ssh-rsa",
            Self::Ed25519Cert => "ssh-ed25519-cert-v01@openssh.com",
            Self::EcdsaP256Cert => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            Self::EcdsaP384Cert => "ecdsa-sha2-nistp384-cert-v01@openssh.com",
            Self::EcdsaP521Cert => "ecdsa-sha2-nistp521-cert-v01@openssh.com",
            Self::RsaSha512Cert | Self::RsaSha256Cert => "ssh-rsa-cert-v01@openssh.com",
        }
    }

    /// The name that the signature blob starts with.
    pub const fn signature_name(self) -> &'static str {
        match self {
            Self::Ed25519 | Self::Ed25519Cert => "ssh-ed25519",
            Self::EcdsaP256 | Self::EcdsaP256Cert => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 | Self::EcdsaP384Cert => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 | Self::EcdsaP521Cert => "ecdsa-sha2-nistp521",
            Self::RsaSha512 | Self::RsaSha512Cert => "rsa-sha2-512",
            Self::RsaSha256 | Self::RsaSha256Cert => "rsa-sha2-256",
            Self::SshRsa => "ssh-rsa",
        }
    }

    /// Whether the algorithm is offered with a legacy profile only.
    pub const fn is_legacy(self) -> bool {
        matches!(self, Self::SshRsa)
    }

    /// Whether the peer shows a certificate instead of a plain key.
    pub const fn is_certificate(self) -> bool {
        matches!(
            self,
            Self::Ed25519Cert
                | Self::EcdsaP256Cert
                | Self::EcdsaP384Cert
                | Self::EcdsaP521Cert
                | Self::RsaSha512Cert
                | Self::RsaSha256Cert
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_algorithm() {
        for algorithm in HostKeyAlgorithm::ALL.into_iter().chain([HostKeyAlgorithm::SshRsa]) {
            assert_eq!(HostKeyAlgorithm::from_name(algorithm.name()), Some(algorithm));
            assert_eq!(algorithm.is_legacy(), algorithm.name() == "ssh-rsa");
            assert_eq!(algorithm.is_certificate(), algorithm.name().ends_with("-cert-v01@openssh.com"));
            assert_eq!(algorithm.is_certificate(), algorithm.key_type().ends_with("-cert-v01@openssh.com"));
        }
        assert_eq!(
            HostKeyAlgorithm::from_name("ssh-rsa-cert-v01@openssh.com"),
            None,
            "SHA-1 in a certificate"
        );
        assert_eq!(HostKeyAlgorithm::from_name("ssh-dss"), None);
    }
}
