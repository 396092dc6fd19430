//! Block ciphers in CBC mode (RFC 4253 section 6.3), for peers with a legacy profile.
//!
//! Invariant: the last block of ciphertext is the IV of what follows, within a packet and from packet to
//! packet. What a decrypted length may tell an attacker is [`crate::packet`]'s to hide.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptingKey, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;

use super::mac::Apply;
use super::{Cipher, CipherError, KeyMaterial};

/// Encrypts one direction.
pub(super) struct CbcSealing {
    key: EncryptingKey,
    iv: Iv,
}

/// Decrypts one direction.
pub(super) struct CbcOpening {
    key: DecryptingKey,
    iv: Iv,
}

/// The block before the next one.
enum Iv {
    Aes([u8; 16]),
    TripleDes([u8; 8]),
}

impl CbcSealing {
    pub(super) fn new(cipher: Cipher, keys: &KeyMaterial) -> Result<Self, CipherError> {
        let (key, iv) = parts(cipher, keys)?;
        Ok(Self { key: EncryptingKey::cbc(key).map_err(|_| CipherError::Refused)?, iv })
    }
}

impl Apply for CbcSealing {
    fn apply(&mut self, bytes: &mut [u8]) -> Result<(), CipherError> {
        self.key.less_safe_encrypt(bytes, self.iv.context()).map_err(|_| CipherError::Refused)?;
        self.iv.move_on(bytes);
        Ok(())
    }
}

impl CbcOpening {
    pub(super) fn new(cipher: Cipher, keys: &KeyMaterial) -> Result<Self, CipherError> {
        let (key, iv) = parts(cipher, keys)?;
        Ok(Self { key: DecryptingKey::cbc(key).map_err(|_| CipherError::Refused)?, iv })
    }
}

impl Apply for CbcOpening {
    fn apply(&mut self, bytes: &mut [u8]) -> Result<(), CipherError> {
        let context = self.iv.context();
        self.iv.move_on(bytes);
        self.key.decrypt(bytes, context.into()).map(drop).map_err(|_| CipherError::Refused)
    }
}

#[expect(deprecated, reason = "3DES is all that the oldest devices have; nobody else is offered it")]
fn parts(cipher: Cipher, keys: &KeyMaterial) -> Result<(UnboundCipherKey, Iv), CipherError> {
    let algorithm: &'static Algorithm = match cipher {
        Cipher::Aes128Cbc => &AES_128,
        Cipher::Aes192Cbc => &AES_192,
        Cipher::Aes256Cbc => &AES_256,
        Cipher::TripleDesCbc => &aws_lc_rs::cipher::DES_EDE3_FOR_LEGACY_USE_ONLY,
        Cipher::Aes128Gcm
        | Cipher::Aes256Gcm
        | Cipher::ChaCha20Poly1305
        | Cipher::Aes128Ctr
        | Cipher::Aes192Ctr
        | Cipher::Aes256Ctr => return Err(CipherError::Refused),
    };
    let iv = match keys.iv.as_slice().try_into() {
        Ok(block) => Iv::Aes(block),
        Err(_) => Iv::TripleDes(keys.iv.as_slice().try_into().map_err(|_| CipherError::Refused)?),
    };
    let key = UnboundCipherKey::new(algorithm, &keys.key).map_err(|_| CipherError::Refused)?;
    Ok((key, iv))
}

impl Iv {
    fn context(&self) -> EncryptionContext {
        match self {
            Self::Aes(block) => EncryptionContext::Iv128(FixedLength::from(*block)),
            Self::TripleDes(block) => EncryptionContext::Iv64(FixedLength::from(*block)),
        }
    }

    /// Takes the last block of ciphertext; no block leaves it as it is.
    fn move_on(&mut self, ciphertext: &[u8]) {
        match self {
            Self::Aes(block) => *block = ciphertext.last_chunk().copied().unwrap_or(*block),
            Self::TripleDes(block) => *block = ciphertext.last_chunk().copied().unwrap_or(*block),
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    /// NIST SP 800-38A appendix F.2 and the plaintext that all its vectors share; 3DES: NIST's example
    /// values for TDES in CBC mode, its second half by `openssl enc -des-ede3-cbc -nopad`.
    const PLAINTEXT: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                             30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
    const VECTORS: [(Cipher, &str, &str, &str); 4] = [
        (
            Cipher::Aes128Cbc,
            "2b7e151628aed2a6abf7158809cf4f3c",
            "000102030405060708090a0b0c0d0e0f",
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2\
             73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
        ),
        (
            Cipher::Aes192Cbc,
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            "000102030405060708090a0b0c0d0e0f",
            "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a\
             571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd",
        ),
        (
            Cipher::Aes256Cbc,
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "000102030405060708090a0b0c0d0e0f",
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d\
             39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
        ),
        (
            Cipher::TripleDesCbc,
            "0123456789abcdef23456789abcdef01456789abcdef0123",
            "f69f2445df4f9b17",
            "2079c3d53aa763e193b79e2569ab5262516570481f25b50f73c0bda85c8e0da7\
             9bd86425fae429fdbd65a7a21b6e5d20925d8b0ef919a428154b96ed90f2bc1e",
        ),
    ];

    fn keys(key: &str, iv: &str) -> KeyMaterial {
        let bytes = |text| Zeroizing::new(hex::decode(text).unwrap());
        KeyMaterial { iv: bytes(iv), key: bytes(key), mac_key: Zeroizing::default() }
    }

    #[test]
    fn the_vectors_of_nist_hold_however_the_blocks_are_cut() {
        for (cipher, key, iv, ciphertext) in VECTORS {
            let plain = hex::decode(PLAINTEXT).unwrap();
            for blocks in 1..=4 {
                let keys = keys(key, iv);
                let mut sealing = CbcSealing::new(cipher, &keys).unwrap();
                let mut opening = CbcOpening::new(cipher, &keys).unwrap();
                let mut bytes = plain.clone();
                bytes.chunks_mut(16 * blocks).for_each(|chunk| sealing.apply(chunk).unwrap());
                assert_eq!(hex::encode(&bytes), ciphertext, "{cipher:?}");
                opening.apply(&mut []).unwrap();
                bytes.chunks_mut(16 * blocks).for_each(|chunk| opening.apply(chunk).unwrap());
                assert_eq!(bytes, plain, "{cipher:?}");
            }
        }
    }

    #[test]
    fn parts_of_blocks_and_other_ciphers_are_refused() {
        let (cipher, key, iv, _) = VECTORS[0];
        let keys = keys(key, iv);
        assert_eq!(CbcSealing::new(cipher, &keys).unwrap().apply(&mut [0; 17]), Err(CipherError::Refused));
        assert_eq!(CbcOpening::new(cipher, &keys).unwrap().apply(&mut [0; 15]), Err(CipherError::Refused));
        assert!(CbcOpening::new(Cipher::Aes128Ctr, &keys).is_err());
        assert!(CbcOpening::new(Cipher::TripleDesCbc, &keys).is_err());
    }
}
