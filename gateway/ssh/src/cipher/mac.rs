//! A cipher that is no AEAD, with HMAC over the ciphertext (`-etm`, OpenSSH's PROTOCOL section 1.5) or
//! over the plaintext (RFC 4253 section 6.4).
//!
//! Owns the order of both and which bytes of a packet each of them covers. Does not know the ciphers.

use aws_lc_rs::{constant_time, hmac};

use super::{CipherError, KeyMaterial, LENGTH_FIELD, Mac, Protection};

/// One direction of a cipher whose state goes on from packet to packet.
pub(super) trait Apply {
    /// Encrypts or decrypts `bytes`, whole blocks, in place.
    ///
    /// # Errors
    /// [`CipherError::Refused`] when the cryptography library refuses.
    fn apply(&mut self, bytes: &mut [u8]) -> Result<(), CipherError>;
}

/// Opens or seals the packets of one direction.
pub(super) struct WithMac<C> {
    cipher: C,
    block_len: usize,
    mac: Mac,
    key: hmac::Key,
}

impl<C: Apply> WithMac<C> {
    /// `cipher` is that of `protection`.
    pub(super) fn new(cipher: C, protection: Protection, keys: &KeyMaterial) -> Result<Self, CipherError> {
        let mac = protection.mac.ok_or(CipherError::Refused)?;
        if keys.mac_key.len() != mac.key_len() {
            return Err(CipherError::Refused);
        }
        let algorithm = match mac {
            Mac::HmacSha256Etm | Mac::HmacSha256 => hmac::HMAC_SHA256,
            Mac::HmacSha512Etm | Mac::HmacSha512 => hmac::HMAC_SHA512,
            Mac::HmacSha1Etm | Mac::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        };
        let key = hmac::Key::new(algorithm, &keys.mac_key);
        Ok(Self { cipher, block_len: protection.cipher.block_len(), mac, key })
    }

    /// Bytes that must be there before the length is known.
    pub(super) fn head_len(&self) -> usize {
        if self.mac.is_etm() { LENGTH_FIELD } else { self.block_len }
    }

    pub(super) fn tag_len(&self) -> usize {
        self.mac.key_len()
    }

    pub(super) fn block_len(&self) -> usize {
        self.block_len
    }

    /// Bytes of the length field that are encrypted with the rest.
    pub(super) fn length_in_blocks(&self) -> usize {
        LENGTH_FIELD - self.clear_len()
    }

    /// Decrypts the first block, where the length is encrypted with the rest.
    pub(super) fn open_head(&mut self, head: &mut [u8]) -> Result<(), CipherError> {
        if self.mac.is_etm() { Ok(()) } else { self.cipher.apply(head) }
    }

    pub(super) fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), CipherError> {
        let head_len = self.head_len();
        let at = packet.len().checked_sub(self.tag_len()).ok_or(CipherError::Refused)?;
        let (packet, tag) = packet.split_at_mut(at);
        let etm = self.mac.is_etm();
        if etm {
            self.verify(sequence, packet, tag)?;
        }
        self.cipher.apply(packet.get_mut(head_len..).ok_or(CipherError::Refused)?)?;
        if etm { Ok(()) } else { self.verify(sequence, packet, tag) }
    }

    pub(super) fn seal(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), CipherError> {
        let clear_len = self.clear_len();
        let at = packet.len().checked_sub(self.tag_len()).ok_or(CipherError::Refused)?;
        let (packet, tag) = packet.split_at_mut(at);
        let etm = self.mac.is_etm();
        if !etm {
            tag.copy_from_slice(self.sign(sequence, packet).as_ref());
        }
        self.cipher.apply(packet.get_mut(clear_len..).ok_or(CipherError::Refused)?)?;
        if etm {
            tag.copy_from_slice(self.sign(sequence, packet).as_ref());
        }
        Ok(())
    }

    /// Bytes at the start of a packet that the cipher leaves in clear.
    fn clear_len(&self) -> usize {
        if self.mac.is_etm() { LENGTH_FIELD } else { 0 }
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
}
