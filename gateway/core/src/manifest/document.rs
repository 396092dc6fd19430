//! A signed document: two lines of text.
//!
//! The first line is JSON, whose exact bytes without the newline are signed; nothing is put into
//! another form before, so no two programs can disagree about what was signed. The second line is JSON
//! too: the id of the key, and an armoured SSH signature (OpenSSH's PROTOCOL.sshsig, SHA-512), which
//! stock `ssh-keygen -Y verify` verifies. Each kind of document has its namespace, so that a signature
//! for one kind is none for another. Every other form of the same signature is refused, so that no byte
//! of a document can change unseen.

use aws_lc_rs::digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ssh_key::{Algorithm, HashAlg, LineEnding, Signature, SshSig};
use thiserror::Error;

use super::{AuditKey, AuditPublicKey, Sha256, TrustedKeys};

/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;

/// What a document says; its type decides the namespace of the signature.
pub trait SignedContent: Serialize + DeserializeOwned {
    /// Namespace of the signature, and name of the kind.
    const NAMESPACE: &'static str;
}

/// A document whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    /// What it says.
    pub content: T,
    /// Who signed it.
    pub signer: AuditPublicKey,
    /// SHA-256 of both lines, newlines included: of the document's file.
    pub sha256: Sha256,
}

/// Why a document cannot be made or does not count.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// Not two lines of which the second is a signature in its only form.
    #[error("it is no signed document, or its signature was altered")]
    Shape,
    /// The signature is for something else.
    #[error("its signature does not fit: it was altered")]
    Signature,
    /// The key that signed it is not trusted.
    #[error("it is signed by the key {}, which is not among the given ones", .0.id())]
    UnknownKey(AuditPublicKey),
    /// A later version of the format.
    #[error("it has version {0}, which this program does not know")]
    Version(u32),
    /// The signature holds, and the contents are not those of a document.
    #[error("its contents are not understood")]
    Content(#[source] serde_json::Error),
    /// It cannot be encoded.
    #[error("it cannot be encoded")]
    Encode,
}

#[derive(Serialize)]
struct Body<'a, T> {
    version: u32,
    #[serde(flatten)]
    content: &'a T,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct SignatureLine {
    key: String,
    signature: String,
}

/// Makes a document: the bytes of its file.
///
/// # Errors
/// [`DocumentError::Encode`].
pub fn sign<T: SignedContent>(content: &T, key: &AuditKey) -> Result<Vec<u8>, DocumentError> {
    sign_as(VERSION, content, key)
}

pub(super) fn sign_as<T: SignedContent>(
    version: u32,
    content: &T,
    key: &AuditKey,
) -> Result<Vec<u8>, DocumentError> {
    let body = Body { version, content };
    let mut document = serde_json::to_vec(&body).map_err(|_| DocumentError::Encode)?;
    let signature = key.sign(&signed_bytes(T::NAMESPACE, &document)?);
    let line = signature_line(T::NAMESPACE, key.public_key(), signature)?;
    document.push(b'\n');
    document.extend_from_slice(&line);
    Ok(document)
}

/// Reads a document that a trusted key must have signed.
///
/// # Errors
/// [`DocumentError`]: it does not count.
pub fn read<T: SignedContent>(document: &[u8], trusted: &TrustedKeys) -> Result<Signed<T>, DocumentError> {
    let signed = read_unproven(document)?;
    if trusted.contains(&signed.signer) { Ok(signed) } else { Err(DocumentError::UnknownKey(signed.signer)) }
}

/// Reads a document that the key which it names has signed, whoever holds that key.
///
/// # Errors
/// Any [`DocumentError`] but [`DocumentError::UnknownKey`].
pub fn read_unproven<T: SignedContent>(document: &[u8]) -> Result<Signed<T>, DocumentError> {
    let newline = document.iter().position(|byte| *byte == b'\n').ok_or(DocumentError::Shape)?;
    let (body, rest) = document.split_at_checked(newline).ok_or(DocumentError::Shape)?;
    let line = rest.strip_prefix(b"\n").ok_or(DocumentError::Shape)?;
    let (signer, signature) = read_signature(T::NAMESPACE, line)?;
    if !signer.verifies(&signed_bytes(T::NAMESPACE, body)?, &signature) {
        return Err(DocumentError::Signature);
    }
    let VersionOnly { version } = serde_json::from_slice(body).map_err(DocumentError::Content)?;
    if version != VERSION {
        return Err(DocumentError::Version(version));
    }
    let content = serde_json::from_slice(body).map_err(DocumentError::Content)?;
    Ok(Signed { content, signer, sha256: Sha256::of(document) })
}

fn signed_bytes(namespace: &str, body: &[u8]) -> Result<Vec<u8>, DocumentError> {
    let hash = digest::digest(&digest::SHA512, body);
    SshSig::signed_data_for_prehash(namespace, HashAlg::Sha512, hash.as_ref())
        .map_err(|_| DocumentError::Encode)
}

fn signature_line(
    namespace: &str,
    key: AuditPublicKey,
    signature: Vec<u8>,
) -> Result<Vec<u8>, DocumentError> {
    let armoured = Signature::new(Algorithm::Ed25519, signature)
        .and_then(|signature| SshSig::new(key.key_data(), namespace, HashAlg::Sha512, signature))
        .and_then(|signature| signature.to_pem(LineEnding::LF))
        .map_err(|_| DocumentError::Encode)?;
    let line = SignatureLine { key: key.id(), signature: armoured };
    let mut line = serde_json::to_vec(&line).map_err(|_| DocumentError::Encode)?;
    line.push(b'\n');
    Ok(line)
}

/// The signer and the raw signature of a second line in its only form.
fn read_signature(namespace: &str, line: &[u8]) -> Result<(AuditPublicKey, Vec<u8>), DocumentError> {
    let read: SignatureLine = serde_json::from_slice(line).map_err(|_| DocumentError::Shape)?;
    let signature = SshSig::from_pem(&read.signature).map_err(|_| DocumentError::Shape)?;
    let signer = AuditPublicKey::from_key_data(signature.public_key()).ok_or(DocumentError::Shape)?;
    let raw = signature.signature_bytes().to_vec();
    if signature_line(namespace, signer, raw.clone()).map_err(|_| DocumentError::Shape)? != line {
        return Err(DocumentError::Shape);
    }
    Ok((signer, raw))
}
