//! What a finished key exchange leaves: the shared secret and all that is hashed with it.
//!
//! Owns the exchange hash (RFC 4253 section 8, RFC 4419 section 3, RFC 5656 section 4) and the derivation
//! of keys (RFC 4253 section 7.2). Invariant: the secret is kept in the encoding in which it is hashed, an
//! `mpint` or for the hybrid method a `string`, and is wiped when dropped.

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use super::{Hash, Kex};
use crate::cipher::{KeyMaterial, Protection};
use crate::side::Direction;

/// The identification lines of both sides, without their line ends.
#[derive(Clone, Copy, Debug)]
pub struct Identifications<'a> {
    /// What the client sent.
    pub client: &'a [u8],
    /// What the server sent.
    pub server: &'a [u8],
}

/// Result of a key exchange, the same on both sides.
pub struct Shared {
    hash: Hash,
    /// The fields of the exchange hash between host key and secret: public values, for group exchange
    /// with request and group before them.
    public_fields: Vec<u8>,
    secret: Zeroizing<Vec<u8>>,
}

impl Shared {
    pub(super) const fn new(kex: Kex, public_fields: Vec<u8>, secret: Zeroizing<Vec<u8>>) -> Self {
        Self { hash: kex.hash(), public_fields, secret }
    }

    /// The exchange hash `H`. Of the first exchange of a connection it is the session id too.
    pub fn exchange_hash(
        &self,
        identifications: Identifications<'_>,
        client_kexinit: &[u8],
        server_kexinit: &[u8],
        host_key: &[u8],
    ) -> Vec<u8> {
        let mut hash = digest::Context::new(self.hash.algorithm());
        let Identifications { client, server } = identifications;
        for string in [client, server, client_kexinit, server_kexinit, host_key] {
            // All of them travelled in messages, whose lengths have four bytes.
            hash.update(&u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(string);
        }
        hash.update(&self.public_fields);
        hash.update(&self.secret);
        hash.finish().as_ref().to_vec()
    }

    /// `length` bytes of key material for the letter `A` to `F` (RFC 4253 section 7.2).
    pub fn derive(
        &self,
        letter: u8,
        exchange_hash: &[u8],
        session_id: &[u8],
        length: usize,
    ) -> Zeroizing<Vec<u8>> {
        let block = self.hash.algorithm().output_len();
        // Room for every block from the start: growing would leave unwiped copies behind.
        let mut material = Zeroizing::new(Vec::with_capacity(length + block));
        while material.len() < length {
            let mut hash = digest::Context::new(self.hash.algorithm());
            hash.update(&self.secret);
            hash.update(exchange_hash);
            if material.is_empty() {
                hash.update(&[letter]);
                hash.update(session_id);
            } else {
                hash.update(&material);
            }
            material.extend_from_slice(hash.finish().as_ref());
        }
        material.truncate(length);
        material
    }

    /// Keys of one direction.
    pub fn key_material(
        &self,
        exchange_hash: &[u8],
        session_id: &[u8],
        direction: Direction,
        protection: Protection,
    ) -> KeyMaterial {
        let [iv, key, mac_key] = match direction {
            Direction::ClientToServer => *b"ACE",
            Direction::ServerToClient => *b"BDF",
        };
        let derive = |letter, length| self.derive(letter, exchange_hash, session_id, length);
        KeyMaterial {
            iv: derive(iv, protection.cipher.iv_len()),
            key: derive(key, protection.cipher.key_len()),
            mac_key: derive(mac_key, protection.mac_key_len()),
        }
    }
}
