//! Key exchange: a shared secret and the hash that names the exchange.
//!
//! Owns the messages between `SSH_MSG_KEXINIT` and `SSH_MSG_NEWKEYS` for both roles, each as a value that
//! consumes one payload and yields the next step. Invariants: a peer's public value is checked before it
//! is used; secrets are wiped when dropped; one exchange costs a bounded number of operations with
//! numbers of at most 8192 bits. Does not check host keys ([`crate::host_key`]), does not choose methods
//! ([`crate::negotiation`]) and does not know packets.
//!
//! Methods: mlkem768x25519-sha256 (draft-ietf-sshm-mlkem-hybrid-kex), curve25519 (RFC 8731), NIST curves
//! (RFC 5656), finite fields (RFC 4253 section 8, RFC 8268) and group exchange (RFC 4419).

mod client;
mod dh;
mod ecdh;
mod groups;
mod hybrid;
mod message;
mod secret;
mod server;
mod shared;
#[cfg(test)]
mod tests;

use aws_lc_rs::digest;
use thiserror::Error;

pub use self::client::{ClientDone, ClientKex, ClientStep};
pub use self::server::{ServerDone, ServerKex, ServerStep};
pub use self::shared::{Identifications, Shared};
use crate::wire::{PayloadTooLong, WireError};

/// A key exchange method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kex {
    /// `mlkem768x25519-sha256`.
    MlKem768X25519,
    /// `curve25519-sha256`.
    Curve25519,
    /// `curve25519-sha256@libssh.org`: the same under its older name.
    Curve25519Libssh,
    /// `ecdh-sha2-nistp256`.
    EcdhP256,
    /// `ecdh-sha2-nistp384`.
    EcdhP384,
    /// `ecdh-sha2-nistp521`.
    EcdhP521,
    /// `diffie-hellman-group16-sha512`: 4096 bits.
    DhGroup16Sha512,
    /// `diffie-hellman-group18-sha512`: 8192 bits.
    DhGroup18Sha512,
    /// `diffie-hellman-group14-sha256`: 2048 bits.
    DhGroup14Sha256,
    /// `diffie-hellman-group-exchange-sha256`: the server chooses a group.
    DhGexSha256,
    /// `diffie-hellman-group14-sha1`, legacy.
    DhGroup14Sha1,
    /// `diffie-hellman-group-exchange-sha1`, legacy.
    DhGexSha1,
    /// `diffie-hellman-group1-sha1`, legacy: 1024 bits.
    DhGroup1Sha1,
}

/// The hash of a key exchange method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-1, in legacy methods only.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// A key exchange fails; the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KexError {
    /// Another message is due than the one with this number.
    #[error("message {0} is not the next one of this key exchange")]
    Unexpected(u8),
    /// The message cannot be parsed.
    #[error("a key exchange message is malformed")]
    Message(#[from] WireError),
    /// The peer's public value is no element of the group, or one that would give the secret away.
    #[error("the peer's public value is not acceptable")]
    PublicValue,
    /// The server's group is out of bounds: its prime has this many bits, or its numbers are no group.
    #[error("the server's group with a prime of {0} bits is not acceptable")]
    Group(u32),
    /// No group has a size between the client's bounds, in bits.
    #[error("no group has between {min} and {max} bits")]
    GroupSize {
        /// The least that the client takes.
        min: u32,
        /// The most that the client takes.
        max: u32,
    },
    /// A host key or signature that does not fit into a message.
    #[error("a key exchange message would be too long")]
    TooLong(#[from] PayloadTooLong),
    /// The cryptography library refused: no randomness, or no memory.
    #[error("the cryptography library failed")]
    Library,
}

impl Kex {
    /// What is offered to everybody, best first.
    pub const MODERN: [Self; 10] = [
        Self::MlKem768X25519,
        Self::Curve25519,
        Self::Curve25519Libssh,
        Self::EcdhP256,
        Self::EcdhP384,
        Self::EcdhP521,
        Self::DhGroup16Sha512,
        Self::DhGroup18Sha512,
        Self::DhGroup14Sha256,
        Self::DhGexSha256,
    ];
    /// What is offered with a legacy profile only, best first.
    pub const LEGACY: [Self; 3] = [Self::DhGroup14Sha1, Self::DhGexSha1, Self::DhGroup1Sha1];

    /// The name in a key exchange.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MlKem768X25519 => "mlkem768x25519-sha256",
            Self::Curve25519 => "curve25519-sha256",
            Self::Curve25519Libssh => "curve25519-sha256@libssh.org",
            Self::EcdhP256 => "ecdh-sha2-nistp256",
            Self::EcdhP384 => "ecdh-sha2-nistp384",
            Self::EcdhP521 => "ecdh-sha2-nistp521",
            Self::DhGroup16Sha512 => "diffie-hellman-group16-sha512",
            Self::DhGroup18Sha512 => "diffie-hellman-group18-sha512",
            Self::DhGroup14Sha256 => "diffie-hellman-group14-sha256",
            Self::DhGexSha256 => "diffie-hellman-group-exchange-sha256",
            Self::DhGroup14Sha1 => "diffie-hellman-group14-sha1",
            Self::DhGexSha1 => "diffie-hellman-group-exchange-sha1",
            Self::DhGroup1Sha1 => "diffie-hellman-group1-sha1",
        }
    }

    /// The method of that name, legacy ones included.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::MODERN.into_iter().chain(Self::LEGACY).find(|kex| kex.name() == name)
    }

    /// The hash of the exchange and of the derivation of keys.
    pub const fn hash(self) -> Hash {
        match self {
            Self::MlKem768X25519
            | Self::Curve25519
            | Self::Curve25519Libssh
            | Self::EcdhP256
            | Self::DhGroup14Sha256
            | Self::DhGexSha256 => Hash::Sha256,
            Self::EcdhP384 => Hash::Sha384,
            Self::EcdhP521 | Self::DhGroup16Sha512 | Self::DhGroup18Sha512 => Hash::Sha512,
            Self::DhGroup14Sha1 | Self::DhGexSha1 | Self::DhGroup1Sha1 => Hash::Sha1,
        }
    }

    /// Whether the method is offered with a legacy profile only.
    pub const fn is_legacy(self) -> bool {
        matches!(self.hash(), Hash::Sha1)
    }
}

impl Hash {
    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}
