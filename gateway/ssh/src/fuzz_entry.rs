//! What the fuzz targets call, and what replays their corpora in the tests.
//!
//! Each function takes any bytes, drives one part of the crate with them and asserts what must hold.
//! Not part of the crate as it is used: compiled for tests and with the feature `fuzz-entry` only.

mod joined;
#[cfg(test)]
mod tests;

use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;
use zeroize::Zeroizing;

use crate::cipher::{Cipher, KeyMaterial, Mac, Opener, Protection, Sealer};
use crate::host_key::{self, HostKeySigner};
use crate::kex::{ClientKex, ClientStep, Kex, ServerKex, ServerStep};
use crate::negotiation::{Extras, HostKeyAlgorithm, KexInit, Preferences, Role, negotiate};
use crate::packet::{Inbound, Outbound};
use crate::relay::{Relay, Seen, Side, refused_open, refused_request};
use crate::text::TerminalText;
use crate::transport::{Config, Event, Transport};
use crate::userauth::client::ClientAuth;
use crate::userauth::server::{Asked, ServerAuth};
use crate::wire::Reader;

/// A target and its name, which is that of its file and of its corpus too.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 7] = [
    ("packet", packet),
    ("kex_init", kex_init),
    ("kex_messages", kex_messages),
    ("host_key", host_key),
    ("userauth", userauth),
    ("relay_messages", relay_messages),
    ("transport", transport),
];

const PROTECTIONS: [Protection; 8] = [
    Protection { cipher: Cipher::Aes128Gcm, mac: None },
    Protection { cipher: Cipher::ChaCha20Poly1305, mac: None },
    Protection { cipher: Cipher::Aes128Ctr, mac: Some(Mac::HmacSha256Etm) },
    Protection { cipher: Cipher::Aes192Ctr, mac: Some(Mac::HmacSha256) },
    Protection { cipher: Cipher::Aes256Ctr, mac: Some(Mac::HmacSha512) },
    Protection { cipher: Cipher::Aes256Ctr, mac: Some(Mac::HmacSha1) },
    Protection { cipher: Cipher::Aes128Cbc, mac: Some(Mac::HmacSha1) },
    Protection { cipher: Cipher::TripleDesCbc, mac: Some(Mac::HmacSha1Etm) },
];

/// One of `all`, by a byte of the input.
fn pick<T: Copy>(all: &[T], by: u8) -> Option<T> {
    all.get(usize::from(by).checked_rem(all.len())?).copied()
}

/// Bytes that follow a length of two bytes.
fn chunk<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let (high, low) = (reader.u8().ok()?, reader.u8().ok()?);
    let length = usize::from(u16::from_be_bytes([high, low])).min(reader.rest().len());
    reader.bytes(length).ok()
}

fn feed(inbound: &mut Inbound, bytes: &[u8]) {
    let spare = inbound.spare(bytes.len());
    spare.get_mut(..bytes.len()).expect("as much as was asked for").copy_from_slice(bytes);
    inbound.filled(bytes.len());
}

fn keys(protection: Protection) -> KeyMaterial {
    KeyMaterial {
        iv: Zeroizing::new(vec![1; protection.cipher.iv_len()]),
        key: Zeroizing::new((0..64).take(protection.cipher.key_len()).collect()),
        mac_key: Zeroizing::new(vec![3; protection.mac_key_len()]),
    }
}

/// Layout: protection, size of reads, place and mask of a change; then a stream in clear, or payloads
/// that are sealed first. What was not changed arrives; a change of sealed bytes never passes as data.
pub fn packet(input: &[u8]) {
    let mut reader = Reader::new(input);
    let (Ok(choice), Ok(size), Ok(place), Ok(mask)) = (reader.u8(), reader.u8(), reader.u8(), reader.u8())
    else {
        return;
    };
    let (mut inbound, mut outbound) = (Inbound::default(), Outbound::default());
    let (mut sent, mut stream) = (None, reader.rest().to_vec());
    if let Some(protection) = pick(&PROTECTIONS, choice >> 1).filter(|_| choice & 1 == 1) {
        let keys = keys(protection);
        outbound.set_sealer(Sealer::new(protection, &keys).expect("right lengths"), true);
        inbound.set_opener(Opener::new(protection, &keys).expect("right lengths"), true);
        let mut payloads = Vec::new();
        while let Some(payload) = chunk(&mut reader).filter(|payload| !payload.is_empty()) {
            outbound.push(&[payload]).expect("shorter than the limit");
            payloads.push(payload.to_vec());
        }
        stream = outbound.pending().to_vec();
        let changed = mask != 0 && stream.get_mut(usize::from(place)).map(|byte| *byte ^= mask).is_some();
        sent = Some((payloads, changed));
    }
    let mut received = Vec::new();
    'pieces: for piece in stream.chunks(usize::from(size) + 1) {
        feed(&mut inbound, piece);
        loop {
            match inbound.next_packet() {
                Ok(Some(range)) => received.push(inbound.payload(range).to_vec()),
                Ok(None) => break,
                Err(_) => {
                    let unchanged = sent.as_ref().is_some_and(|(_, changed)| !changed);
                    assert!(!unchanged, "an unchanged packet does not open");
                    break 'pieces;
                }
            }
        }
    }
    if let Some((payloads, changed)) = sent {
        assert!(payloads.starts_with(&received), "what was sealed is not what was opened");
        assert_eq!(received.len() < payloads.len(), changed, "a change passes, or a packet is lost");
    }
}

/// A KEXINIT, as either side's, against ours.
pub fn kex_init(input: &[u8]) {
    let Ok(theirs) = KexInit::parse(input) else { return };
    assert_eq!(theirs.payload(), input);
    for preferences in [Preferences::default(), Preferences::legacy()] {
        for role in [Role::Client, Role::Server] {
            let ours = KexInit::new(role, &preferences, [0; 16], Extras { ext_info: true, strict: true });
            let negotiated = match role {
                Role::Client => negotiate(&ours, &theirs),
                Role::Server => negotiate(&theirs, &ours),
            };
            if let Ok(negotiated) = negotiated {
                assert!(preferences.kex.contains(&negotiated.kex), "a method of ours");
                assert!(preferences.host_keys.contains(&negotiated.host_key), "an algorithm of ours");
                for Protection { cipher, mac } in [negotiated.client_to_server, negotiated.server_to_client] {
                    assert!(preferences.ciphers.contains(&cipher), "a cipher of ours");
                    assert!(mac.is_none_or(|mac| preferences.macs.contains(&mac)), "a MAC of ours");
                }
            }
        }
    }
}

/// Methods whose cost lets a fuzzer get on.
const KEX: [Kex; 6] =
    [Kex::MlKem768X25519, Kex::Curve25519, Kex::EcdhP256, Kex::EcdhP521, Kex::DhGroup1Sha1, Kex::DhGexSha256];

/// Layout: method and role, then messages.
pub fn kex_messages(input: &[u8]) {
    let mut reader = Reader::new(input);
    let Ok(choice) = reader.u8() else { return };
    let Some(kex) = pick(&KEX, choice >> 1) else { return };
    if choice & 1 == 0 {
        let mut state = ClientKex::start(kex).map(|(state, _)| state);
        while let (Ok(client), Some(message)) = (state, chunk(&mut reader)) {
            state = match client.receive(message) {
                Ok(ClientStep::Send(client, _)) => Ok(client),
                Ok(ClientStep::Done(_)) => return,
                Err(error) => Err(error),
            };
        }
    } else {
        let mut state = ServerKex::start(kex);
        while let (Ok(server), Some(message)) = (state, chunk(&mut reader)) {
            state = match server.receive(message) {
                Ok(ServerStep::Send(server, _)) => Ok(server),
                Ok(ServerStep::Done(done)) => {
                    assert!(done.reply(b"key", b"signature").is_ok(), "short enough");
                    return;
                }
                Err(error) => Err(error),
            };
        }
    }
}

/// What the signatures of the seeds are over.
const MESSAGE: &[u8] = b"portreeve exchange hash";

/// Layout: algorithm, key or certificate, signature; the message is fixed.
pub fn host_key(input: &[u8]) {
    let mut reader = Reader::new(input);
    let Ok(choice) = reader.u8() else { return };
    let algorithm = pick(&HostKeyAlgorithm::ALL, choice).unwrap_or(HostKeyAlgorithm::SshRsa);
    let Some(blob) = chunk(&mut reader) else { return };
    let signature = reader.rest();
    if let Ok(shown) = host_key::verify(algorithm, blob, signature, MESSAGE) {
        let is_certificate = matches!(shown, host_key::PublicHostKey::Certificate(_));
        assert_eq!(is_certificate, algorithm.is_certificate());
        assert!(host_key::verify(algorithm, blob, signature, b"another").is_err(), "any message verifies");
    }
}

fn signer(seed: u8) -> (PrivateKey, HostKeySigner) {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
    let signer = HostKeySigner::new(&key, None).expect("a key that signs");
    (key, signer)
}

/// Layout: role, then messages.
pub fn userauth(input: &[u8]) {
    let mut reader = Reader::new(input);
    let Ok(role) = reader.u8() else { return };
    if role & 1 == 1 {
        let (mut auth, mut login) = (ServerAuth::default(), None);
        while let Some(message) = chunk(&mut reader) {
            match auth.receive(message) {
                Ok(Asked::Login(name)) => assert!(login.replace(name).is_none(), "one login"),
                Ok(Asked::Reply(_) | Asked::Again) => {}
                Err(_) => return,
            }
        }
        return;
    }
    let (key, signer) = signer(3);
    let builder = ssh_key::certificate::Builder::new(vec![0; 16], key.public_key(), 0, 1);
    let certificate = builder.and_then(|mut builder| {
        builder.all_principals_valid()?;
        builder.sign(&key)
    });
    let certificate = certificate.expect("a certificate");
    let Ok((mut auth, _)) = ClientAuth::start("alice", &signer, &certificate, b"id") else { return };
    while let Some(message) = chunk(&mut reader) {
        if auth.receive(message).is_err() {
            return;
        }
    }
}

/// Layout: side and message, again and again.
pub fn relay_messages(input: &[u8]) {
    let mut reader = Reader::new(input);
    let mut relay = Relay::default();
    while let Ok(choice) = reader.u8() {
        let Some(message) = chunk(&mut reader) else { return };
        let from = if choice & 1 == 0 { Side::Downstream } else { Side::Upstream };
        match relay.see(from, message) {
            Err(_) => return,
            Ok(Seen::Open { channel, .. }) => {
                assert!(relay.channel(channel).is_some_and(|known| known.opener == from));
                if choice & 2 != 0 {
                    assert!(
                        refused_open(&mut relay, from, message, &TerminalText::new("no")).is_ok(),
                        "an open that was seen"
                    );
                    assert!(relay.channel(channel).is_none(), "a refused channel stays");
                } else if choice & 4 != 0 && from == Side::Downstream {
                    let answered = relay.answer(message);
                    assert!(answered.is_ok_and(|(inner, _)| inner.id() == channel), "an open that was seen");
                }
            }
            Ok(Seen::Request { .. } | Seen::Global(_)) => {
                let refused = refused_request(message).expect("a request that was seen");
                assert_eq!(refused.first(), message.first());
                let reply = relay.keep_alive_reply(from, message);
                assert!(reply.is_none_or(|reply| relay.see(from.other(), &reply).is_ok()));
                relay.sent(from, message);
                if choice & 2 != 0 {
                    relay.ask(from);
                }
            }
            Ok(
                Seen::OpenFailed { .. }
                | Seen::Data { .. }
                | Seen::Window { .. }
                | Seen::OwnReply { .. }
                | Seen::Closed { .. }
                | Seen::Stray
                | Seen::Dismissed { .. }
                | Seen::Other,
            ) => {}
        }
    }
}

fn config(role: Role) -> Config {
    let host_keys = match role {
        Role::Client => Vec::new(),
        Role::Server => vec![signer(1).1],
    };
    Config { host_keys, answer_second: true, rekey_bytes: Some(4096), ..Config::default() }
}

/// Layout: what is driven, then a stream for one side or actions for two that are joined.
pub fn transport(input: &[u8]) {
    match input.split_first() {
        Some((0, stream)) => one(Role::Client, stream),
        Some((1, stream)) => one(Role::Server, stream),
        Some((_, actions)) => joined::act(actions),
        None => {}
    }
}

/// One side that hears a recorded peer; what is sealed under other keys ends it.
fn one(role: Role, stream: &[u8]) {
    let Ok(mut side) = Transport::new(role, config(role)) else { return };
    for piece in stream.chunks(509) {
        let spare = side.spare(piece.len());
        spare.get_mut(..piece.len()).expect("as much as was asked for").copy_from_slice(piece);
        if side.filled(piece.len()).is_err() {
            return;
        }
        loop {
            match side.poll() {
                Ok(Some(Event::Proposed)) if side.propose().is_err() => return,
                // NEWKEYS is in clear; what follows is sealed with keys that the recorded peer did not have.
                Ok(Some(Event::KeysExchanged { .. })) => assert_eq!(role, Role::Server, "nobody signed this"),
                Ok(Some(Event::Message(_))) => unreachable!("a message under keys that nobody has"),
                Ok(Some(Event::Proposed | Event::Disconnected { .. })) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}
