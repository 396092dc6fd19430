//! The first key exchange: what may come when, and what may not.

use super::*;
use crate::IDENTIFICATION;
use crate::host_key::HostKeyError;
use crate::kex::{ClientKex, Kex, KexError};
use crate::negotiation::{Extras, HostKeyAlgorithm};
use crate::wire::{Reader, put_boolean};

const STRICT: Extras = Extras { ext_info: true, strict: true };
const PLAIN: Extras = Extras { ext_info: false, strict: false };
const IGNORE: &[u8] = &[message::IGNORE, 0, 0, 0, 1, b'x'];

fn unexpected(result: Result<(), TransportError>, number: u8) {
    match result {
        Err(TransportError::Unexpected(found)) if found == number => {}
        other => panic!("expected that {number} is refused, found {other:?}"),
    }
}

#[test]
fn terrapin_an_ignore_before_the_proposal_is_refused() {
    let mut peer = Scripted::new(STRICT);
    peer.write(IGNORE).unwrap();
    unexpected(peer.write_offer(), message::KEXINIT);
    let mut client = pair::End::new(Role::Client, Config::default());
    let mut server = pair::End::new(Role::Server, Config { answer_second: false, ..server_config() });
    let mut bytes = server.take(IDENTIFICATION.len() + 2);
    bytes.extend(crate::wire::unencrypted_packet(IGNORE).unwrap());
    bytes.extend(server.take(usize::MAX));
    unexpected(client.feed(&bytes), message::KEXINIT);
}

#[test]
fn terrapin_an_ignore_before_new_keys_is_refused() {
    let harmless = [message::IGNORE, message::DEBUG, message::UNIMPLEMENTED, message::EXT_INFO];
    for number in harmless.into_iter().chain([message::PING]) {
        let mut peer = Scripted::new(STRICT);
        peer.write_offer().unwrap();
        peer.read_offer();
        unexpected(peer.write(&[number, 0, 0, 0, 0, 0]), number);
        let mut peer = Scripted::new(STRICT);
        peer.exchange_up_to_new_keys().unwrap();
        unexpected(peer.write(&[number, 0, 0, 0, 0, 0]), number);
    }
}

#[test]
fn terrapin_the_client_refuses_it_between_the_reply_and_new_keys_too() {
    let mut pair = Pair::new(Config::default(), server_config());
    pair.carry(pair::Which::Client, usize::MAX).unwrap();
    pair.carry(pair::Which::Server, usize::MAX).unwrap();
    pair.carry(pair::Which::Client, usize::MAX).unwrap();
    // What the server sends now ends with NEWKEYS, whose packet has 16 bytes, and its sealed EXT_INFO.
    let bytes = pair.server.take(usize::MAX);
    let new_keys = crate::wire::unencrypted_packet(&[message::NEWKEYS]).unwrap();
    let at = bytes.windows(new_keys.len()).position(|window| window == new_keys).unwrap();
    pair.client.feed(&bytes[..at]).unwrap();
    unexpected(pair.client.feed(&crate::wire::unencrypted_packet(IGNORE).unwrap()), message::IGNORE);
}

#[test]
fn sequence_numbers_start_again_at_each_new_keys_with_strict_key_exchange_only() {
    for (extras, first, second) in [(STRICT, 0, 0), (PLAIN, 3, 7)] {
        let mut peer = Scripted::established(extras);
        assert_eq!(peer.server.transport.strict, extras.strict);
        assert_eq!(peer.server.transport.inbound.sequence(), first);
        peer.write(IGNORE).unwrap();
        if extras.ext_info {
            assert_eq!(peer.read().unwrap()[0], message::EXT_INFO);
        }
        let (negotiated, done) = peer.exchange_up_to_new_keys().unwrap();
        peer.switch(&peer.strict_as_before(negotiated), &done).unwrap();
        assert_eq!(peer.server.transport.inbound.sequence(), second);
        peer.write(&[message::PING, 0, 0, 0, 0]).unwrap();
        assert_eq!(peer.read(), Some(vec![message::PONG, 0, 0, 0, 0]));
    }
}

#[test]
fn a_peer_without_strict_key_exchange_may_send_an_ignore() {
    let mut peer = Scripted::new(PLAIN);
    peer.write(IGNORE).unwrap();
    peer.write_offer().unwrap();
    peer.read_offer();
    peer.write(IGNORE).unwrap();
    unexpected(peer.write(&[message::EXT_INFO, 0, 0, 0, 0]), message::EXT_INFO);
}

#[test]
fn the_servers_ext_info_is_the_first_message_under_its_keys_if_the_client_takes_it() {
    let mut peer = Scripted::established(STRICT);
    let ext_info = peer.read().unwrap();
    let mut reader = Reader::new(&ext_info);
    assert_eq!((reader.u8(), reader.u32()), (Ok(message::EXT_INFO), Ok(2)));
    assert_eq!(reader.string(), Ok(&b"server-sig-algs"[..]));
    assert!(reader.text().unwrap().split(',').any(|name| name == "ssh-ed25519"));
    assert_eq!((reader.string(), reader.string()), (Ok(&b"ping@openssh.com"[..]), Ok(&b"0"[..])));
    assert_eq!(reader.finish(), Ok(()));
    let mut peer = Scripted::established(PLAIN);
    assert_eq!(peer.read(), None);
}

#[test]
fn no_other_protocol_starts_before_new_keys() {
    let numbers = [
        message::SERVICE_REQUEST,
        message::USERAUTH_REQUEST,
        message::GLOBAL_REQUEST,
        message::CHANNEL_OPEN,
        message::PING,
        8,
        22,
        255,
    ];
    for number in numbers {
        for extras in [STRICT, PLAIN] {
            let mut peer = Scripted::new(extras);
            unexpected(peer.write(&[number, 0, 0, 0, 0]), number);
            let mut peer = Scripted::new(extras);
            peer.write_offer().unwrap();
            unexpected(peer.write(&[number, 0, 0, 0, 0]), number);
            let mut peer = Scripted::new(extras);
            peer.exchange_up_to_new_keys().unwrap();
            unexpected(peer.write(&[number, 0, 0, 0, 0]), number);
        }
    }
}

#[test]
fn messages_of_the_exchange_come_once_and_in_order() {
    let mut peer = Scripted::new(PLAIN);
    unexpected(peer.write(&[message::NEWKEYS]), message::NEWKEYS);
    let mut peer = Scripted::new(PLAIN);
    unexpected(peer.write(&[30, 0, 0, 0, 0]), 30);
    let mut peer = Scripted::new(PLAIN);
    peer.write_offer().unwrap();
    unexpected(peer.write_offer(), message::KEXINIT);
    let mut peer = Scripted::new(PLAIN);
    peer.write_offer().unwrap();
    unexpected(peer.write(&[message::NEWKEYS]), message::NEWKEYS);
    let mut peer = Scripted::new(PLAIN);
    peer.exchange_up_to_new_keys().unwrap();
    unexpected(peer.write_offer(), message::KEXINIT);
    let mut peer = Scripted::new(PLAIN);
    peer.exchange_up_to_new_keys().unwrap();
    unexpected(peer.write(&[30, 0, 0, 0, 0]), 30);
    let mut peer = Scripted::established(PLAIN);
    unexpected(peer.write(&[message::NEWKEYS]), message::NEWKEYS);
}

#[test]
fn a_message_of_another_method_is_refused() {
    let mut peer = Scripted::new(PLAIN);
    peer.write_offer().unwrap();
    // SSH_MSG_KEX_DH_GEX_REQUEST, while curves were agreed on.
    let result = peer.write(&[34, 0, 0, 8, 0, 0, 0, 12, 0, 0, 0, 32, 0]);
    assert!(matches!(result, Err(TransportError::Kex(KexError::Unexpected(34)))), "{result:?}");
}

#[test]
fn an_empty_payload_is_no_message() {
    let mut peer = Scripted::new(PLAIN);
    let result = peer.write(&[]);
    assert!(matches!(result, Err(TransportError::Packet(PacketError::Padding))), "{result:?}");
}

/// RFC 4253 section 7: the packet after a wrong guess is dropped, after a right one it counts.
#[test]
fn a_guessed_packet_is_dropped_when_the_guess_is_wrong() {
    let wrong = Preferences { kex: vec![Kex::EcdhP256, Kex::Curve25519], ..Preferences::default() };
    let right = Preferences { host_keys: vec![HostKeyAlgorithm::Ed25519], ..Preferences::default() };
    for (preferences, is_wrong) in [(wrong, true), (right, false)] {
        let mut peer = Scripted::with(&preferences, STRICT, true);
        let offer = peer.offer.payload().to_vec();
        peer.outbound.push(&[&offer]).unwrap();
        let (guess, init) = ClientKex::start(preferences.kex[0]).unwrap();
        peer.write(&init).unwrap();
        let negotiated = peer.read_offer();
        assert_eq!(negotiated.ignore_next_kex_packet, is_wrong);
        let kex = if is_wrong {
            let (kex, init) = ClientKex::start(negotiated.kex).unwrap();
            peer.write(&init).unwrap();
            kex
        } else {
            guess
        };
        let done = peer.finish_method(kex);
        peer.switch(&negotiated, &done).unwrap();
        assert_eq!(peer.server.exchanges, 1);
    }
}

#[test]
fn what_follows_a_proposal_waits_until_ours_is_sent() {
    let mut peer = Scripted::new(STRICT);
    let offer = peer.offer.payload().to_vec();
    peer.outbound.push(&[&offer]).unwrap();
    peer.outbound.push(&[&[message::DISCONNECT, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0]]).unwrap();
    let bytes = peer.outbound.pending().to_vec();
    let transport = &mut peer.server.transport;
    transport.spare(bytes.len())[..bytes.len()].copy_from_slice(&bytes);
    transport.filled(bytes.len()).unwrap();
    assert!(matches!(transport.poll(), Ok(Some(Event::Proposed))));
    assert_eq!(transport.asked(), Some(&peer.offer));
    assert!(matches!(transport.poll(), Ok(None)));
    transport.preferences_mut().ciphers.truncate(1);
    transport.propose().unwrap();
    assert!(transport.asked().is_none());
    assert!(matches!(transport.poll(), Ok(Some(Event::Disconnected { reason: 11, .. }))));
}

#[test]
fn a_host_key_that_did_not_sign_this_exchange_is_refused() {
    let mut pair = Pair::new(Config::default(), server_config());
    pair.carry(pair::Which::Client, usize::MAX).unwrap();
    pair.carry(pair::Which::Server, usize::MAX).unwrap();
    pair.carry(pair::Which::Client, usize::MAX).unwrap();
    let mut bytes = pair.server.take(usize::MAX);
    // The reply holds the signature, then NEWKEYS follows in 16 bytes: any byte before its padding.
    let new_keys = crate::wire::unencrypted_packet(&[message::NEWKEYS]).unwrap();
    let at = bytes.windows(new_keys.len()).position(|window| window == new_keys).unwrap();
    bytes[at - 24] ^= 1;
    let result = pair.client.feed(&bytes);
    assert!(matches!(result, Err(TransportError::HostKey(HostKeyError::Signature))), "{result:?}");
    assert!(pair.client.host_key.is_none());
}

#[test]
fn peers_without_anything_in_common_are_told_what_each_offers() {
    let mut server = server_config();
    server.preferences.ciphers.truncate(1);
    let mut client = Config::default();
    client.preferences.ciphers.reverse();
    client.preferences.ciphers.truncate(2);
    let error = Pair::new(client, server).settle().unwrap_err();
    let TransportError::Negotiation(error) = error else { panic!("{error:?}") };
    assert_eq!(
        (error.client.as_str(), error.server.as_str()),
        ("aes256-ctr,aes192-ctr", "aes128-gcm@openssh.com")
    );
}

#[test]
fn nothing_is_received_after_an_error() {
    let mut peer = Scripted::new(STRICT);
    unexpected(peer.write(&[message::NEWKEYS]), message::NEWKEYS);
    peer.write_offer().unwrap();
    assert_eq!(peer.server.transport.asked(), None);
    assert!(peer.server.transport.inbound.unread().is_empty(), "bytes after the end are dropped");
}

#[test]
fn pings_with_a_malformed_body_end_the_connection() {
    let mut peer = Scripted::established(STRICT);
    let mut ping = vec![message::PING];
    put_u32(&mut ping, 9);
    put_boolean(&mut ping, true);
    let result = peer.write(&ping);
    assert!(matches!(result, Err(TransportError::Message { number: message::PING, .. })), "{result:?}");
}

/// A gateway proposes before it knows which key it is to show.
#[test]
fn a_server_may_get_its_host_key_after_it_has_proposed() {
    let server = || {
        let host_keys = vec![HostKeyAlgorithm::Ed25519];
        let preferences = Preferences { host_keys, ..Preferences::default() };
        Config { preferences, host_keys: Vec::new(), ..server_config() }
    };
    let mut pair = Pair::new(Config::default(), server());
    // Both proposals are out, and the client's message of the method waits unread.
    pair.carry(pair::Which::Client, usize::MAX).unwrap();
    pair.carry(pair::Which::Server, usize::MAX).unwrap();
    pair.server.transport.set_host_keys(vec![host_key(3)]);
    pair.settle().unwrap();
    assert_eq!((pair.client.exchanges, pair.server.exchanges), (1, 1));
    let shown = pair.client.host_key.unwrap().key().to_bytes().unwrap();
    assert_eq!(shown, host_key(3).public_blob(HostKeyAlgorithm::Ed25519));
    // Without one there is nothing to show.
    let error = Pair::new(Config::default(), server()).settle().unwrap_err();
    assert!(matches!(error, TransportError::HostKeyChanged), "{error}");
}
