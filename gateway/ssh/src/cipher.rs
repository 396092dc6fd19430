//! Packet protection: what turns a framed packet into bytes on the wire, and back.
//!
//! Owns the keys of one direction of one connection between two key exchanges. Invariants: a tag is
//! verified before a byte of plaintext is handed out (for plain MACs, RFC 4253 section 6.4, after
//! decryption, as the RFC orders); all memory of keys is wiped by the cryptography library. Layout of
//! a packet, before sealing and after opening: `packet_length`, `padding_length`, payload, padding;
//! the tag or MAC follows.

mod aead;
mod algorithm;
mod cbc;
mod ctr;
mod mac;

use thiserror::Error;
use zeroize::Zeroizing;

use self::aead::{ChaChaOpener, ChaChaSealer, GcmOpener, GcmSealer};
pub use self::algorithm::{Cipher, Mac, Protection};
use self::cbc::{CbcOpening, CbcSealing};
use self::ctr::Ctr;
use self::mac::WithMac;

/// Key material of one direction (RFC 4253 section 7.2).
pub struct KeyMaterial {
    /// Initial IV, [`Cipher::iv_len`] bytes.
    pub iv: Zeroizing<Vec<u8>>,
    /// Encryption key, [`Cipher::key_len`] bytes.
    pub key: Zeroizing<Vec<u8>>,
    /// Integrity key, [`Mac::key_len`] bytes; empty for an AEAD.
    pub mac_key: Zeroizing<Vec<u8>>,
}

/// A packet cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CipherError {
    /// The tag or MAC does not fit: the packet was altered or the keys differ.
    #[error("a packet was altered on its way")]
    Altered,
    /// Key material of the wrong length, or a packet that the cipher cannot take.
    #[error("the cipher refused its input")]
    Refused,
}

/// Opens packets of one direction.
pub struct Opener(OpenerKind);

enum OpenerKind {
    Clear,
    Gcm(GcmOpener),
    ChaCha(Box<ChaChaOpener>),
    Ctr(Box<WithMac<Ctr>>),
    Cbc(Box<WithMac<CbcOpening>>),
    Broken,
}

/// Seals packets of one direction.
pub struct Sealer(SealerKind);

enum SealerKind {
    Clear,
    Gcm(GcmSealer),
    ChaCha(Box<ChaChaSealer>),
    Ctr(Box<WithMac<Ctr>>),
    Cbc(Box<WithMac<CbcSealing>>),
}

/// Length of the `packet_length` field, in bytes.
pub const LENGTH_FIELD: usize = 4;

impl Opener {
    /// Before the first key exchange: nothing is encrypted.
    pub const fn clear() -> Self {
        Self(OpenerKind::Clear)
    }

    /// Opens nothing any more.
    pub const fn broken() -> Self {
        Self(OpenerKind::Broken)
    }

    /// Opens with fresh keys.
    ///
    /// # Errors
    /// [`CipherError::Refused`] when the material has the wrong length.
    pub fn new(protection: Protection, keys: &KeyMaterial) -> Result<Self, CipherError> {
        Ok(Self(match protection.cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => {
                OpenerKind::Gcm(GcmOpener::new(protection.cipher, keys)?)
            }
            Cipher::ChaCha20Poly1305 => OpenerKind::ChaCha(Box::new(ChaChaOpener::new(keys)?)),
            Cipher::Aes128Ctr | Cipher::Aes192Ctr | Cipher::Aes256Ctr => {
                OpenerKind::Ctr(Box::new(WithMac::new(Ctr::new(protection.cipher, keys)?, protection, keys)?))
            }
            Cipher::Aes128Cbc | Cipher::Aes192Cbc | Cipher::Aes256Cbc | Cipher::TripleDesCbc => {
                let cbc = CbcOpening::new(protection.cipher, keys)?;
                OpenerKind::Cbc(Box::new(WithMac::new(cbc, protection, keys)?))
            }
        }))
    }

    /// Bytes that must be there before [`Self::packet_length`] can tell the length.
    pub fn head_len(&self) -> usize {
        match &self.0 {
            OpenerKind::Clear | OpenerKind::Gcm(_) | OpenerKind::ChaCha(_) | OpenerKind::Broken => {
                LENGTH_FIELD
            }
            OpenerKind::Ctr(ctr) => ctr.head_len(),
            OpenerKind::Cbc(cbc) => cbc.head_len(),
        }
    }

    /// Length of the tag or MAC behind a packet.
    pub fn tag_len(&self) -> usize {
        match &self.0 {
            OpenerKind::Clear | OpenerKind::Broken => 0,
            OpenerKind::Gcm(_) | OpenerKind::ChaCha(_) => aead::TAG_LEN,
            OpenerKind::Ctr(ctr) => ctr.tag_len(),
            OpenerKind::Cbc(cbc) => cbc.tag_len(),
        }
    }

    /// What `packet_length` must be a multiple of, after adding [`Self::length_in_blocks`].
    pub fn block_len(&self) -> usize {
        match &self.0 {
            OpenerKind::Clear | OpenerKind::ChaCha(_) | OpenerKind::Broken => 8,
            OpenerKind::Gcm(_) | OpenerKind::Ctr(_) => 16,
            OpenerKind::Cbc(cbc) => cbc.block_len(),
        }
    }

    /// Bytes of the length field that count into the blocks: 4 where it is encrypted with the rest.
    pub fn length_in_blocks(&self) -> usize {
        match &self.0 {
            OpenerKind::Clear | OpenerKind::Broken => LENGTH_FIELD,
            OpenerKind::Gcm(_) | OpenerKind::ChaCha(_) => 0,
            OpenerKind::Ctr(ctr) => ctr.length_in_blocks(),
            OpenerKind::Cbc(cbc) => cbc.length_in_blocks(),
        }
    }

    /// Whether the place at which a packet is found to be altered would tell something about plaintext:
    /// in CBC mode an attacker can have any block of ciphertext decrypted as a length (CVE-2008-5161).
    pub fn must_hide_alterations(&self) -> bool {
        match &self.0 {
            OpenerKind::Clear
            | OpenerKind::Gcm(_)
            | OpenerKind::ChaCha(_)
            | OpenerKind::Ctr(_)
            | OpenerKind::Broken => false,
            OpenerKind::Cbc(cbc) => cbc.length_in_blocks() > 0,
        }
    }

    /// The value of `packet_length`, from the first [`Self::head_len`] bytes of a packet. To be called
    /// once per packet: some ciphers decrypt the head in place.
    ///
    /// # Errors
    /// [`CipherError::Refused`] when `head` has the wrong length, [`CipherError::Altered`] when nothing can
    /// be opened any more.
    pub fn packet_length(&mut self, sequence: u32, head: &mut [u8]) -> Result<u32, CipherError> {
        let clear = |head: &[u8]| {
            head.first_chunk().map(|length| u32::from_be_bytes(*length)).ok_or(CipherError::Refused)
        };
        match &mut self.0 {
            OpenerKind::Clear | OpenerKind::Gcm(_) => clear(head),
            OpenerKind::ChaCha(chacha) => chacha.packet_length(sequence, head),
            OpenerKind::Ctr(ctr) => {
                ctr.open_head(head)?;
                clear(head)
            }
            OpenerKind::Cbc(cbc) => {
                cbc.open_head(head)?;
                clear(head)
            }
            OpenerKind::Broken => Err(CipherError::Altered),
        }
    }

    /// Opens a whole packet with its tag in place; its head went through [`Self::packet_length`].
    ///
    /// # Errors
    /// [`CipherError::Altered`] when it does not verify; the packet is unusable then.
    pub fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), CipherError> {
        match &mut self.0 {
            OpenerKind::Clear => Ok(()),
            OpenerKind::Gcm(gcm) => gcm.open(packet),
            OpenerKind::ChaCha(chacha) => chacha.open(sequence, packet),
            OpenerKind::Ctr(ctr) => ctr.open(sequence, packet),
            OpenerKind::Cbc(cbc) => cbc.open(sequence, packet),
            OpenerKind::Broken => Err(CipherError::Altered),
        }
    }
}

impl Sealer {
    /// Before the first key exchange: nothing is encrypted.
    pub const fn clear() -> Self {
        Self(SealerKind::Clear)
    }

    /// Seals with fresh keys.
    ///
    /// # Errors
    /// [`CipherError::Refused`] when the material has the wrong length.
    pub fn new(protection: Protection, keys: &KeyMaterial) -> Result<Self, CipherError> {
        Ok(Self(match protection.cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => {
                SealerKind::Gcm(GcmSealer::new(protection.cipher, keys)?)
            }
            Cipher::ChaCha20Poly1305 => SealerKind::ChaCha(Box::new(ChaChaSealer::new(keys)?)),
            Cipher::Aes128Ctr | Cipher::Aes192Ctr | Cipher::Aes256Ctr => {
                SealerKind::Ctr(Box::new(WithMac::new(Ctr::new(protection.cipher, keys)?, protection, keys)?))
            }
            Cipher::Aes128Cbc | Cipher::Aes192Cbc | Cipher::Aes256Cbc | Cipher::TripleDesCbc => {
                let cbc = CbcSealing::new(protection.cipher, keys)?;
                SealerKind::Cbc(Box::new(WithMac::new(cbc, protection, keys)?))
            }
        }))
    }

    /// Length of the tag or MAC behind a packet.
    pub fn tag_len(&self) -> usize {
        match &self.0 {
            SealerKind::Clear => 0,
            SealerKind::Gcm(_) | SealerKind::ChaCha(_) => aead::TAG_LEN,
            SealerKind::Ctr(ctr) => ctr.tag_len(),
            SealerKind::Cbc(cbc) => cbc.tag_len(),
        }
    }

    /// Padding for a payload: at least 4 bytes (RFC 4253 section 6), up to a whole block.
    pub fn padding_for(&self, payload: usize) -> usize {
        const MIN_PADDING: usize = 4;
        let (block, length_in_blocks) = match &self.0 {
            SealerKind::Clear => (8, LENGTH_FIELD),
            SealerKind::ChaCha(_) => (8, 0),
            SealerKind::Gcm(_) => (16, 0),
            SealerKind::Ctr(ctr) => (16, ctr.length_in_blocks()),
            SealerKind::Cbc(cbc) => (cbc.block_len(), cbc.length_in_blocks()),
        };
        let unpadded = length_in_blocks + 1 + payload;
        (unpadded + MIN_PADDING).next_multiple_of(block) - unpadded
    }

    /// Seals a framed packet in place; its last [`Self::tag_len`] bytes receive the tag.
    ///
    /// # Errors
    /// [`CipherError::Refused`] when the packet is too short.
    pub fn seal(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), CipherError> {
        match &mut self.0 {
            SealerKind::Clear => Ok(()),
            SealerKind::Gcm(gcm) => gcm.seal(packet),
            SealerKind::ChaCha(chacha) => chacha.seal(sequence, packet),
            SealerKind::Ctr(ctr) => ctr.seal(sequence, packet),
            SealerKind::Cbc(cbc) => cbc.seal(sequence, packet),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn protections() -> Vec<Protection> {
        let mut all = Vec::new();
        for cipher in Cipher::ALL.into_iter().chain(Cipher::LEGACY) {
            if cipher.is_aead() {
                all.push(Protection { cipher, mac: None });
            } else {
                all.extend(
                    Mac::ALL.into_iter().chain(Mac::LEGACY).map(|mac| Protection { cipher, mac: Some(mac) }),
                );
            }
        }
        all
    }

    fn keys(protection: Protection) -> KeyMaterial {
        KeyMaterial {
            iv: Zeroizing::new(vec![3; protection.cipher.iv_len()]),
            key: Zeroizing::new((0..64).take(protection.cipher.key_len()).collect()),
            mac_key: Zeroizing::new(vec![9; protection.mac_key_len()]),
        }
    }

    fn frame(sealer: &Sealer, payload: &[u8]) -> Vec<u8> {
        let padding = sealer.padding_for(payload.len());
        let mut packet = u32::try_from(1 + payload.len() + padding).unwrap().to_be_bytes().to_vec();
        packet.push(u8::try_from(padding).unwrap());
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + padding + sealer.tag_len(), 0);
        packet
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_what_is_altered_does_not(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..4),
            flip in any::<proptest::sample::Index>(),
        ) {
            for protection in protections() {
                let keys = keys(protection);
                let mut sealer = Sealer::new(protection, &keys).unwrap();
                let mut opener = Opener::new(protection, &keys).unwrap();
                for (sequence, payload) in (0_u32..).zip(&payloads) {
                    let clear = frame(&sealer, payload);
                    let mut packet = clear.clone();
                    sealer.seal(sequence, &mut packet).unwrap();
                    let head = opener.head_len();
                    let length = opener.packet_length(sequence, &mut packet[..head]).unwrap() as usize;
                    prop_assert_eq!(length + LENGTH_FIELD + opener.tag_len(), packet.len());
                    prop_assert_eq!((length + opener.length_in_blocks()) % opener.block_len(), 0);
                    opener.open(sequence, &mut packet).unwrap();
                    let body = LENGTH_FIELD..packet.len() - opener.tag_len();
                    prop_assert_eq!(&packet[body.clone()], &clear[body]);
                }
                // A fresh pair, and one bit of the packet behind the length field flipped.
                let mut sealer = Sealer::new(protection, &keys).unwrap();
                let mut opener = Opener::new(protection, &keys).unwrap();
                let mut packet = frame(&sealer, &payloads[0]);
                sealer.seal(7, &mut packet).unwrap();
                let at = LENGTH_FIELD + flip.index(packet.len() - LENGTH_FIELD);
                packet[at] ^= 1;
                let head = opener.head_len();
                opener.packet_length(7, &mut packet[..head]).unwrap();
                prop_assert_eq!(opener.open(7, &mut packet), Err(CipherError::Altered));
            }
        }
    }

    #[test]
    fn key_material_of_the_wrong_length_is_refused() {
        for protection in protections() {
            let mut keys = keys(protection);
            keys.key.pop();
            assert!(Opener::new(protection, &keys).is_err());
            assert!(Sealer::new(protection, &keys).is_err());
        }
    }
}
