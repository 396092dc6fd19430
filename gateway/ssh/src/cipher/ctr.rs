//! AES in counter mode (RFC 4344) with HMAC, over the ciphertext (`-etm`) or over the plaintext.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, hmac};

use super::{Cipher, CipherError, KeyMaterial, LENGTH_FIELD, Mac, Protection};

const BLOCK: usize = 16;

/// Opens or seals the packets of one direction: counter mode is its own inverse.
pub(super) struct Ctr {
    key: StreamingEncryptingKey,
    mac: MacKey,
    scratch: Vec<u8>,
}

struct MacKey {
    mac: Mac,
    key: hmac::Key,
}

impl MacKey {
    fn new(protection: Protection, keys: &KeyMaterial) -> Result<Self, CipherError> {
        let mac = protection.mac.ok_or(CipherError::Refused)?;
        if keys.mac_key.len() != mac.key_len() {
            return Err(CipherError::Refused);
        }
        let algorithm = match mac {
            Mac::HmacSha256Etm | Mac::HmacSha256 => hmac::HMAC_SHA256,
            Mac::HmacSha512Etm | Mac::HmacSha512 => hmac::HMAC_SHA512,
            Mac::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        };
        Ok(Self { mac, key: hmac::Key::new(algorithm, &keys.mac_key) })
    }

    /// MAC over the sequence number and the packet (RFC 4253 section 6.4).
    fn sign(&self, sequence: u32, packet: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&sequence.to_be_bytes());
        context.update(packet);
        context.sign()
    }

    fn verify(&self, sequence: u32, packet: &[u8], tag: &[u8]) -> Result<(), CipherError> {
        constant_time::verify_slices_are_equal(self.sign(sequence, packet).as_ref(), tag)
            .map_err(|_| CipherError::Altered)
    }

    /// Bytes at the start of a packet that the cipher leaves in clear.
    fn clear_len(&self) -> usize {
        if self.mac.is_etm() { LENGTH_FIELD } else { 0 }
    }

    fn length_in_blocks(&self) -> usize {
        LENGTH_FIELD - self.clear_len()
    }
}

impl Ctr {
    pub(super) fn new(protection: Protection, keys: &KeyMaterial) -> Result<Self, CipherError> {
        let algorithm = match protection.cipher {
            Cipher::Aes128Ctr => &AES_128,
            Cipher::Aes192Ctr => &AES_192,
            Cipher::Aes256Ctr => &AES_256,
            Cipher::Aes128Gcm | Cipher::Aes256Gcm | Cipher::ChaCha20Poly1305 => {
                return Err(CipherError::Refused);
            }
        };
        let iv: [u8; 16] = keys.iv.as_slice().try_into().map_err(|_| CipherError::Refused)?;
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        let key = UnboundCipherKey::new(algorithm, &keys.key)
            .and_then(|key| StreamingEncryptingKey::less_safe_ctr(key, context))
            .map_err(|_| CipherError::Refused)?;
        Ok(Self { key, mac: MacKey::new(protection, keys)?, scratch: Vec::new() })
    }

    pub(super) fn head_len(&self) -> usize {
        if self.mac.mac.is_etm() { LENGTH_FIELD } else { BLOCK }
    }

    pub(super) fn tag_len(&self) -> usize {
        self.mac.mac.key_len()
    }

    pub(super) fn length_in_blocks(&self) -> usize {
        self.mac.length_in_blocks()
    }

    /// Decrypts the first block, where the length is encrypted with the rest.
    pub(super) fn open_head(&mut self, head: &mut [u8]) -> Result<(), CipherError> {
        if self.mac.mac.is_etm() { Ok(()) } else { self.apply(head) }
    }

    pub(super) fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), CipherError> {
        let head_len = self.head_len();
        let at = packet.len().checked_sub(self.tag_len()).ok_or(CipherError::Refused)?;
        let (packet, tag) = packet.split_at_mut(at);
        let etm = self.mac.mac.is_etm();
        if etm {
            self.mac.verify(sequence, packet, tag)?;
        }
        self.apply(packet.get_mut(head_len..).ok_or(CipherError::Refused)?)?;
        if etm { Ok(()) } else { self.mac.verify(sequence, packet, tag) }
    }

    pub(super) fn seal(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), CipherError> {
        let clear_len = self.mac.clear_len();
        let at = packet.len().checked_sub(self.tag_len()).ok_or(CipherError::Refused)?;
        let (packet, tag) = packet.split_at_mut(at);
        let etm = self.mac.mac.is_etm();
        if !etm {
            tag.copy_from_slice(self.mac.sign(sequence, packet).as_ref());
        }
        self.apply(packet.get_mut(clear_len..).ok_or(CipherError::Refused)?)?;
        if etm {
            tag.copy_from_slice(self.mac.sign(sequence, packet).as_ref());
        }
        Ok(())
    }

    /// Adds the key stream to `bytes`, and moves on in it.
    fn apply(&mut self, bytes: &mut [u8]) -> Result<(), CipherError> {
        self.scratch.resize(bytes.len() + BLOCK, 0);
        let update = self.key.update(bytes, &mut self.scratch).map_err(|_| CipherError::Refused)?;
        if update.written().len() != bytes.len() {
            return Err(CipherError::Refused);
        }
        bytes.copy_from_slice(update.written());
        Ok(())
    }
}
