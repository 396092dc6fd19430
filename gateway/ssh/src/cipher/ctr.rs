//! AES in counter mode (RFC 4344 section 4).

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;

use super::mac::Apply;
use super::{Cipher, CipherError, KeyMaterial};

const BLOCK: usize = 16;

/// One direction; counter mode is its own inverse, so the same type opens and seals.
pub(super) struct Ctr {
    key: StreamingEncryptingKey,
    scratch: Vec<u8>,
}

impl Ctr {
    pub(super) fn new(cipher: Cipher, keys: &KeyMaterial) -> Result<Self, CipherError> {
        let algorithm = match cipher {
            Cipher::Aes128Ctr => &AES_128,
            Cipher::Aes192Ctr => &AES_192,
            Cipher::Aes256Ctr => &AES_256,
            Cipher::Aes128Gcm
            | Cipher::Aes256Gcm
            | Cipher::ChaCha20Poly1305
            | Cipher::Aes128Cbc
            | Cipher::Aes192Cbc
            | Cipher::Aes256Cbc
            | Cipher::TripleDesCbc => return Err(CipherError::Refused),
        };
        let iv: [u8; BLOCK] = keys.iv.as_slice().try_into().map_err(|_| CipherError::Refused)?;
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        let key = UnboundCipherKey::new(algorithm, &keys.key)
            .and_then(|key| StreamingEncryptingKey::less_safe_ctr(key, context))
            .map_err(|_| CipherError::Refused)?;
        Ok(Self { key, scratch: Vec::new() })
    }
}

impl Apply for Ctr {
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
