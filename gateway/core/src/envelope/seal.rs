//! Sealing: batches of plaintext in, bytes of the file out.

use hpke::{OpModeS, Serializable as _};
use rand_core::CryptoRng;
use thiserror::Error;

use super::packet::Batch;
use super::{Aead, Kdf, Kem, PREFIX, RecipientKey, TAG};

/// Seals the blocks of one file: HPKE base mode (RFC 9180) with DHKEM(X25519, HKDF-SHA256),
/// HKDF-SHA256 and ChaCha20-Poly1305, empty info and aad.
pub struct Sealer {
    context: hpke::aead::AeadCtxS<Aead, Kdf, Kem>,
    encapsulated_key: [u8; 32],
    blocks: u64,
}

/// Why sealing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// No context could be set up with the recipient key.
    #[error("cannot set up encryption to the recipient key")]
    Setup,
    /// The cipher refused: the context has sealed all the blocks it may.
    #[error("the encryption context cannot seal any more")]
    Exhausted,
}

impl Sealer {
    /// Sets up the context of a new file with an ephemeral key from `rng`.
    ///
    /// # Errors
    /// [`SealError::Setup`].
    pub fn new<R: CryptoRng>(recipient: &RecipientKey, rng: &mut R) -> Result<Self, SealError> {
        use hpke::Deserializable as _;
        let public =
            <Kem as hpke::Kem>::PublicKey::from_bytes(recipient.as_bytes()).map_err(|_| SealError::Setup)?;
        let (encapsulated, context) =
            hpke::setup_sender_with_rng::<Aead, Kdf, Kem>(&OpModeS::Base, &public, &[], rng)
                .map_err(|_| SealError::Setup)?;
        Ok(Self { context, encapsulated_key: encapsulated.to_bytes().into(), blocks: 0 })
    }

    /// The encapsulated key, for the header.
    pub const fn encapsulated_key(&self) -> [u8; 32] {
        self.encapsulated_key
    }

    /// Blocks sealed so far.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Seals a batch; the result is appended to the file as it is. An empty batch gives no bytes.
    ///
    /// # Errors
    /// [`SealError::Exhausted`]; the sealer is of no use then.
    pub fn seal(&mut self, batch: Batch) -> Result<Vec<u8>, SealError> {
        let (mut bytes, ends) = batch.into_parts();
        let mut rest = bytes.as_mut_slice();
        let mut start = 0;
        for end in ends {
            let (block, after) = rest.split_at_mut_checked(end - start).ok_or(SealError::Exhausted)?;
            self.seal_block(block)?;
            rest = after;
            start = end;
        }
        Ok(bytes)
    }

    fn seal_block(&mut self, block: &mut [u8]) -> Result<(), SealError> {
        let (prefix, body) = block.split_first_chunk_mut::<PREFIX>().ok_or(SealError::Exhausted)?;
        let length = u32::try_from(body.len()).map_err(|_| SealError::Exhausted)?;
        *prefix = length.to_be_bytes();
        let (plaintext, tag) = body.split_last_chunk_mut::<TAG>().ok_or(SealError::Exhausted)?;
        let sealed =
            self.context.seal_inout_detached(plaintext.into(), &[]).map_err(|_| SealError::Exhausted)?;
        *tag = sealed.to_bytes().into();
        self.blocks = self.blocks.saturating_add(1);
        Ok(())
    }
}
