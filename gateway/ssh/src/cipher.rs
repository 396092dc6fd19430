//! Packet protection: what turns a framed packet into bytes on the wire, and back.
//!
//! Owns the keys of one direction of one connection between two key exchanges. Invariants: a tag is
//! verified before a byte of plaintext is handed out (for plain MACs, RFC 4253 section 6.4, after
//! decryption, as the RFC orders); all memory of keys is wiped by the cryptography library. Layout of
//! a packet, before sealing and after opening: `packet_length`, `padding_length`, payload, padding;
//! the tag or MAC follows.

mod aead;
mod ctr;

use thiserror::Error;
use zeroize::Zeroizing;

use self::aead::{ChaChaOpener, ChaChaSealer, GcmOpener, GcmSealer};
use self::ctr::Ctr;

/// A symmetric cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// `aes128-gcm@openssh.com` (RFC 5647 with OpenSSH's negotiation).
    Aes128Gcm,
    /// `aes256-gcm@openssh.com`.
    Aes256Gcm,
    /// `chacha20-poly1305@openssh.com` (OpenSSH's PROTOCOL.chacha20poly1305).
    ChaCha20Poly1305,
    /// `aes128-ctr` (RFC 4344 section 4).
    Aes128Ctr,
    /// `aes192-ctr`.
    Aes192Ctr,
    /// `aes256-ctr`.
    Aes256Ctr,
}

/// A message authentication code, for ciphers that are no AEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mac {
    /// `hmac-sha2-256-etm@openssh.com`: over the ciphertext.
    HmacSha256Etm,
    /// `hmac-sha2-512-etm@openssh.com`.
    HmacSha512Etm,
    /// `hmac-sha2-256` (RFC 6668): over the plaintext.
    HmacSha256,
    /// `hmac-sha2-512`.
    HmacSha512,
    /// `hmac-sha1` (RFC 4253 section 6.4), for targets with a legacy profile only.
    HmacSha1,
}

/// Cipher and MAC of one direction; the MAC is set exactly when the cipher is no AEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The cipher.
    pub cipher: Cipher,
    /// The MAC.
    pub mac: Option<Mac>,
}

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
    Ctr(Box<Ctr>),
}

/// Seals packets of one direction.
pub struct Sealer(SealerKind);

enum SealerKind {
    Clear,
    Gcm(GcmSealer),
    ChaCha(Box<ChaChaSealer>),
    Ctr(Box<Ctr>),
}

/// Length of the `packet_length` field, in bytes.
pub const LENGTH_FIELD: usize = 4;

impl Cipher {
    /// Every cipher, cheapest first on a CPU with AES instructions.
    pub const ALL: [Self; 6] = [
        Self::Aes128Gcm,
        Self::Aes256Gcm,
        Self::ChaCha20Poly1305,
        Self::Aes128Ctr,
        Self::Aes192Ctr,
        Self::Aes256Ctr,
    ];

    /// The name in a key exchange.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20Poly1305 => "chacha20-poly1305@openssh.com",
            Self::Aes128Ctr => "aes128-ctr",
            Self::Aes192Ctr => "aes192-ctr",
            Self::Aes256Ctr => "aes256-ctr",
        }
    }

    /// Key length in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128Ctr => 16,
            Self::Aes192Ctr => 24,
            Self::Aes256Gcm | Self::Aes256Ctr => 32,
            Self::ChaCha20Poly1305 => 64,
        }
    }

    /// Length of the initial IV in bytes.
    pub const fn iv_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 12,
            Self::ChaCha20Poly1305 => 0,
            Self::Aes128Ctr | Self::Aes192Ctr | Self::Aes256Ctr => 16,
        }
    }

    /// Whether the cipher authenticates by itself.
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::Aes128Gcm | Self::Aes256Gcm | Self::ChaCha20Poly1305)
    }

    /// Bytes after which keys must be exchanged again: RFC 4344 section 3.2 for blocks of 16 bytes
    /// (2^32 blocks), one GiB for ChaCha20 as OpenSSH does.
    pub const fn rekey_bytes(self) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => 1 << 30,
            Self::Aes128Gcm | Self::Aes256Gcm | Self::Aes128Ctr | Self::Aes192Ctr | Self::Aes256Ctr => {
                1 << 36
            }
        }
    }
}

impl Mac {
    /// Every MAC that is offered without a legacy profile, best first.
    pub const ALL: [Self; 4] = [Self::HmacSha256Etm, Self::HmacSha512Etm, Self::HmacSha256, Self::HmacSha512];

    /// The name in a key exchange.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256Etm => "hmac-sha2-256-etm@openssh.com",
            Self::HmacSha512Etm => "hmac-sha2-512-etm@openssh.com",
            Self::HmacSha256 => "hmac-sha2-256",
            Self::HmacSha512 => "hmac-sha2-512",
            Self::HmacSha1 => "hmac-sha1",
        }
    }

    /// Key length in bytes, which is the length of the MAC too.
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacSha256Etm | Self::HmacSha256 => 32,
            Self::HmacSha512Etm | Self::HmacSha512 => 64,
            Self::HmacSha1 => 20,
        }
    }

    /// Whether the MAC is over the ciphertext.
    pub const fn is_etm(self) -> bool {
        matches!(self, Self::HmacSha256Etm | Self::HmacSha512Etm)
    }
}

impl Protection {
    /// Bytes of the integrity key; 0 for an AEAD.
    pub fn mac_key_len(self) -> usize {
        self.mac.map_or(0, Mac::key_len)
    }
}

impl Opener {
    /// Before the first key exchange: nothing is encrypted.
    pub const fn clear() -> Self {
        Self(OpenerKind::Clear)
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
                OpenerKind::Ctr(Box::new(Ctr::new(protection, keys)?))
            }
        }))
    }

    /// Bytes that must be there before [`Self::packet_length`] can tell the length.
    pub fn head_len(&self) -> usize {
        match &self.0 {
            OpenerKind::Clear | OpenerKind::Gcm(_) | OpenerKind::ChaCha(_) => LENGTH_FIELD,
            OpenerKind::Ctr(ctr) => ctr.head_len(),
        }
    }

    /// Length of the tag or MAC behind a packet.
    pub fn tag_len(&self) -> usize {
        match &self.0 {
            OpenerKind::Clear => 0,
            OpenerKind::Gcm(_) | OpenerKind::ChaCha(_) => aead::TAG_LEN,
            OpenerKind::Ctr(ctr) => ctr.tag_len(),
        }
    }

    /// What `packet_length` must be a multiple of, after adding [`Self::length_in_blocks`].
    pub fn block_len(&self) -> usize {
        match &self.0 {
            OpenerKind::Clear | OpenerKind::ChaCha(_) => 8,
            OpenerKind::Gcm(_) | OpenerKind::Ctr(_) => 16,
        }
    }

    /// Bytes of the length field that count into the blocks: 4 where it is encrypted with the rest.
    pub fn length_in_blocks(&self) -> usize {
        match &self.0 {
            OpenerKind::Clear => LENGTH_FIELD,
            OpenerKind::Gcm(_) | OpenerKind::ChaCha(_) => 0,
            OpenerKind::Ctr(ctr) => ctr.length_in_blocks(),
        }
    }

    /// The value of `packet_length`, from the first [`Self::head_len`] bytes of a packet. To be called
    /// once per packet: some ciphers decrypt the head in place.
    ///
    /// # Errors
    /// [`CipherError::Refused`] when `head` has the wrong length.
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
                SealerKind::Ctr(Box::new(Ctr::new(protection, keys)?))
            }
        }))
    }

    /// Length of the tag or MAC behind a packet.
    pub fn tag_len(&self) -> usize {
        match &self.0 {
            SealerKind::Clear => 0,
            SealerKind::Gcm(_) | SealerKind::ChaCha(_) => aead::TAG_LEN,
            SealerKind::Ctr(ctr) => ctr.tag_len(),
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
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn protections() -> Vec<Protection> {
        let mut all = Vec::new();
        for cipher in Cipher::ALL {
            if cipher.is_aead() {
                all.push(Protection { cipher, mac: None });
            } else {
                all.extend(
                    Mac::ALL
                        .into_iter()
                        .chain([Mac::HmacSha1])
                        .map(|mac| Protection { cipher, mac: Some(mac) }),
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
