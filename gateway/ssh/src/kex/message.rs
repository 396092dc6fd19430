//! Message numbers of key exchanges, and the reading and writing that both roles share.

use super::{Kex, KexError};
use crate::wire::{Reader, WireError, put_string, put_u32};

/// `SSH_MSG_KEXDH_INIT`, `SSH_MSG_KEX_ECDH_INIT`, `SSH_MSG_KEX_HYBRID_INIT`.
pub(super) const INIT: u8 = 30;
/// `SSH_MSG_KEXDH_REPLY`, `SSH_MSG_KEX_ECDH_REPLY`, `SSH_MSG_KEX_HYBRID_REPLY`.
pub(super) const REPLY: u8 = 31;
/// `SSH_MSG_KEX_DH_GEX_GROUP` (RFC 4419 section 5).
pub(super) const GEX_GROUP: u8 = 31;
/// `SSH_MSG_KEX_DH_GEX_INIT`.
pub(super) const GEX_INIT: u8 = 32;
/// `SSH_MSG_KEX_DH_GEX_REPLY`.
pub(super) const GEX_REPLY: u8 = 33;
/// `SSH_MSG_KEX_DH_GEX_REQUEST`.
pub(super) const GEX_REQUEST: u8 = 34;

/// Longest host key blob, in bytes: an RSA certificate of 8192 bits with many principals fits.
const MAX_HOST_KEY: usize = 16_384;
/// Longest signature blob, in bytes: RSA of 8192 bits has 1024 and a name.
const MAX_SIGNATURE: usize = 2048;

/// Sizes of groups that a client asks for, in bits (RFC 4419 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GexRequest {
    pub(super) min: u32,
    pub(super) preferred: u32,
    pub(super) max: u32,
}

/// A reader behind the message number.
pub(super) fn open(payload: &[u8], number: u8) -> Result<Reader<'_>, KexError> {
    let mut reader = Reader::new(payload);
    let found = reader.u8()?;
    if found == number { Ok(reader) } else { Err(KexError::Unexpected(found)) }
}

pub(super) fn read_host_key<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], KexError> {
    bounded(reader.string()?, MAX_HOST_KEY)
}

pub(super) fn read_signature<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], KexError> {
    bounded(reader.string()?, MAX_SIGNATURE)
}

fn bounded(field: &[u8], max: usize) -> Result<&[u8], KexError> {
    if field.len() <= max { Ok(field) } else { Err(KexError::Message(WireError::Malformed)) }
}

pub(super) fn put_host_key(out: &mut Vec<u8>, host_key: &[u8]) -> Result<(), KexError> {
    Ok(put_string(out, bounded(host_key, MAX_HOST_KEY)?)?)
}

pub(super) fn put_signature(out: &mut Vec<u8>, signature: &[u8]) -> Result<(), KexError> {
    Ok(put_string(out, bounded(signature, MAX_SIGNATURE)?)?)
}

impl GexRequest {
    /// As good as 128 bits, nothing below 2048 bits.
    const MODERN: Self = Self { min: 2048, preferred: 3072, max: 8192 };
    /// Devices that know SHA-1 only may have no group above 1024 bits.
    const LEGACY: Self = Self { min: 1024, preferred: 2048, max: 8192 };

    /// What we ask for with a method.
    pub(super) const fn ours(kex: Kex) -> Self {
        if kex.is_legacy() { Self::LEGACY } else { Self::MODERN }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { min: reader.u32()?, preferred: reader.u32()?, max: reader.u32()? })
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        for size in [self.min, self.preferred, self.max] {
            put_u32(out, size);
        }
    }
}
