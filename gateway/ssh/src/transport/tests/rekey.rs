//! Later key exchanges, while messages travel both ways.

use proptest::prelude::*;

use super::*;

#[test]
fn either_side_may_exchange_keys_again_and_both_at_once() {
    for sides in [&[Which::Client][..], &[Which::Server], &[Which::Client, Which::Server]] {
        let mut pair = Pair::established();
        let session_id = pair.client.transport.session_id().to_vec();
        for side in sides {
            let end = pair.end(*side);
            end.transport.propose().unwrap();
            assert!(!end.transport.can_send());
            end.transport.propose().unwrap();
        }
        pair.settle().unwrap();
        assert_eq!((pair.client.exchanges, pair.server.exchanges), (2, 2), "{sides:?}");
        assert!(pair.client.transport.can_send() && pair.server.transport.can_send());
        assert_eq!(pair.client.transport.session_id(), session_id, "that of the first exchange");
        assert_eq!(pair.server.transport.session_id(), session_id);
    }
}

#[test]
fn messages_that_were_on_their_way_count_and_held_ones_follow_new_keys_in_order() {
    let mut pair = Pair::established();
    pair.server.send(b"on its way");
    pair.client.transport.propose().unwrap();
    pair.client.send(b"held 1");
    pair.client.transport.send(&[&[message::PING], &[0, 0, 0, 1, b'p']]).unwrap();
    pair.client.send(b"held 2");
    pair.settle().unwrap();
    assert_eq!(pair.client.bodies(), [b"on its way"]);
    assert_eq!(pair.server.bodies(), [b"held 1", b"held 2"]);
    assert_eq!(pair.client.received[1], [message::PONG, 0, 0, 0, 1, b'p']);
}

#[test]
fn a_ping_during_our_proposal_is_answered_after_the_exchange() {
    let mut pair = Pair::established();
    pair.client.transport.send(&[&[message::PING, 0, 0, 0, 1, 1]]).unwrap();
    pair.server.transport.propose().unwrap();
    pair.server.send(b"before the pong");
    pair.settle().unwrap();
    let expected = [vec![message::CHANNEL_DATA], b"before the pong".to_vec()].concat();
    assert_eq!(pair.client.received[..1], [expected]);
    assert_eq!(pair.client.received.len(), 2);
    let mut pair = Pair::established();
    pair.client.transport.send(&[&[message::PING, 0, 0, 0, 1, 1]]).unwrap();
    pair.server.transport.propose().unwrap();
    pair.carry(Which::Client, usize::MAX).unwrap();
    pair.server.send(b"after the pong");
    pair.settle().unwrap();
    assert_eq!(pair.client.received[0], [message::PONG, 0, 0, 0, 1, 1]);
    assert_eq!(pair.client.bodies(), [b"after the pong"]);
}

#[test]
fn messages_between_a_proposal_and_new_keys_are_refused() {
    let others = [message::CHANNEL_DATA, message::SERVICE_REQUEST, message::PING, message::EXT_INFO, 250];
    for number in others {
        let mut pair = Pair::established();
        pair.client.transport.propose().unwrap();
        pair.client.send_anyway(&[number, 0, 0, 0, 0]);
        let result = pair.settle();
        assert!(matches!(result, Err(TransportError::Unexpected(found)) if found == number), "{result:?}");
    }
    for number in [message::IGNORE, message::DEBUG, message::UNIMPLEMENTED] {
        let mut pair = Pair::established();
        pair.client.transport.propose().unwrap();
        pair.client.send_anyway(&[number, 0, 0, 0, 0]);
        pair.settle().unwrap();
        assert_eq!(pair.server.exchanges, 2);
    }
}

#[test]
fn a_second_proposal_or_new_keys_ends_the_connection() {
    let mut pair = Pair::established();
    pair.client.transport.propose().unwrap();
    let again = pair.client.transport.pending().to_vec();
    assert!(!again.is_empty());
    let Exchange::Proposed { ours } = &pair.client.transport.exchange else { panic!("a proposal") };
    let payload = ours.payload().to_vec();
    pair.client.send_anyway(&payload);
    let result = pair.settle();
    assert!(matches!(result, Err(TransportError::Unexpected(message::KEXINIT))), "{result:?}");
    let mut pair = Pair::established();
    pair.client.send_anyway(&[message::NEWKEYS]);
    let result = pair.settle();
    assert!(matches!(result, Err(TransportError::Unexpected(message::NEWKEYS))), "{result:?}");
}

#[test]
fn what_one_exchange_held_back_does_not_count_in_the_next() {
    let mut pair = Pair::established();
    for round in 1..=5 {
        pair.client.transport.propose().unwrap();
        for _ in 0..20 {
            pair.client.send(&[0; 20_000]);
        }
        pair.settle().unwrap();
        assert_eq!(pair.server.bodies().len(), round * 20);
    }
}

#[test]
fn the_host_key_must_stay_the_same() {
    let mut pair = Pair::established();
    pair.server.transport.config.host_keys = vec![host_key(2)];
    pair.client.transport.propose().unwrap();
    let result = pair.settle();
    assert!(matches!(result, Err(TransportError::HostKeyChanged)), "{result:?}");
}

#[test]
fn strictness_and_ext_info_are_matters_of_the_first_exchange() {
    let mut pair = Pair::established();
    let before = pair.client.transport.inbound.sequence();
    assert_eq!(before, 1, "EXT_INFO, after NEWKEYS set it to 0");
    pair.server.transport.propose().unwrap();
    let Exchange::Proposed { ours } = &pair.server.transport.exchange else { panic!("a proposal") };
    assert!(!ours.strict() && !ours.wants_ext_info());
    pair.settle().unwrap();
    assert_eq!(pair.client.transport.inbound.sequence(), 0, "no second EXT_INFO");
    assert_eq!(pair.server.transport.inbound.sequence(), 0);
}

#[test]
fn keys_are_exchanged_again_after_the_given_number_of_bytes() {
    let limited = |config| Config { rekey_bytes: Some(10_000), ..config };
    let mut pair = Pair::new(limited(Config::default()), server_config());
    pair.settle().unwrap();
    for _ in 0..20 {
        pair.client.send(&[0; 1000]);
    }
    pair.settle().unwrap();
    assert!(!pair.client.transport.wants_rekey(), "not before authentication");
    pair.client.transport.authenticated();
    pair.server.transport.authenticated();
    assert!(pair.client.transport.wants_rekey() && !pair.server.transport.wants_rekey());
    pair.client.transport.propose().unwrap();
    assert!(!pair.client.transport.wants_rekey(), "it runs already");
    pair.settle().unwrap();
    assert!(!pair.client.transport.wants_rekey());
    for _ in 0..10 {
        pair.server.send(&[0; 1000]);
    }
    pair.settle().unwrap();
    assert!(pair.client.transport.wants_rekey(), "received bytes count too");
}

#[test]
fn without_a_given_limit_the_ciphers_counts() {
    let ciphers = vec![crate::cipher::Cipher::ChaCha20Poly1305];
    let preferences = Preferences { ciphers, ..Preferences::default() };
    let client = Config { preferences: preferences.clone(), ..Config::default() };
    let pair = Pair::established_with(client, Config { preferences, ..server_config() });
    assert_eq!(pair.client.transport.rekey_bytes, 1 << 30);
    assert_eq!(pair.server.transport.rekey_bytes, 1 << 30);
    assert_eq!(Pair::established().server.transport.rekey_bytes, 1 << 36);
}

#[derive(Clone, Debug)]
enum Action {
    Send(Which, u16),
    Ping(Which),
    Rekey(Which),
    Carry(Which, u16),
}

fn action() -> impl Strategy<Value = Action> {
    let which = || prop_oneof![Just(Which::Client), Just(Which::Server)];
    prop_oneof![
        4 => (which(), 0_u16..3000).prop_map(|(which, size)| Action::Send(which, size)),
        1 => which().prop_map(Action::Ping),
        2 => which().prop_map(Action::Rekey),
        6 => (which(), 1_u16..4000).prop_map(|(which, size)| Action::Carry(which, size)),
    ]
}

#[derive(Default)]
struct Sent {
    bodies: Vec<Vec<u8>>,
    pings: u8,
}

fn act(pair: &mut Pair, sent: &mut [Sent; 2], action: &Action) {
    match *action {
        Action::Send(which, size) => {
            let sent = &mut sent[which as usize].bodies;
            let count = u32::try_from(sent.len()).unwrap().to_be_bytes();
            let body = [&count[..], &vec![0x5a; usize::from(size)]].concat();
            pair.end(which).send(&body);
            sent.push(body);
        }
        Action::Ping(which) => {
            let sent = &mut sent[which as usize].pings;
            pair.end(which).transport.send(&[&[message::PING, 0, 0, 0, 1, *sent]]).unwrap();
            *sent += 1;
        }
        Action::Rekey(which) => pair.end(which).transport.propose().unwrap(),
        Action::Carry(which, size) => drop(pair.carry(which, usize::from(size)).unwrap()),
    }
}

fn pongs(end: &pair::End) -> Vec<u8> {
    let pongs = end.received.iter().filter(|message| message[0] == message::PONG);
    pongs.map(|message| *message.last().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// No message is lost, all arrive in order, and nothing stalls, however exchanges and messages meet.
    #[test]
    fn messages_survive_any_interleaving_of_key_exchanges(
        actions in proptest::collection::vec(action(), 1..120),
        cipher in any::<prop::sample::Index>(),
    ) {
        let mut client = Config::default();
        let preferences = Preferences::legacy();
        client.preferences.ciphers = vec![*cipher.get(&preferences.ciphers)];
        let mut pair = Pair::established_with(client, Config { preferences, ..server_config() });
        let mut sent = [Sent::default(), Sent::default()];
        for action in &actions {
            act(&mut pair, &mut sent, action);
        }
        pair.settle_in_chunks(1500).unwrap();
        let [client, server] = &sent;
        prop_assert_eq!(pair.server.bodies(), client.bodies.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert_eq!(pair.client.bodies(), server.bodies.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert_eq!(pongs(&pair.client), (0..client.pings).collect::<Vec<_>>());
        prop_assert_eq!(pongs(&pair.server), (0..server.pings).collect::<Vec<_>>());
        prop_assert_eq!(pair.client.exchanges, pair.server.exchanges);
        prop_assert!(pair.client.transport.can_send() && pair.server.transport.can_send());
        for side in [Which::Client, Which::Server] {
            pair.end(side).transport.propose().unwrap();
        }
        pair.settle().unwrap();
        prop_assert_eq!(pair.client.transport.session_id(), pair.server.transport.session_id());
    }
}
