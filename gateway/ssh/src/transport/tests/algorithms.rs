//! Every algorithm, between two transports.

use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;

use super::*;
use crate::cipher::{Cipher, Mac};
use crate::kex::Kex;
use crate::negotiation::HostKeyAlgorithm;

/// Establishes a pair with what both sides offer, and passes one message each way, byte by byte.
fn works(preferences: Preferences) {
    let client = Config { preferences: preferences.clone(), ..Config::default() };
    let server = Config { preferences, ..server_config() };
    let mut pair = Pair::established_with(client, server);
    pair.client.transport.propose().unwrap();
    pair.client.send(b"up");
    pair.server.send(b"down");
    pair.settle_in_chunks(7).unwrap();
    assert_eq!((pair.client.exchanges, pair.server.exchanges), (2, 2));
    assert_eq!((pair.client.bodies(), pair.server.bodies()), (vec![&b"down"[..]], vec![&b"up"[..]]));
    assert_eq!(pair.client.transport.session_id(), pair.server.transport.session_id());
}

#[test]
fn every_key_exchange_method_serves_the_first_and_a_later_exchange() {
    for kex in Kex::MODERN.into_iter().chain(Kex::LEGACY) {
        works(Preferences { kex: vec![kex], ..Preferences::default() });
    }
}

#[test]
fn both_sides_say_what_they_agreed_on() {
    let preferences = Preferences { ciphers: Cipher::LEGACY.to_vec(), ..Preferences::default() };
    let client = Config { preferences: preferences.clone(), ..Config::default() };
    let server = Config { preferences, ..server_config() };
    let unsettled = Pair::new(Config::default(), server_config());
    assert_eq!(unsettled.client.transport.negotiated(), None);
    let pair = Pair::established_with(client, server);
    let negotiated = pair.client.transport.negotiated().unwrap();
    assert_eq!(Some(negotiated), pair.server.transport.negotiated());
    assert_eq!(negotiated.legacy_names(), ["aes128-cbc"]);
    assert!(negotiated.names().contains(&"ssh-ed25519"));
}

#[test]
fn every_cipher_works_with_every_mac() {
    for cipher in Cipher::ALL.into_iter().chain(Cipher::LEGACY) {
        for mac in Mac::ALL.into_iter().chain(Mac::LEGACY) {
            works(Preferences { ciphers: vec![cipher], macs: vec![mac], ..Preferences::default() });
            if cipher.is_aead() {
                break;
            }
        }
    }
}

/// OpenSSH's configuration knows one list of ciphers for both directions; the protocol has two.
#[test]
fn both_directions_may_have_different_ciphers() {
    let mut client = Config::default();
    client.preferences.ciphers = vec![Cipher::Aes128Gcm];
    let offer = KexInit::new(Role::Client, &client.preferences, [0; 16], Default::default());
    client.preferences.ciphers = vec![Cipher::Aes256Ctr];
    let other = KexInit::new(Role::Client, &client.preferences, [0; 16], Default::default());
    let list = |name: &str| [&u32::try_from(name.len()).unwrap().to_be_bytes()[..], name.as_bytes()].concat();
    // The first of the two equal lists is the one from client to server.
    let (from, to) = (list(Cipher::Aes128Gcm.name()), list(Cipher::Aes256Ctr.name()));
    let payload = offer.payload();
    let at = payload.windows(from.len()).position(|window| window == from).unwrap();
    let mixed = [&payload[..at], &to, &payload[at + from.len()..]].concat();
    assert_ne!(mixed, other.payload());
    let mut peer = Scripted::new(Default::default());
    peer.offer = KexInit::parse(&mixed).unwrap();
    let (negotiated, done) = peer.exchange_up_to_new_keys().unwrap();
    assert_eq!(negotiated.client_to_server.cipher, Cipher::Aes256Ctr);
    assert_eq!(negotiated.server_to_client.cipher, Cipher::Aes128Gcm);
    peer.switch(&negotiated, &done).unwrap();
    peer.write(&[message::PING, 0, 0, 0, 1, b'!']).unwrap();
    assert_eq!(peer.read(), Some(vec![message::PONG, 0, 0, 0, 1, b'!']));
}

#[test]
fn the_client_learns_the_host_key_that_signed() {
    let pair = Pair::established();
    let Some(PublicHostKey::Plain(key)) = &pair.client.host_key else { panic!("a plain key") };
    assert_eq!(key.to_bytes().unwrap(), host_key(1).public_blob(HostKeyAlgorithm::Ed25519));
    assert!(pair.server.host_key.is_none());
}

#[test]
fn a_server_with_a_certificate_shows_it_to_clients_that_take_it() {
    let ca = PrivateKey::from(Ed25519Keypair::from_seed(&[8; 32]));
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[1; 32]));
    let mut builder = Builder::new(vec![1; 16], key.public_key(), 0, u64::MAX - 1).unwrap();
    builder.cert_type(CertType::Host).unwrap();
    builder.valid_principal("10.1.2.3").unwrap();
    let certificate = builder.sign(&ca).unwrap();
    let server = || {
        let host_keys = vec![HostKeySigner::new(&key, Some(&certificate)).unwrap()];
        Config { host_keys, ..server_config() }
    };
    let pair = Pair::established_with(Config::default(), server());
    let Some(PublicHostKey::Certificate(shown)) = &pair.client.host_key else { panic!("a certificate") };
    assert_eq!(**shown, certificate);
    let mut plain = Config::default();
    plain.preferences.host_keys.retain(|algorithm| !algorithm.is_certificate());
    let pair = Pair::established_with(plain, server());
    assert_eq!(pair.client.host_key.unwrap().key(), *key.public_key());
}

#[test]
fn a_client_may_have_fewer_host_key_algorithms_than_the_server() {
    let mut client = Config::default();
    client.preferences.host_keys = vec![HostKeyAlgorithm::RsaSha512];
    let error = Pair::new(client, server_config()).settle().unwrap_err();
    assert!(matches!(error, TransportError::Negotiation(_)), "{error:?}");
}
