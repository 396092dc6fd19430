//! Key exchanges from end to end: both roles against each other, and recorded ones of other servers.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::cipher::{Cipher, Mac, Protection};
use crate::host_key;
use crate::negotiation::HostKeyAlgorithm;
use crate::side::Direction;
use crate::wire::{Reader, put_positive_mpint, put_string};

const IDENTIFICATIONS: Identifications<'_> = Identifications { client: b"SSH-2.0-a", server: b"SSH-2.0-b" };
const KEXINITS: [&[u8]; 2] = [b"\x14client", b"\x14server"];
const HOST_KEY: &[u8] = b"host key";

fn every_kex() -> impl Iterator<Item = Kex> {
    Kex::MODERN.into_iter().chain(Kex::LEGACY)
}

fn hash(shared: &Shared) -> Vec<u8> {
    shared.exchange_hash(IDENTIFICATIONS, KEXINITS[0], KEXINITS[1], HOST_KEY)
}

/// Messages of one exchange in order, and what both sides got.
struct Exchange {
    payloads: Vec<Vec<u8>>,
    client: ClientDone,
    server: ServerDone,
}

fn exchange(kex: Kex) -> Exchange {
    let (mut client, first) = ClientKex::start(kex).unwrap();
    let mut server = ServerKex::start(kex).unwrap();
    let mut payloads = vec![first];
    loop {
        match server.receive(payloads.last().unwrap()).unwrap() {
            ServerStep::Send(next, payload) => {
                server = next;
                payloads.push(payload);
            }
            ServerStep::Done(done) => {
                payloads.push(done.reply(HOST_KEY, b"signature").unwrap());
                let ClientStep::Done(client) = client.receive(payloads.last().unwrap()).unwrap() else {
                    panic!("the client waits for more");
                };
                return Exchange { payloads, client, server: done };
            }
        }
        let ClientStep::Send(next, payload) = client.receive(payloads.last().unwrap()).unwrap() else {
            panic!("the client is done before the server");
        };
        client = next;
        payloads.push(payload);
    }
}

/// A client that waits for the message after `done` ones of its peer's.
fn client_after(payloads: &[Vec<u8>], kex: Kex, done: usize) -> ClientKex {
    let (client, _) = ClientKex::start(kex).unwrap();
    if done == 0 {
        return client;
    }
    match client.receive(&payloads[1]).unwrap() {
        ClientStep::Send(client, _) => client,
        ClientStep::Done(_) => panic!("only group exchange has a second step"),
    }
}

fn server_after(payloads: &[Vec<u8>], kex: Kex, done: usize) -> ServerKex {
    let server = ServerKex::start(kex).unwrap();
    if done == 0 {
        return server;
    }
    match server.receive(&payloads[0]).unwrap() {
        ServerStep::Send(server, _) => server,
        ServerStep::Done(_) => panic!("only group exchange has a second step"),
    }
}

#[test]
fn every_name_leads_back_to_its_method() {
    for kex in every_kex() {
        assert_eq!(Kex::from_name(kex.name()), Some(kex));
        assert_eq!(kex.is_legacy(), kex.name().ends_with("-sha1"));
    }
    assert_eq!(Kex::from_name("ext-info-c"), None);
}

#[test]
fn both_sides_of_every_method_get_the_same_hash_and_keys() {
    let protection = Protection { cipher: Cipher::Aes256Ctr, mac: Some(Mac::HmacSha512Etm) };
    for kex in every_kex() {
        let Exchange { client, server, .. } = exchange(kex);
        assert_eq!((&client.host_key[..], &client.signature[..]), (HOST_KEY, &b"signature"[..]));
        let h = hash(&client.shared);
        assert_eq!(h, hash(&server.shared), "{}", kex.name());
        assert_eq!(h.len(), kex.hash().algorithm().output_len());
        let keys = |shared: &Shared, direction| {
            let keys = shared.key_material(&h, &h, direction, protection);
            [keys.iv, keys.key, keys.mac_key]
        };
        let outbound = keys(&client.shared, Direction::ClientToServer);
        let inbound = keys(&client.shared, Direction::ServerToClient);
        assert_eq!(outbound, keys(&server.shared, Direction::ClientToServer), "{}", kex.name());
        assert_eq!(inbound, keys(&server.shared, Direction::ServerToClient), "{}", kex.name());
        assert_eq!(outbound.each_ref().map(|key| key.len()), [16, 32, 64]);
        assert!(outbound.iter().zip(&inbound).all(|(one, other)| one != other));
    }
}

/// Expected values: computed by a separate program with Python's hashlib.
#[test]
fn hash_and_keys_are_those_of_rfc_4253_sections_7_2_and_8() {
    let mut mpints = Vec::new();
    put_positive_mpint(&mut mpints, &[5]).unwrap();
    put_positive_mpint(&mut mpints, &[0x80, 1]).unwrap();
    let mut strings = Vec::new();
    put_string(&mut strings, b"init").unwrap();
    put_string(&mut strings, b"reply").unwrap();
    let (mpint, string) = (&[0, 0, 0, 3, 0, 0xff, 1][..], &[0, 0, 0, 4, 0, 0, 0xff, 1][..]);
    let table = [
        (
            Kex::DhGroup1Sha1,
            &mpints,
            mpint,
            "3209e59129b3d72f2bed33882fb798df23583b92",
            "09b1e9f3bf9be87ddd39780a",
            "c91a8c509ffa06f510c80f9aac0bd02c623c89367303b514ee59095d36fcbc8f\
             000c4de3f033a6cc88729dc89b9dcc3e82ce25d54056d9c8e1ffdf10d8df5d7b",
            "da410d296963ef0787e8ef7dcff6b215759a45fb",
        ),
        (
            Kex::DhGroup16Sha512,
            &mpints,
            mpint,
            "ee58bda10a15890bdbe1c514929d10e426a0da227f9edb9f6d1eabc6033a0ec8\
             41ec7fbf09198cd6c52b16f0e830dd6bed41c68fa1bf90faf87c589db813ac27",
            "d89d8d4c8aa8f5d3a38a179a",
            "16cb0a03396ec7c7b1f3f49f01b850b9d674ae4788eba841945707de31fb6946\
             02590cc5f6c190bc8dffc8b7d1dfc80bae8183ce6100e0854e8e10ef1a08ce2c",
            "758836b5be8aadecc9f854164db5d80a048c90ee",
        ),
        (
            Kex::MlKem768X25519,
            &strings,
            string,
            "dc0b903919ecd48287d98f3a3e991d96111e97ef13f3bf41b3471e56ef404a05",
            "e1870520767ec0c94321c71e",
            "a9681b7769f5e3a5c1588f96cf43fff109acb4262dfeedfb4aef30fee7168ef1\
             cde212b5089833b7fd3454a291bbc6ba2481c40565ec93f1cbff314050116d33",
            "784638da55899971ad6c2c57ac62bcce0bfa5ed6",
        ),
    ];
    for (kex, fields, secret, h, iv, key, mac_key) in table {
        let shared = Shared::new(kex, fields.clone(), Zeroizing::new(secret.to_vec()));
        let found = hash(&shared);
        assert_eq!(hex::encode(&found), h, "{}", kex.name());
        for (letter, expected) in [(b'A', iv), (b'C', key), (b'F', mac_key)] {
            let derived = shared.derive(letter, &found, b"session", expected.len() / 2);
            assert_eq!(hex::encode(&derived), expected, "{} {letter}", kex.name());
        }
        assert!(shared.derive(b'A', &found, b"session", 0).is_empty());
    }
}

#[test]
fn recorded_exchange_hashes_are_the_ones_that_other_servers_signed() {
    let mut seen = 0;
    let lines = include_str!("../../testdata/kex_transcripts.txt").lines();
    for line in lines.filter(|line| !line.starts_with('#')) {
        let (name, fields) = line.split_once(' ').unwrap();
        let fields: Vec<_> = fields.split(' ').map(|field| BASE64_STANDARD.decode(field).unwrap()).collect();
        let [server, client_kexinit, server_kexinit, public, secret, key, signature] = &fields[..] else {
            panic!("a line has eight fields");
        };
        let shared =
            Shared::new(Kex::from_name(name).unwrap(), public.clone(), Zeroizing::new(secret.clone()));
        let identifications = Identifications { client: b"SSH-2.0-portreeve", server };
        let h = shared.exchange_hash(identifications, client_kexinit, server_kexinit, key);
        let verified = host_key::verify(HostKeyAlgorithm::Ed25519, key, signature, &h);
        assert!(verified.is_ok(), "{name}: {verified:?}");
        seen += 1;
    }
    assert_eq!(seen, 9);
}

#[test]
fn only_the_message_that_is_due_is_taken() {
    for kex in every_kex() {
        let payloads = exchange(kex).payloads;
        for (position, payload) in payloads.iter().enumerate() {
            for number in [0, 20, 21, 35, 255] {
                let mut other = payload.clone();
                other[0] = number;
                let error = if position % 2 == 0 {
                    server_after(&payloads, kex, position / 2).receive(&other).err()
                } else {
                    client_after(&payloads, kex, position / 2).receive(&other).err()
                };
                assert_eq!(error, Some(KexError::Unexpected(number)), "{} message {position}", kex.name());
            }
        }
    }
}

#[test]
fn truncated_and_prolonged_messages_are_refused() {
    for kex in [Kex::MlKem768X25519, Kex::Curve25519, Kex::DhGroup1Sha1, Kex::DhGexSha256] {
        let payloads = exchange(kex).payloads;
        for (position, payload) in payloads.iter().enumerate() {
            let receive = |payload: &[u8]| {
                if position % 2 == 0 {
                    server_after(&payloads, kex, position / 2).receive(payload).err()
                } else {
                    client_after(&payloads, kex, position / 2).receive(payload).err()
                }
            };
            for length in [0, 1, 3, 5, payload.len() / 2, payload.len() - 1] {
                let error = receive(&payload[..length.min(payload.len() - 1)]);
                assert_eq!(error, Some(KexError::Message(WireError::Truncated)), "{} {position}", kex.name());
            }
            let mut longer = payload.clone();
            longer.push(0);
            assert_eq!(receive(&longer), Some(KexError::Message(WireError::Trailing)), "{}", kex.name());
        }
    }
}

#[test]
fn a_group_is_taken_only_within_the_requested_bounds() {
    let prime = {
        let payload = exchange(Kex::DhGexSha256).payloads[1].clone();
        Reader::new(&payload[1..]).positive_mpint().unwrap().to_vec()
    };
    let receive_with = |kex, prime: &[u8], generator: &[u8]| {
        let mut payload = vec![31];
        put_positive_mpint(&mut payload, prime).unwrap();
        put_positive_mpint(&mut payload, generator).unwrap();
        ClientKex::start(kex).unwrap().0.receive(&payload).err()
    };
    let receive = |prime: &[u8], generator: &[u8]| receive_with(Kex::DhGexSha256, prime, generator);
    let (mut even, mut below) = (prime.clone(), prime.clone());
    *even.last_mut().unwrap() &= 0xfe;
    *below.last_mut().unwrap() -= 1;
    assert_eq!(receive(&prime, &[2]), None);
    assert_eq!(receive(&prime, &[5]), None);
    for generator in [&[][..], &[0], &[1], &below, &prime, &[1; 600]] {
        assert_eq!(receive(&prime, generator), Some(KexError::Group(4096)), "{generator:?}");
    }
    assert_eq!(receive(&even, &[2]), Some(KexError::Group(4096)));
    assert_eq!(receive(&[], &[2]), Some(KexError::Group(0)));
    assert_eq!(receive(&[0xff; 128], &[2]), Some(KexError::Group(1024)));
    assert_eq!(receive_with(Kex::DhGexSha1, &[0xff; 128], &[2]), None);
    assert_eq!(receive_with(Kex::DhGexSha1, &[0xff; 127], &[2]), Some(KexError::Group(1016)));
    let mut bits_2047 = [0xff; 256];
    bits_2047[0] = 0x7f;
    assert_eq!(receive(&bits_2047, &[2]), Some(KexError::Group(2047)));
    let mut bits_8193 = [1; 1025];
    bits_8193[0] = 1;
    assert_eq!(receive(&bits_8193, &[2]), Some(KexError::Group(8193)));
}

#[test]
fn values_outside_the_group_are_refused_on_both_sides() {
    let prime = exchange(Kex::DhGexSha256).payloads[1].clone();
    let prime = Reader::new(&prime[1..]).positive_mpint().unwrap().to_vec();
    let mut below = prime.clone();
    *below.last_mut().unwrap() -= 1;
    let longer = [&[1], &prime[..]].concat();
    for value in [&[][..], &[1], &below, &prime, &longer] {
        let mut init = vec![30];
        put_positive_mpint(&mut init, value).unwrap();
        let server = ServerKex::start(Kex::DhGroup16Sha512).unwrap();
        assert_eq!(server.receive(&init).err(), Some(KexError::PublicValue));
        let mut reply = vec![31];
        put_string(&mut reply, HOST_KEY).unwrap();
        put_positive_mpint(&mut reply, value).unwrap();
        put_string(&mut reply, b"signature").unwrap();
        let (client, _) = ClientKex::start(Kex::DhGroup16Sha512).unwrap();
        assert_eq!(client.receive(&reply).err(), Some(KexError::PublicValue));
    }
}

#[test]
fn oversized_host_keys_and_signatures_are_refused() {
    let done = exchange(Kex::Curve25519).server;
    assert!(done.reply(&[0; 16_384], &[0; 2048]).is_ok());
    let malformed = Some(KexError::Message(WireError::Malformed));
    assert_eq!(done.reply(&[0; 16_385], &[]).err(), malformed);
    assert_eq!(done.reply(&[], &[0; 2049]).err(), malformed);
    let mut reply = vec![31];
    put_string(&mut reply, &[0; 16_385]).unwrap();
    let (client, _) = ClientKex::start(Kex::Curve25519).unwrap();
    assert_eq!(client.receive(&reply).err(), malformed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_message_makes_either_side_panic(number in 30_u8..35, body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let payload = [&[number], &body[..]].concat();
        for kex in [Kex::MlKem768X25519, Kex::Curve25519, Kex::EcdhP521, Kex::DhGroup1Sha1, Kex::DhGexSha256] {
            prop_assert!(ServerKex::start(kex).unwrap().receive(&payload).is_err() || kex == Kex::DhGexSha256 || kex == Kex::DhGroup1Sha1);
            let (client, _) = ClientKex::start(kex).unwrap();
            prop_assert!(client.receive(&payload).is_err());
        }
    }

    #[test]
    fn a_mutated_exchange_never_panics_and_never_ends_in_the_same_hash(position in any::<prop::sample::Index>(), bit in 0_u32..8) {
        for kex in [Kex::MlKem768X25519, Kex::Curve25519, Kex::EcdhP256, Kex::DhGroup1Sha1] {
            let (client, mut init) = ClientKex::start(kex).unwrap();
            let at = position.index(init.len());
            init[at] ^= 1 << bit;
            let Ok(ServerStep::Done(server)) = ServerKex::start(kex).unwrap().receive(&init) else { continue };
            let reply = server.reply(HOST_KEY, b"signature").unwrap();
            if let Ok(ClientStep::Done(client)) = client.receive(&reply) {
                prop_assert_ne!(hash(&client.shared), hash(&server.shared));
            }
        }
    }
}
