//! Signatures of OpenSSH, and our own.

mod negative;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use proptest::prelude::*;
use ssh_key::certificate::CertType;
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData};
use ssh_key::{EcdsaCurve, PrivateKey};

use super::*;
use crate::wire::{put_positive_mpint, put_string};

const MESSAGE: &[u8] = b"portreeve exchange hash";

struct Vector {
    label: &'static str,
    algorithm: HostKeyAlgorithm,
    key: Vec<u8>,
    signature: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let lines = include_str!("../../testdata/host_key_signatures.txt").lines();
    let vector = |line: &'static str| {
        let fields: Vec<_> = line.split(' ').collect();
        let [label, algorithm, key, signature] = fields[..] else { panic!("a line has four fields") };
        Vector {
            label,
            algorithm: HostKeyAlgorithm::from_name(algorithm).unwrap(),
            key: BASE64_STANDARD.decode(key).unwrap(),
            signature: BASE64_STANDARD.decode(signature).unwrap(),
        }
    };
    lines.filter(|line| !line.starts_with('#')).map(vector).collect()
}

fn vector(algorithm: HostKeyAlgorithm) -> Vector {
    vectors().into_iter().find(|vector| vector.algorithm == algorithm).unwrap()
}

fn signature_blob(name: &str, content: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    put_string(&mut blob, name.as_bytes()).unwrap();
    put_string(&mut blob, content).unwrap();
    blob
}

#[test]
fn signatures_of_openssh_verify_for_every_algorithm() {
    let vectors = vectors();
    for algorithm in HostKeyAlgorithm::ALL.into_iter().chain([HostKeyAlgorithm::SshRsa]) {
        let found = vectors.iter().filter(|vector| vector.algorithm == algorithm && vector.label != "weak");
        assert_eq!(found.count(), 1, "{algorithm:?}");
    }
    for Vector { algorithm, key, signature, .. } in vectors.iter().filter(|vector| vector.label != "weak") {
        let host_key = verify(*algorithm, key, signature, MESSAGE).unwrap();
        match &host_key {
            PublicHostKey::Plain(plain) => assert_eq!(&plain.to_bytes().unwrap(), key),
            PublicHostKey::Certificate(certificate) => {
                assert_eq!(certificate.cert_type(), CertType::Host);
                assert_eq!(certificate.valid_principals(), ["one.example.com", "two.example.com"]);
                assert_eq!(certificate.serial(), 7);
                let name = algorithm.name().trim_end_matches("-cert-v01@openssh.com");
                let plain = vector(HostKeyAlgorithm::from_name(name).unwrap());
                assert_eq!(host_key.key().to_bytes().unwrap(), plain.key);
            }
        }
        assert_eq!(matches!(host_key, PublicHostKey::Certificate(_)), algorithm.is_certificate());
    }
}

#[test]
fn another_message_or_another_key_does_not_verify() {
    for Vector { algorithm, key, signature, .. } in vectors() {
        let result = verify(algorithm, &key, &signature, b"portreeve exchange hasH");
        assert_eq!(result.err(), Some(HostKeyError::Signature), "{algorithm:?}");
    }
    let (one, other) = (vector(HostKeyAlgorithm::RsaSha512), vector(HostKeyAlgorithm::Ed25519));
    let signer = HostKeySigner::new(&ed25519(), None).unwrap();
    let key = signer.public_blob(HostKeyAlgorithm::Ed25519);
    let result = verify(other.algorithm, &key, &other.signature, MESSAGE);
    assert_eq!(result.err(), Some(HostKeyError::Signature));
    let result = verify(one.algorithm, &one.key, &vector(HostKeyAlgorithm::RsaSha256).signature, MESSAGE);
    assert_eq!(result.err(), Some(HostKeyError::SignatureType));
}

#[test]
fn only_the_negotiated_type_of_key_and_signature_is_taken() {
    for Vector { algorithm, key, signature, .. } in vectors() {
        for other in HostKeyAlgorithm::ALL.into_iter().chain([HostKeyAlgorithm::SshRsa]) {
            let expected = if other == algorithm {
                continue;
            } else if other.key_type() == algorithm.key_type() {
                HostKeyError::SignatureType
            } else {
                HostKeyError::KeyType
            };
            assert_eq!(
                verify(other, &key, &signature, MESSAGE).err(),
                Some(expected),
                "{algorithm:?} {other:?}"
            );
        }
    }
}

#[test]
fn rsa_below_2048_bits_counts_for_the_legacy_algorithm_only() {
    let weak: Vec<_> = vectors().into_iter().filter(|vector| vector.label == "weak").collect();
    assert_eq!(weak.len(), 2);
    for Vector { algorithm, key, signature, .. } in weak {
        let result = verify(algorithm, &key, &signature, MESSAGE);
        assert_eq!(result.is_ok(), algorithm == HostKeyAlgorithm::SshRsa, "{algorithm:?} {result:?}");
    }
}

#[test]
fn a_certificate_that_its_ca_did_not_sign_is_refused() {
    for Vector { algorithm, mut key, signature, .. } in vectors() {
        if !algorithm.is_certificate() {
            continue;
        }
        // A principal is read by nothing but the CA's signature.
        let position = key.windows(3).position(|window| window == b"one").unwrap();
        key[position] = b'O';
        let result = verify(algorithm, &key, &signature, MESSAGE);
        assert_eq!(result.err(), Some(HostKeyError::CaSignature), "{algorithm:?}");
    }
}

#[test]
fn scalars_of_ecdsa_must_fit_the_curve() {
    let Vector { algorithm, key, .. } = vector(HostKeyAlgorithm::EcdsaP256);
    let blob = |r: &[u8], s: &[u8]| {
        let mut content = Vec::new();
        put_positive_mpint(&mut content, r).unwrap();
        put_positive_mpint(&mut content, s).unwrap();
        signature_blob("ecdsa-sha2-nistp256", &content)
    };
    for (r, s) in [(&[][..], &[][..]), (&[1; 33], &[1; 32]), (&[0xff; 32], &[0xff; 32]), (&[1], &[0xff; 200])]
    {
        let result = verify(algorithm, &key, &blob(r, s), MESSAGE);
        assert_eq!(result.err(), Some(HostKeyError::Signature), "{r:?} {s:?}");
    }
    let negative = signature_blob("ecdsa-sha2-nistp256", &[0, 0, 0, 1, 0x80, 0, 0, 0, 1, 1]);
    assert_eq!(verify(algorithm, &key, &negative, MESSAGE).err(), Some(HostKeyError::Malformed));
}

#[test]
fn bytes_behind_key_or_signature_are_refused() {
    for Vector { algorithm, key, signature, .. } in vectors() {
        let longer = |bytes: &[u8]| [bytes, &[0]].concat();
        let malformed = Some(HostKeyError::Malformed);
        assert_eq!(verify(algorithm, &longer(&key), &signature, MESSAGE).err(), malformed, "{algorithm:?}");
        assert_eq!(verify(algorithm, &key, &longer(&signature), MESSAGE).err(), malformed, "{algorithm:?}");
    }
}

pub(crate) fn ed25519() -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[7; 32])), "").unwrap()
}

pub(crate) fn p256() -> PrivateKey {
    let scalar = [0x42; 32];
    let private =
        aws_lc_rs::agreement::PrivateKey::from_private_key(&aws_lc_rs::agreement::ECDH_P256, &scalar);
    let public = private.unwrap().compute_public_key().unwrap();
    let pair = EcdsaKeypair::NistP256 {
        public: ssh_key::sec1::EncodedPoint::<ssh_key::sec1::consts::U32>::from_bytes(public.as_ref())
            .unwrap(),
        private: scalar.into(),
    };
    PrivateKey::new(KeypairData::Ecdsa(pair), "").unwrap()
}

proptest! {
    #[test]
    fn what_we_sign_verifies(message in proptest::collection::vec(any::<u8>(), 0..100)) {
        for (key, algorithm) in [(ed25519(), HostKeyAlgorithm::Ed25519), (p256(), HostKeyAlgorithm::EcdsaP256)] {
            let signer = HostKeySigner::new(&key, None).unwrap();
            prop_assert_eq!(signer.algorithms(), vec![algorithm]);
            let signature = signer.sign(algorithm, &message).unwrap();
            let host_key = verify(algorithm, &signer.public_blob(algorithm), &signature, &message).unwrap();
            prop_assert_eq!(host_key.key(), key.public_key().clone());
        }
    }

    #[test]
    fn no_mutation_panics_and_none_verifies(choice in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0_u32..8, cut in any::<bool>()) {
        let vectors = vectors();
        let Vector { algorithm, key, signature, label } = &vectors[choice.index(vectors.len())];
        prop_assume!(*label != "weak");
        for of_key in [true, false] {
            let (mut key, mut signature) = (key.clone(), signature.clone());
            let mutated = if of_key { &mut key } else { &mut signature };
            let position = at.index(mutated.len());
            if cut { mutated.truncate(position) } else { mutated[position] ^= 1 << bit }
            prop_assert!(verify(*algorithm, &key, &signature, MESSAGE).is_err());
        }
    }

    #[test]
    fn no_bytes_make_the_verification_panic(key in proptest::collection::vec(any::<u8>(), 0..100), signature in proptest::collection::vec(any::<u8>(), 0..100)) {
        for algorithm in HostKeyAlgorithm::ALL {
            let mut typed = Vec::new();
            put_string(&mut typed, algorithm.key_type().as_bytes()).unwrap();
            typed.extend_from_slice(&key);
            prop_assert!(verify(algorithm, &key, &signature, MESSAGE).is_err());
            prop_assert!(verify(algorithm, &typed, &signature, MESSAGE).is_err());
        }
    }
}

#[test]
fn a_signer_refuses_what_it_cannot_do() {
    let signer = HostKeySigner::new(&ed25519(), None).unwrap();
    for algorithm in [HostKeyAlgorithm::Ed25519Cert, HostKeyAlgorithm::EcdsaP256, HostKeyAlgorithm::SshRsa] {
        assert_eq!(signer.sign(algorithm, MESSAGE).err(), Some(HostKeyError::UnsupportedAlgorithm));
    }
    let PublicHostKey::Certificate(certificate) = ({
        let Vector { algorithm, key, signature, .. } = vector(HostKeyAlgorithm::Ed25519Cert);
        verify(algorithm, &key, &signature, MESSAGE).unwrap()
    }) else {
        panic!("a certificate was negotiated");
    };
    let error = HostKeySigner::new(&ed25519(), Some(&certificate)).err();
    assert_eq!(error, Some(HostKeyError::CertificateKey));
}

#[test]
fn a_signer_with_a_certificate_shows_it_first() {
    let key = ed25519();
    let mut builder =
        ssh_key::certificate::Builder::new([1; 16], key.public_key().key_data().clone(), 1, 2).unwrap();
    builder.cert_type(CertType::Host).unwrap();
    builder.valid_principal("one.example.com").unwrap();
    let certificate = builder.sign(&p256()).unwrap();
    let signer = HostKeySigner::new(&key, Some(&certificate)).unwrap();
    assert_eq!(signer.algorithms(), [HostKeyAlgorithm::Ed25519Cert, HostKeyAlgorithm::Ed25519]);
    for algorithm in signer.algorithms() {
        let signature = signer.sign(algorithm, MESSAGE).unwrap();
        let host_key = verify(algorithm, &signer.public_blob(algorithm), &signature, MESSAGE).unwrap();
        assert_eq!(host_key.key().key_data(), key.public_key().key_data());
        assert_eq!(matches!(host_key, PublicHostKey::Certificate(_)), algorithm.is_certificate());
    }
}

#[test]
fn keys_of_other_types_cannot_sign() {
    let unsupported = PrivateKey::new(
        KeypairData::Ecdsa(EcdsaKeypair::NistP384 {
            public: ssh_key::sec1::EncodedPoint::<ssh_key::sec1::consts::U48>::from_bytes(
                [&[4][..], &[1; 96]].concat(),
            )
            .unwrap(),
            private: [1; 48].into(),
        }),
        "",
    )
    .unwrap();
    assert_eq!(unsupported.algorithm(), ssh_key::Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 });
    assert_eq!(HostKeySigner::new(&unsupported, None).err(), Some(HostKeyError::UnsupportedKey));
}
