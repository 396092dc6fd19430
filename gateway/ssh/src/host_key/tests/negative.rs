//! A negative corpus: host keys and certificates that no peer may get accepted, each with its reason.

use super::*;
use crate::wire::put_u32;

/// The fields of a blob, each a `string`.
fn blob(fields: &[&[u8]]) -> Vec<u8> {
    let mut blob = Vec::new();
    fields.iter().for_each(|field| put_string(&mut blob, field).unwrap());
    blob
}

/// What becomes of `key` with a signature that is well formed for `algorithm`.
fn refusal(algorithm: HostKeyAlgorithm, key: &[u8]) -> Option<HostKeyError> {
    verify(algorithm, key, &vector(algorithm).signature, MESSAGE).err()
}

#[test]
fn malformed_keys_are_refused() {
    use HostKeyAlgorithm::{EcdsaP256, EcdsaP384, EcdsaP521, Ed25519, RsaSha512};
    let off_curve = [&[4][..], &[0x55; 64]].concat();
    let beyond_the_field = [&[4][..], &[0xff; 64]].concat();
    let (p256, p384, p521) = (b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521");
    let corpus: Vec<(&str, HostKeyAlgorithm, Vec<u8>)> = vec![
        ("no bytes", Ed25519, vec![]),
        ("only a type", Ed25519, blob(&[b"ssh-ed25519"])),
        ("Ed25519 of 31 bytes", Ed25519, blob(&[b"ssh-ed25519", &[1; 31]])),
        ("Ed25519 of 33 bytes", Ed25519, blob(&[b"ssh-ed25519", &[1; 33]])),
        ("Ed25519 off the curve", Ed25519, blob(&[b"ssh-ed25519", &[2; 32]])),
        ("another curve's name", EcdsaP256, blob(&[p256, b"nistp384", &[4; 65]])),
        ("an unknown curve's name", EcdsaP256, blob(&[p256, b"secp256k1", &[4; 65]])),
        ("another curve's point", EcdsaP256, blob(&[p256, b"nistp256", &[4; 97]])),
        ("the point at infinity", EcdsaP256, blob(&[p256, b"nistp256", &[0]])),
        ("no point", EcdsaP256, blob(&[p256, b"nistp256", b""])),
        ("a point off the curve", EcdsaP256, blob(&[p256, b"nistp256", &off_curve])),
        ("a point beyond the field", EcdsaP256, blob(&[p256, b"nistp256", &beyond_the_field])),
        ("a compressed point", EcdsaP256, blob(&[p256, b"nistp256", &[2; 33]])),
        ("a P-384 point off the curve", EcdsaP384, blob(&[p384, b"nistp384", &[4; 97]])),
        ("a P-521 point off the curve", EcdsaP521, blob(&[p521, b"nistp521", &[4; 133]])),
        ("RSA without numbers", RsaSha512, blob(&[b"ssh-rsa", b"", b""])),
        ("RSA with exponent 1", RsaSha512, blob(&[b"ssh-rsa", &[1], &[0x7f; 256]])),
        ("RSA with an even exponent", RsaSha512, blob(&[b"ssh-rsa", &[4], &[0x7f; 256]])),
        ("RSA with a huge exponent", RsaSha512, blob(&[b"ssh-rsa", &[0x7f; 200], &[0x7f; 256]])),
        ("RSA with an even modulus", RsaSha512, blob(&[b"ssh-rsa", &[3], &[0x7e; 256]])),
        ("RSA with a negative modulus", RsaSha512, blob(&[b"ssh-rsa", &[3], &[0xff; 256]])),
        ("RSA of 16384 bits", RsaSha512, blob(&[b"ssh-rsa", &[3], &[0x7f; 2048]])),
    ];
    for (what, algorithm, key) in corpus {
        assert!(refusal(algorithm, &key).is_some(), "{what}");
    }
}

#[test]
fn keys_of_unknown_and_abandoned_types_are_refused() {
    for name in ["ssh-dss", "sk-ssh-ed25519@openssh.com", "ssh-ed448", "null", ""] {
        assert_eq!(
            refusal(HostKeyAlgorithm::Ed25519, &blob(&[name.as_bytes(), &[1; 32]])),
            Some(HostKeyError::KeyType),
            "{name}"
        );
    }
}

/// Anybody can sign for such a key, with S = 0 and one of these points as R.
#[test]
fn an_ed25519_key_of_small_order_proves_nothing() {
    let negative = |mut point: [u8; 32]| {
        point[31] |= 0x80;
        point
    };
    let points = signature::SMALL_ORDER.into_iter().flat_map(|point| [point, negative(point)]);
    let points: Vec<_> = points.collect();
    for key in &points {
        let key_blob = blob(&[b"ssh-ed25519", key]);
        for nonce in &points {
            let signature = signature_blob("ssh-ed25519", &[&nonce[..], &[0; 32]].concat());
            // Which nonce fits depends on the message, one in eight at the worst.
            for message in 0_u8..32 {
                let result = verify(HostKeyAlgorithm::Ed25519, &key_blob, &signature, &[message]);
                assert_eq!(result.err(), Some(HostKeyError::Signature), "{key:02x?} {nonce:02x?}");
            }
        }
    }
}

#[test]
fn a_certificate_cut_anywhere_is_refused() {
    for Vector { algorithm, key, signature, .. } in vectors() {
        if !algorithm.is_certificate() {
            continue;
        }
        for length in 0..key.len() {
            assert!(
                verify(algorithm, &key[..length], &signature, MESSAGE).is_err(),
                "{algorithm:?} {length}"
            );
        }
    }
}

#[test]
fn a_certificate_with_any_bit_changed_is_refused() {
    let Vector { algorithm, key, signature, .. } = vector(HostKeyAlgorithm::Ed25519Cert);
    for at in 0..key.len() * 8 {
        let mut other = key.clone();
        other[at / 8] ^= 1 << (at % 8);
        assert!(verify(algorithm, &other, &signature, MESSAGE).is_err(), "bit {at}");
    }
}

/// A certificate for [`ed25519`] by `ca`, whose signature says `name` and is over what it must be.
fn certificate(ca: &[u8], name: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let key = ed25519().public_key().key_data().ed25519().unwrap().0;
    let mut signed = blob(&[b"ssh-ed25519-cert-v01@openssh.com", &[7; 32], &key]);
    signed.extend_from_slice(&1_u64.to_be_bytes());
    put_u32(&mut signed, 2);
    signed.extend(blob(&[b"id", &blob(&[b"host"])]));
    signed.extend_from_slice(&0_u64.to_be_bytes());
    signed.extend_from_slice(&u64::MAX.to_be_bytes());
    signed.extend(blob(&[b"", b"", b"", ca]));
    let signature = blob(&[name.as_bytes(), &sign(&signed)]);
    put_string(&mut signed, &signature).unwrap();
    signed
}

fn shown(certificate: &[u8]) -> Result<PublicHostKey, HostKeyError> {
    let signer = HostKeySigner::new(&ed25519(), None).unwrap();
    let signature = signer.sign(HostKeyAlgorithm::Ed25519, MESSAGE).unwrap();
    verify(HostKeyAlgorithm::Ed25519Cert, certificate, &signature, MESSAGE)
}

#[test]
fn a_certificate_needs_a_signature_of_its_ca_under_the_cas_own_algorithm() {
    let ca = p256();
    let ca_blob = ca.public_key().to_bytes().unwrap();
    let signer = HostKeySigner::new(&ca, None).unwrap();
    let content = |signed: &[u8]| {
        let blob = signer.sign(HostKeyAlgorithm::EcdsaP256, signed).unwrap();
        signature::split(&blob).unwrap().1.to_vec()
    };
    assert!(shown(&certificate(&ca_blob, "ecdsa-sha2-nistp256", content)).is_ok());
    let bad = Some(HostKeyError::CaSignature);
    for name in
        ["ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp256-cert-v01@openssh.com", ""]
    {
        let refused = shown(&certificate(&ca_blob, name, content)).err();
        assert!(refused == bad || refused == Some(HostKeyError::Malformed), "{name}: {refused:?}");
    }
    let over_other_bytes = |signed: &[u8]| content(&signed[1..]);
    assert_eq!(shown(&certificate(&ca_blob, "ecdsa-sha2-nistp256", over_other_bytes)).err(), bad);
    assert!(shown(&certificate(&ca_blob, "ecdsa-sha2-nistp256", |_| vec![])).is_err());
}

/// PROTOCOL.certkeys: chained certificates are not supported.
#[test]
fn a_certificate_is_no_ca() {
    let signer = HostKeySigner::new(&ed25519(), None).unwrap();
    let content = |signed: &[u8]| {
        let blob = signer.sign(HostKeyAlgorithm::Ed25519, signed).unwrap();
        signature::split(&blob).unwrap().1.to_vec()
    };
    let own = ed25519().public_key().to_bytes().unwrap();
    let first = certificate(&own, "ssh-ed25519", content);
    assert!(shown(&first).is_ok());
    assert!(shown(&certificate(&first, "ssh-ed25519", content)).is_err());
}

#[test]
fn a_certificate_does_not_stand_for_a_plain_key_nor_the_other_way_round() {
    let own = ed25519().public_key().to_bytes().unwrap();
    assert_eq!(shown(&own).err(), Some(HostKeyError::KeyType));
    let Vector { key, signature, .. } = vector(HostKeyAlgorithm::Ed25519Cert);
    let result = verify(HostKeyAlgorithm::Ed25519, &key, &signature, MESSAGE);
    assert_eq!(result.err(), Some(HostKeyError::KeyType));
}
