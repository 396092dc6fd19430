//! Host keys that a server announces after authentication, and its proof (OpenSSH's PROTOCOL file,
//! section 2.5: `hostkeys-00@openssh.com`, `hostkeys-prove-00@openssh.com`).
//!
//! Invariants: a key counts as proven only when it has signed the session id of the connection; number and
//! size of keys are bounded. Certificates and types that are not negotiated either are passed over. Does
//! not decide what a proven key is good for.

use ssh_key::PublicKey;

use super::{HostKeyError, verify};
use crate::message;
use crate::negotiation::HostKeyAlgorithm;
use crate::wire::{PayloadTooLong, Reader, WireError, put_boolean, put_string};

/// Most keys of one announcement that are looked at.
pub const MAX_ANNOUNCED: usize = 16;
/// Longest blob of a key, in bytes: RSA with 8192 bits. All of a request fit into one message.
const MAX_BLOB: usize = 1280;

const PROVE: &[u8] = b"hostkeys-prove-00@openssh.com";

/// Keys that a server says it has.
#[derive(Debug)]
pub struct UnprovenKeys {
    blobs: Vec<Vec<u8>>,
}

impl UnprovenKeys {
    /// Reads what follows name and `want_reply` of `hostkeys-00@openssh.com`: blobs of keys. Those in
    /// `known` need no proof; none if no other is left.
    ///
    /// # Errors
    /// [`WireError`] when the announcement is malformed.
    pub fn announced(content: &[u8], known: &[PublicKey]) -> Result<Option<Self>, WireError> {
        let mut reader = Reader::new(content);
        let mut blobs: Vec<Vec<u8>> = Vec::new();
        for _ in 0..MAX_ANNOUNCED {
            if reader.rest().is_empty() {
                break;
            }
            let blob = reader.string()?;
            let is_known = |key: &PublicKey| known.iter().any(|known| known.key_data() == key.key_data());
            let is_new = |blob: &&[u8]| plain_key(blob).is_some_and(|key| !is_known(&key));
            if is_new(&blob) && !blobs.iter().any(|earlier| earlier == blob) {
                blobs.push(blob.to_vec());
            }
        }
        Ok((!blobs.is_empty()).then_some(Self { blobs }))
    }

    /// The global request for proof of all keys, as a message.
    ///
    /// # Errors
    /// None in practice: the size is bounded.
    pub fn request(&self) -> Result<Vec<u8>, PayloadTooLong> {
        let mut request = vec![message::GLOBAL_REQUEST];
        put_string(&mut request, PROVE)?;
        put_boolean(&mut request, true);
        for blob in &self.blobs {
            put_string(&mut request, blob)?;
        }
        Ok(request)
    }

    /// The keys that the content of the server's reply proves: it holds a signature of each, in order.
    pub fn proven(&self, session_id: &[u8], content: &[u8]) -> Vec<PublicKey> {
        let mut reader = Reader::new(content);
        let signatures = std::iter::from_fn(|| reader.string().ok());
        let keys = self.blobs.iter().zip(signatures);
        keys.filter_map(|(blob, signature)| proven(session_id, blob, signature).ok()).collect()
    }
}

/// A key that has signed; its type need not be the connection's.
fn proven(session_id: &[u8], blob: &[u8], signature: &[u8]) -> Result<PublicKey, HostKeyError> {
    let mut signed = Vec::new();
    for part in [PROVE, session_id, blob] {
        put_string(&mut signed, part)?;
    }
    Ok(verify(algorithm(blob, signature)?, blob, signature, &signed)?.key())
}

/// A key of a type that is negotiated without a certificate.
fn plain_key(blob: &[u8]) -> Option<PublicKey> {
    let key_type = Reader::new(blob).text().ok()?;
    let is_plain =
        |algorithm: HostKeyAlgorithm| !algorithm.is_certificate() && algorithm.key_type() == key_type;
    if blob.len() > MAX_BLOB || !HostKeyAlgorithm::ALL.into_iter().any(is_plain) {
        return None;
    }
    PublicKey::from_bytes(blob).ok()
}

/// What a key and its signature say together; SHA-1 is none of the answers.
fn algorithm(blob: &[u8], signature: &[u8]) -> Result<HostKeyAlgorithm, HostKeyError> {
    let (key_type, name) = (Reader::new(blob).text()?, Reader::new(signature).text()?);
    let fits = |algorithm: &HostKeyAlgorithm| {
        !algorithm.is_certificate() && algorithm.key_type() == key_type && algorithm.signature_name() == name
    };
    HostKeyAlgorithm::ALL.into_iter().find(fits).ok_or(HostKeyError::SignatureType)
}

#[cfg(test)]
mod tests {
    use ssh_key::PrivateKey;
    use ssh_key::private::Ed25519Keypair;

    use super::*;
    use crate::host_key::HostKeySigner;
    use crate::host_key::tests::p256;

    const SESSION: &[u8] = b"session id";

    fn ed25519(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    fn strings<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        parts.into_iter().for_each(|part| put_string(&mut out, part).unwrap());
        out
    }

    fn announcement(keys: &[&PrivateKey]) -> Vec<u8> {
        let blobs: Vec<_> = keys.iter().map(|key| key.public_key().to_bytes().unwrap()).collect();
        strings(blobs.iter().map(Vec::as_slice))
    }

    fn unproven(keys: &[&PrivateKey]) -> UnprovenKeys {
        UnprovenKeys::announced(&announcement(keys), &[]).unwrap().unwrap()
    }

    /// What a server replies that holds `signers` and is asked about `asked`.
    fn reply(session_id: &[u8], asked: &[&PrivateKey], signers: &[&PrivateKey]) -> Vec<u8> {
        let sign = |(asked, signer): (&&PrivateKey, &&PrivateKey)| {
            let signer = HostKeySigner::new(signer, None).unwrap();
            let message = strings([PROVE, session_id, &asked.public_key().to_bytes().unwrap()]);
            signer.sign(signer.algorithms()[0], &message).unwrap()
        };
        let signatures: Vec<_> = asked.iter().zip(signers).map(sign).collect();
        strings(signatures.iter().map(Vec::as_slice))
    }

    fn public(keys: &[&PrivateKey]) -> Vec<PublicKey> {
        let blobs = keys.iter().map(|key| key.public_key().to_bytes().unwrap());
        blobs.map(|blob| PublicKey::from_bytes(&blob).unwrap()).collect()
    }

    #[test]
    fn keys_that_sign_the_session_are_proven() {
        let (a, b) = (&ed25519(1), &p256());
        let keys = unproven(&[a, b]);
        assert_eq!(keys.proven(SESSION, &reply(SESSION, &[a, b], &[a, b])), public(&[a, b]));
        let request = keys.request().unwrap();
        let start = [&[message::GLOBAL_REQUEST][..], &strings([PROVE]), &[1]].concat();
        assert_eq!(request, [start, announcement(&[a, b])].concat());
    }

    #[test]
    fn a_key_that_does_not_sign_this_session_is_not_proven() {
        let (a, b) = (&ed25519(1), &ed25519(2));
        let keys = unproven(&[a, b]);
        assert_eq!(keys.proven(SESSION, &reply(SESSION, &[a, b], &[a, a])), public(&[a]));
        assert_eq!(keys.proven(SESSION, &reply(b"another", &[a, b], &[a, b])), []);
        assert_eq!(keys.proven(SESSION, &reply(SESSION, &[b, a], &[b, a])), [], "in another order");
        assert_eq!(keys.proven(SESSION, &reply(SESSION, &[a], &[a])), public(&[a]));
        assert_eq!(keys.proven(SESSION, b""), []);
        assert_eq!(keys.proven(SESSION, &[0xff; 40]), []);
    }

    #[test]
    fn what_is_known_or_of_another_kind_is_not_asked_about() {
        let (a, b) = (&ed25519(1), &ed25519(2));
        let odd = [&b"ssh-dss"[..], b"ssh-ed25519-cert-v01@openssh.com", b"ssh-rsa", b""]
            .map(|name| strings([name]));
        let odd = strings(odd.iter().map(Vec::as_slice));
        let long = strings([&strings([&b"ssh-rsa"[..], &[3], &[0x7f; MAX_BLOB]])[..]]);
        let all = [announcement(&[a, b, b]), odd, long].concat();
        let asked = UnprovenKeys::announced(&all, &public(&[a])).unwrap().unwrap();
        assert_eq!(asked.blobs, [b.public_key().to_bytes().unwrap()]);
        assert!(UnprovenKeys::announced(&all, &public(&[a, b])).unwrap().is_none());
        assert!(UnprovenKeys::announced(b"", &[]).unwrap().is_none());
        assert_eq!(UnprovenKeys::announced(&[0, 0, 0, 9, 1], &[]).err(), Some(WireError::Truncated));
    }

    #[test]
    fn of_many_keys_only_the_first_are_looked_at() {
        let keys: Vec<_> = (0..40).map(ed25519).collect();
        let keys: Vec<_> = keys.iter().collect();
        assert_eq!(unproven(&keys).blobs.len(), MAX_ANNOUNCED);
    }

    #[test]
    fn a_request_for_the_longest_keys_fits_into_one_message() {
        let keys = UnprovenKeys { blobs: vec![vec![0; MAX_BLOB]; MAX_ANNOUNCED] };
        assert!(keys.request().unwrap().len() < crate::wire::MAX_PAYLOAD);
    }
}
