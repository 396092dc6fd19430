//! What a peer that is not authenticated may cost, and how connections end.

use super::*;
use crate::negotiation::Extras;

const STRICT: Extras = Extras { ext_info: true, strict: true };

#[test]
fn bytes_before_authentication_are_bounded() {
    let mut peer = Scripted::established(STRICT);
    let ping = [&[message::PING, 0, 0, 0x40, 0][..], &[0; 0x4000]].concat();
    let result = (0..20).try_for_each(|_| peer.write(&ping));
    assert!(matches!(result, Err(TransportError::UnauthenticatedBudget)), "{result:?}");
    let mut peer = Scripted::established(STRICT);
    peer.server.transport.authenticated();
    (0..20).try_for_each(|_| peer.write(&ping)).unwrap();
}

#[test]
fn key_exchanges_before_authentication_are_bounded() {
    let mut peer = Scripted::established(STRICT);
    assert_eq!(peer.read().unwrap()[0], message::EXT_INFO);
    for _ in 1..MAX_UNAUTHENTICATED_EXCHANGES {
        let (negotiated, done) = peer.exchange_up_to_new_keys().unwrap();
        peer.switch(&peer.strict_as_before(negotiated), &done).unwrap();
    }
    let result = peer.write_offer();
    assert!(matches!(result, Err(TransportError::UnauthenticatedBudget)), "{result:?}");
}

#[test]
fn packets_before_authentication_are_short() {
    let mut peer = Scripted::established(STRICT);
    let long = [&[message::PING, 0, 0, 0xa0, 0][..], &[0; 0xa000]].concat();
    let result = peer.write(&long);
    assert!(matches!(result, Err(TransportError::Packet(PacketError::Length(_)))), "{result:?}");
}

#[test]
fn pings_are_answered_during_an_exchange_but_not_without_bound() {
    let mut pair = Pair::established();
    pair.server.transport.propose().unwrap();
    let result = (0..1_000_000).try_for_each(|_| {
        pair.client.send_anyway(&[message::PING, 0, 0, 0, 0]);
        pair.carry(Which::Client, usize::MAX).map(drop)
    });
    assert!(matches!(result, Err(TransportError::Held)), "{result:?}");
}

#[test]
fn a_disconnect_is_the_last_message_in_both_directions() {
    let mut pair = Pair::established();
    pair.server.transport.disconnect(11, &TerminalText::new("your session ends\x07")).unwrap();
    pair.server.transport.disconnect(2, &TerminalText::new("twice")).unwrap();
    pair.server.send(b"late");
    pair.client.send(b"unread");
    pair.settle().unwrap();
    assert_eq!(pair.client.disconnected, Some((11, b"your session ends".to_vec())));
    assert!(pair.client.received.is_empty() && pair.server.received.is_empty());
    pair.server.send_anyway(&[message::CHANNEL_DATA]);
    pair.settle().unwrap();
    assert!(pair.client.received.is_empty(), "nothing is accepted after a DISCONNECT");
}

#[test]
fn an_error_can_still_be_told_to_the_peer() {
    let mut pair = Pair::established();
    pair.client.send_anyway(&[30]);
    let error = pair.carry(Which::Client, usize::MAX).unwrap_err();
    pair.server.transport.disconnect(2, &TerminalText::new(&error.to_string())).unwrap();
    pair.carry(Which::Server, usize::MAX).unwrap();
    let expected = b"the peer sent message 30 where it is not allowed".to_vec();
    assert_eq!(pair.client.disconnected, Some((2, expected)));
}

#[test]
fn a_disconnect_during_an_exchange_is_understood() {
    for moves in 0..5 {
        let mut pair = Pair::new(Config::default(), server_config());
        for step in 0..moves {
            let from = if step % 2 == 0 { Which::Client } else { Which::Server };
            pair.carry(from, usize::MAX).unwrap();
        }
        pair.server.transport.disconnect(7, &TerminalText::new("no")).unwrap();
        pair.settle().unwrap();
        assert_eq!(pair.client.disconnected, Some((7, b"no".to_vec())), "after {moves} flights");
    }
}

#[test]
fn an_unknown_message_is_named_by_its_sequence_number() {
    let mut peer = Scripted::established(STRICT);
    assert_eq!(peer.read().unwrap()[0], message::EXT_INFO);
    for number in [200, 201, 202] {
        peer.write(&[number]).unwrap();
    }
    assert_eq!(peer.server.received, [[200], [201], [202]]);
    peer.server.transport.unimplemented().unwrap();
    assert_eq!(peer.read(), Some(vec![message::UNIMPLEMENTED, 0, 0, 0, 2]));
}

/// The nonce of ChaCha20-Poly1305 is the sequence number.
#[test]
fn no_packet_is_sealed_with_a_sequence_number_that_the_keys_had() {
    let mut outbound = Outbound::default();
    outbound.set_packets_under_key(u64::from(u32::MAX));
    outbound.push(&[b"x"]).unwrap();
    assert_eq!(outbound.push(&[b"x"]), Err(PacketError::KeyExhausted));
}
