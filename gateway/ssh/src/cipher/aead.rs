//! AES-GCM and ChaCha20-Poly1305.

use aws_lc_rs::aead::chacha20_poly1305_openssh as chacha;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};

use super::{Cipher, CipherError, KeyMaterial, LENGTH_FIELD};

pub(super) const TAG_LEN: usize = 16;

/// The nonce of RFC 5647 section 7.1: 4 fixed bytes, then a counter of packets.
struct Invocation {
    fixed: [u8; 4],
    counter: u64,
}

impl Invocation {
    fn new(iv: &[u8]) -> Result<Self, CipherError> {
        let (fixed, counter) = iv.split_first_chunk().ok_or(CipherError::Refused)?;
        let counter = counter.try_into().map_err(|_| CipherError::Refused)?;
        Ok(Self { fixed: *fixed, counter: u64::from_be_bytes(counter) })
    }

    fn next(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        let (fixed, counter) = nonce.split_at_mut(4);
        fixed.copy_from_slice(&self.fixed);
        counter.copy_from_slice(&self.counter.to_be_bytes());
        self.counter = self.counter.wrapping_add(1);
        Nonce::assume_unique_for_key(nonce)
    }
}

pub(super) struct GcmOpener {
    key: LessSafeKey,
    invocation: Invocation,
}

pub(super) struct GcmSealer {
    key: LessSafeKey,
    invocation: Invocation,
}

fn gcm_key(cipher: Cipher, keys: &KeyMaterial) -> Result<LessSafeKey, CipherError> {
    let algorithm: &'static Algorithm = match cipher {
        Cipher::Aes128Gcm => &AES_128_GCM,
        Cipher::Aes256Gcm => &AES_256_GCM,
        Cipher::ChaCha20Poly1305
        | Cipher::Aes128Ctr
        | Cipher::Aes192Ctr
        | Cipher::Aes256Ctr
        | Cipher::Aes128Cbc
        | Cipher::Aes192Cbc
        | Cipher::Aes256Cbc
        | Cipher::TripleDesCbc => return Err(CipherError::Refused),
    };
    UnboundKey::new(algorithm, &keys.key).map(LessSafeKey::new).map_err(|_| CipherError::Refused)
}

impl GcmOpener {
    pub(super) fn new(cipher: Cipher, keys: &KeyMaterial) -> Result<Self, CipherError> {
        Ok(Self { key: gcm_key(cipher, keys)?, invocation: Invocation::new(&keys.iv)? })
    }

    pub(super) fn open(&mut self, packet: &mut [u8]) -> Result<(), CipherError> {
        let (length, body) = packet.split_first_chunk_mut::<LENGTH_FIELD>().ok_or(CipherError::Refused)?;
        self.key
            .open_in_place(self.invocation.next(), Aad::from(&*length), body)
            .map(drop)
            .map_err(|_| CipherError::Altered)
    }
}

impl GcmSealer {
    pub(super) fn new(cipher: Cipher, keys: &KeyMaterial) -> Result<Self, CipherError> {
        Ok(Self { key: gcm_key(cipher, keys)?, invocation: Invocation::new(&keys.iv)? })
    }

    pub(super) fn seal(&mut self, packet: &mut [u8]) -> Result<(), CipherError> {
        let (length, body) = packet.split_first_chunk_mut::<LENGTH_FIELD>().ok_or(CipherError::Refused)?;
        let (plaintext, tag_out) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(CipherError::Refused)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(self.invocation.next(), Aad::from(&*length), plaintext)
            .map_err(|_| CipherError::Refused)?;
        tag_out.copy_from_slice(tag.as_ref());
        Ok(())
    }
}

pub(super) struct ChaChaOpener(chacha::OpeningKey);

pub(super) struct ChaChaSealer(chacha::SealingKey);

fn chacha_key(keys: &KeyMaterial) -> Result<&[u8; chacha::KEY_LEN], CipherError> {
    keys.key.as_slice().try_into().map_err(|_| CipherError::Refused)
}

impl ChaChaOpener {
    pub(super) fn new(keys: &KeyMaterial) -> Result<Self, CipherError> {
        Ok(Self(chacha::OpeningKey::new(chacha_key(keys)?)))
    }

    pub(super) fn packet_length(&self, sequence: u32, head: &[u8]) -> Result<u32, CipherError> {
        let head = head.try_into().map_err(|_| CipherError::Refused)?;
        Ok(u32::from_be_bytes(self.0.decrypt_packet_length(sequence, head)))
    }

    pub(super) fn open(&self, sequence: u32, packet: &mut [u8]) -> Result<(), CipherError> {
        let (packet, tag) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(CipherError::Refused)?;
        if packet.len() < LENGTH_FIELD {
            return Err(CipherError::Refused);
        }
        self.0.open_in_place(sequence, packet, tag).map(drop).map_err(|_| CipherError::Altered)
    }
}

impl ChaChaSealer {
    pub(super) fn new(keys: &KeyMaterial) -> Result<Self, CipherError> {
        Ok(Self(chacha::SealingKey::new(chacha_key(keys)?)))
    }

    pub(super) fn seal(&self, sequence: u32, packet: &mut [u8]) -> Result<(), CipherError> {
        let (packet, tag) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(CipherError::Refused)?;
        if packet.len() < LENGTH_FIELD {
            return Err(CipherError::Refused);
        }
        self.0.seal_in_place(sequence, packet, tag);
        Ok(())
    }
}
