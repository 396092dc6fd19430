//! Certificates as peers show them (OpenSSH's PROTOCOL.certkeys).
//!
//! Owns the check that the CA named in a certificate signed it, over the bytes as they travelled: a
//! re-encoding could differ. Does not know which CAs are trusted.

use ssh_key::Certificate;
use ssh_key::public::KeyData;

use super::{HostKeyError, signature};
use crate::negotiation::HostKeyAlgorithm;
use crate::wire::{Reader, WireError};

/// Parses a certificate and verifies its signature.
pub(super) fn parse(blob: &[u8]) -> Result<Certificate, HostKeyError> {
    let certificate = Certificate::from_bytes(blob).map_err(|_| HostKeyError::Malformed)?;
    let (signed, signature_blob) = split(blob, certificate.public_key())?;
    let (name, content) = signature::split(signature_blob)?;
    let ca = certificate.signature_key();
    let algorithm = HostKeyAlgorithm::from_name(name)
        .filter(|algorithm| *algorithm != HostKeyAlgorithm::SshRsa && !algorithm.is_certificate())
        .ok_or(HostKeyError::CaSignature)?;
    signature::verify(algorithm, ca, content, signed).map_err(|_| HostKeyError::CaSignature)?;
    Ok(certificate)
}

/// The signed bytes of a certificate and the blob of its signature.
fn split<'a>(blob: &'a [u8], key: &KeyData) -> Result<(&'a [u8], &'a [u8]), HostKeyError> {
    let key_fields = if key.is_ed25519() { 1 } else { 2 };
    let mut reader = Reader::new(blob);
    let strings = |reader: &mut Reader<'a>, count: usize| -> Result<(), WireError> {
        (0..count).try_for_each(|_| reader.string().map(drop))
    };
    // Type, nonce and the key's own fields; serial; type; key id and principals; validity; critical
    // options, extensions, reserved and the CA's key.
    strings(&mut reader, 2 + key_fields)?;
    reader.u64()?;
    reader.u32()?;
    strings(&mut reader, 2)?;
    reader.u64()?;
    reader.u64()?;
    strings(&mut reader, 4)?;
    let signed_len = blob.len() - reader.rest().len();
    let signature_blob = reader.string()?;
    reader.finish()?;
    Ok((blob.get(..signed_len).ok_or(HostKeyError::Malformed)?, signature_blob))
}
