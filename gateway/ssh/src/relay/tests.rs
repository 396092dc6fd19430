//! Tests of the message table: what is seen, and what ends a session.

use proptest::prelude::*;

use super::own::UNKNOWN;
use super::*;
use crate::text::TerminalText;
use crate::wire::{put_boolean, put_string, put_u32};

/// Builds a message from its fields.
struct Message(Vec<u8>);

impl Message {
    fn new(number: u8) -> Self {
        Self(vec![number])
    }

    fn u32(mut self, value: u32) -> Self {
        put_u32(&mut self.0, value);
        self
    }

    fn string(mut self, value: &[u8]) -> Self {
        put_string(&mut self.0, value).unwrap();
        self
    }

    fn boolean(mut self, value: bool) -> Self {
        put_boolean(&mut self.0, value);
        self
    }
}

fn open(number: u32) -> Vec<u8> {
    Message::new(message::CHANNEL_OPEN).string(b"session").u32(number).u32(1 << 21).u32(1 << 15).0
}

#[test]
fn data_and_its_end_are_found_by_their_channel() {
    let relay = with_channel();
    let message = data(9, b"x");
    let found = Some((ChannelId(0), 9, Streamed::Data(b"x")));
    assert_eq!(relay.streamed(Side::Downstream, &message), found);
    assert_eq!(channel_data(9, b"x"), Ok(message.clone()));
    let end = Some((ChannelId(0), 9, Streamed::End));
    assert_eq!(relay.streamed(Side::Downstream, &close(9)), end);
    assert_eq!(relay.streamed(Side::Upstream, &message), None, "the client calls it otherwise");
    assert_eq!(relay.streamed(Side::Downstream, &keep_alive(Some(9), true)), None);
    assert_eq!(relay.streamed(Side::Downstream, b""), None);
}

fn confirm(recipient: u32, number: u32) -> Vec<u8> {
    Message::new(message::CHANNEL_OPEN_CONFIRMATION).u32(recipient).u32(number).u32(0).u32(1 << 15).0
}

fn data(recipient: u32, bytes: &[u8]) -> Vec<u8> {
    Message::new(message::CHANNEL_DATA).u32(recipient).string(bytes).0
}

fn close(recipient: u32) -> Vec<u8> {
    Message::new(message::CHANNEL_CLOSE).u32(recipient).0
}

/// A relay with one session channel: the user calls it 5, the target 9.
fn with_channel() -> Relay {
    let mut relay = Relay::default();
    let kind = OpenKind::Session;
    assert_eq!(relay.see(Side::Downstream, &open(5)), Ok(Seen::Open { channel: ChannelId(0), kind }));
    assert_eq!(relay.see(Side::Upstream, &confirm(5, 9)), Ok(Seen::Other));
    relay
}

/// OpenSSH compares names as C strings: what is `exec` to it must be `exec` here or nothing.
#[test]
fn a_name_that_peers_may_read_as_another_ends_the_session() {
    let known = [
        "session",
        "exec",
        "shell",
        "subsystem",
        "pty-req",
        "env",
        "x11-req",
        "tcpip-forward",
        "auth-agent-req@openssh.com",
        "hostkeys-00@openssh.com",
    ];
    let bad = known.iter().flat_map(|name| [format!("{name}\0"), format!("{name}\0x"), format!(" {name}")]);
    for name in bad.chain([String::new(), "\u{e9}".into()]) {
        let name = name.as_bytes();
        let messages = [
            Message::new(message::CHANNEL_OPEN).string(name).u32(6).u32(0).u32(0).0,
            Message::new(message::GLOBAL_REQUEST).string(name).boolean(true).0,
        ];
        let request = |recipient| {
            Message::new(message::CHANNEL_REQUEST).u32(recipient).string(name).boolean(true).string(b"id").0
        };
        for (side, recipient) in [(Side::Downstream, 9), (Side::Upstream, 5)] {
            for message in messages.iter().chain([&request(recipient)]) {
                let seen = with_channel().see(side, message);
                let malformed = RelayError::Wire { number: message[0], source: WireError::Malformed };
                assert_eq!(seen, Err(malformed), "{}", name.escape_ascii());
            }
        }
    }
}

#[test]
fn data_is_seen_with_its_channel_and_counted_by_side() {
    let mut relay = with_channel();
    let seen = Seen::Data { channel: ChannelId(0), code: 0, data: b"up" };
    assert_eq!(relay.see(Side::Downstream, &data(9, b"up")), Ok(seen));
    let stderr = Message::new(message::CHANNEL_EXTENDED_DATA).u32(5).u32(1).string(b"down").0;
    let seen = Seen::Data { channel: ChannelId(0), code: 1, data: b"down" };
    assert_eq!(relay.see(Side::Upstream, &stderr), Ok(seen));
    let channel = relay.channel(ChannelId(0)).unwrap();
    assert_eq!((channel.downstream_bytes, channel.upstream_bytes), (2, 4));
}

#[test]
fn a_channel_is_closed_when_both_sides_have_closed_it_and_its_number_is_free_then() {
    let mut relay = with_channel();
    assert_eq!(relay.see(Side::Upstream, &close(5)), Ok(Seen::Other));
    assert_eq!(relay.see(Side::Downstream, &open(5)), Err(RelayError::Reused(5)));
    assert!(matches!(relay.see(Side::Downstream, &close(9)), Ok(Seen::Closed { .. })));
    let gone = RelayError::NoChannel { number: message::CHANNEL_DATA, channel: 9 };
    assert_eq!(relay.see(Side::Downstream, &data(9, b"x")), Err(gone));
    assert!(matches!(relay.see(Side::Downstream, &open(5)), Ok(Seen::Open { channel: ChannelId(1), .. })));
}

fn no_channel(number: u8, channel: u32) -> Result<Seen<'static>, RelayError> {
    Err(RelayError::NoChannel { number, channel })
}

#[test]
fn nothing_is_carried_on_a_channel_before_it_is_confirmed() {
    let mut relay = Relay::default();
    relay.see(Side::Downstream, &open(5)).unwrap();
    assert_eq!(relay.see(Side::Upstream, &data(5, b"x")), no_channel(message::CHANNEL_DATA, 5));
    assert_eq!(relay.see(Side::Upstream, &close(5)), no_channel(message::CHANNEL_CLOSE, 5));
    let exit = Message::new(message::CHANNEL_REQUEST).u32(5).string(b"exit-status").boolean(false).u32(0).0;
    assert_eq!(relay.see(Side::Upstream, &exit), Ok(Seen::Other), "the client judges it");
}

/// Else data could be counted to a channel while its receiver uses the number for another one.
#[test]
fn a_side_that_closed_a_channel_sends_no_more_data_on_it() {
    let mut relay = with_channel();
    assert_eq!(relay.see(Side::Downstream, &close(9)), Ok(Seen::Other));
    assert_eq!(relay.see(Side::Upstream, &data(5, b"on its way")).unwrap(), {
        Seen::Data { channel: ChannelId(0), code: 0, data: b"on its way" }
    });
    assert_eq!(relay.see(Side::Downstream, &data(9, b"x")), no_channel(message::CHANNEL_DATA, 9));
    assert_eq!(relay.see(Side::Downstream, &close(9)), no_channel(message::CHANNEL_CLOSE, 9));
}

#[test]
fn late_messages_that_carry_nothing_cross() {
    let mut relay = with_channel();
    relay.see(Side::Upstream, &close(5)).unwrap();
    let keep_alive =
        Message::new(message::CHANNEL_REQUEST).u32(5).string(b"keepalive@openssh.com").boolean(true).0;
    assert!(matches!(relay.see(Side::Upstream, &keep_alive), Ok(Seen::Request { .. })));
    relay.see(Side::Downstream, &close(9)).unwrap();
    let adjust = Message::new(message::CHANNEL_WINDOW_ADJUST).u32(9).u32(1).0;
    assert_eq!(relay.see(Side::Downstream, &adjust), Ok(Seen::Other));
    let window = Seen::Window { channel: ChannelId(0), recipient: 9, bytes: 1 };
    assert_eq!(with_channel().see(Side::Downstream, &adjust), Ok(window));
    for number in [message::CHANNEL_SUCCESS, message::CHANNEL_FAILURE] {
        assert_eq!(relay.see(Side::Downstream, &Message::new(number).u32(9).0), Ok(Seen::Other));
    }
    assert_eq!(relay.see(Side::Upstream, &keep_alive), Ok(Seen::Other));
    let exec = Message::new(message::CHANNEL_REQUEST).u32(9).string(b"exec").boolean(true).string(b"id").0;
    assert_eq!(relay.see(Side::Downstream, &exec), no_channel(message::CHANNEL_REQUEST, 9));
}

#[test]
fn channel_number_reuse_is_a_new_channel_with_its_own_count() {
    let mut relay = with_channel();
    relay.see(Side::Downstream, &data(9, b"first")).unwrap();
    relay.see(Side::Downstream, &close(9)).unwrap();
    relay.see(Side::Upstream, &close(5)).unwrap();
    relay.see(Side::Downstream, &open(5)).unwrap();
    relay.see(Side::Upstream, &confirm(5, 9)).unwrap();
    relay.see(Side::Downstream, &data(9, b"two")).unwrap();
    assert!(relay.channel(ChannelId(0)).is_none());
    assert_eq!(relay.channel(ChannelId(1)).unwrap().downstream_bytes, 3);
    assert_eq!(relay.see(Side::Upstream, &confirm(5, 10)), Err(RelayError::Reused(10)));
}

#[test]
fn channel_number_reuse_while_it_is_open_ends_the_session_of_either_side() {
    let agent = |number| {
        Message::new(message::CHANNEL_OPEN).string(b"auth-agent@openssh.com").u32(number).u32(1).u32(1).0
    };
    // The user's number, and the target's own, in a second open.
    assert_eq!(with_channel().see(Side::Downstream, &open(5)), Err(RelayError::Reused(5)));
    assert_eq!(with_channel().see(Side::Upstream, &agent(9)), Err(RelayError::Reused(9)));
    // The target's number, and the user's own, in the confirmation of a second channel.
    let mut relay = with_channel();
    relay.see(Side::Downstream, &open(6)).unwrap();
    assert_eq!(relay.see(Side::Upstream, &confirm(6, 9)), Err(RelayError::Reused(9)));
    let mut relay = with_channel();
    relay.see(Side::Upstream, &agent(10)).unwrap();
    assert_eq!(relay.see(Side::Downstream, &confirm(10, 5)), Err(RelayError::Reused(5)));
    // A number that is asked for and not confirmed yet is in use too.
    let mut relay = Relay::default();
    relay.see(Side::Downstream, &open(5)).unwrap();
    assert_eq!(relay.see(Side::Downstream, &open(5)), Err(RelayError::Reused(5)));
}

/// Flow control is the real peers' own: no window or packet size is judged here.
#[test]
fn huge_and_tiny_windows_cross() {
    for (window, packet) in [(0, 0), (1, 1), (u32::MAX, u32::MAX), (0, u32::MAX)] {
        let mut relay = Relay::default();
        let open = Message::new(message::CHANNEL_OPEN).string(b"session").u32(5).u32(window).u32(packet).0;
        assert!(matches!(relay.see(Side::Downstream, &open), Ok(Seen::Open { .. })));
        let confirm =
            Message::new(message::CHANNEL_OPEN_CONFIRMATION).u32(5).u32(9).u32(window).u32(packet).0;
        assert_eq!(relay.see(Side::Upstream, &confirm), Ok(Seen::Other));
        for bytes in [u32::MAX, u32::MAX, 0] {
            let adjust = Message::new(message::CHANNEL_WINDOW_ADJUST).u32(9).u32(bytes).0;
            let window = Seen::Window { channel: ChannelId(0), recipient: 9, bytes };
            assert_eq!(relay.see(Side::Downstream, &adjust), Ok(window));
        }
        assert!(matches!(relay.see(Side::Downstream, &data(9, b"")), Ok(Seen::Data { data: b"", .. })));
    }
}

#[test]
fn both_sides_may_use_the_same_numbers() {
    let mut relay = with_channel();
    let agent = Message::new(message::CHANNEL_OPEN).string(b"auth-agent@openssh.com").u32(5).u32(1).u32(1).0;
    let kind = OpenKind::Agent;
    assert_eq!(relay.see(Side::Upstream, &agent), Ok(Seen::Open { channel: ChannelId(1), kind }));
    assert_eq!(relay.see(Side::Downstream, &confirm(5, 9)), Ok(Seen::Other));
    let seen = Seen::Data { channel: ChannelId(1), code: 0, data: b"a" };
    assert_eq!(relay.see(Side::Upstream, &data(9, b"a")), Ok(seen));
}

#[test]
fn a_confirmation_by_the_opener_or_twice_ends_the_session() {
    let mut relay = Relay::default();
    relay.see(Side::Downstream, &open(5)).unwrap();
    let unknown = RelayError::NoChannel { number: message::CHANNEL_OPEN_CONFIRMATION, channel: 5 };
    assert_eq!(relay.see(Side::Downstream, &confirm(5, 9)), Err(unknown));
    assert_eq!(with_channel().see(Side::Upstream, &confirm(5, 10)), Err(RelayError::Reused(10)));
}

#[test]
fn a_failed_open_is_forgotten() {
    let mut relay = Relay::default();
    relay.see(Side::Downstream, &open(5)).unwrap();
    let failure = Message::new(message::CHANNEL_OPEN_FAILURE).u32(5).u32(2).string(b"no").string(b"").0;
    assert_eq!(relay.see(Side::Upstream, &failure), Ok(Seen::OpenFailed { channel: ChannelId(0) }));
    assert!(relay.see(Side::Downstream, &open(5)).is_ok());
}

#[test]
fn channels_are_bounded() {
    let mut relay = Relay::default();
    for number in 0..u32::try_from(MAX_CHANNELS).unwrap() {
        relay.see(Side::Downstream, &open(number)).unwrap();
    }
    assert_eq!(relay.see(Side::Downstream, &open(u32::MAX)), Err(RelayError::TooManyChannels));
}

#[test]
fn a_refused_request_keeps_its_recipient_and_whether_a_reply_is_wanted() {
    for want_reply in [false, true] {
        let pty = Message::new(message::CHANNEL_REQUEST)
            .u32(9)
            .string(b"pty-req")
            .boolean(want_reply)
            .string(b"xterm")
            .0;
        let refused = Message::new(message::CHANNEL_REQUEST).u32(9).string(UNKNOWN).boolean(want_reply).0;
        assert_eq!(refused_request(&pty), Ok(refused));
        let forward = Message::new(message::GLOBAL_REQUEST)
            .string(b"tcpip-forward")
            .boolean(want_reply)
            .string(b"")
            .u32(0)
            .0;
        let refused = Message::new(message::GLOBAL_REQUEST).string(UNKNOWN).boolean(want_reply).0;
        assert_eq!(refused_request(&forward), Ok(refused));
    }
    assert_eq!(refused_request(&data(9, b"x")), Err(WireError::Malformed));
}

#[test]
fn a_refused_open_frees_its_number() {
    let mut relay = Relay::default();
    relay.see(Side::Downstream, &open(5)).unwrap();
    let failure = refused_open(&mut relay, Side::Downstream, &open(5), &TerminalText::new("no")).unwrap();
    assert_eq!(failure[..9], [message::CHANNEL_OPEN_FAILURE, 0, 0, 0, 5, 0, 0, 0, 1]);
    assert!(relay.see(Side::Downstream, &open(5)).is_ok());
}

#[test]
fn messages_of_other_protocols_end_the_session() {
    for number in [0, 5, 50, 52, 79, 83, 101, 191, 255] {
        assert_eq!(Relay::default().see(Side::Downstream, &[number]), Err(RelayError::Unexpected(number)));
    }
}

#[test]
fn requests_are_read_by_their_names() {
    let mut relay = with_channel();
    let mut request = |fields: Message| match relay.see(Side::Downstream, &fields.0) {
        Ok(Seen::Request { request, .. }) => format!("{request:?}"),
        other => format!("{other:?}"),
    };
    let named = |name: &[u8]| Message::new(message::CHANNEL_REQUEST).u32(9).string(name).boolean(true);
    assert_eq!(request(named(b"shell")), "Shell");
    assert!(request(named(b"exec").string(b"\xff")).starts_with("Exec { command: [255]"));
    assert!(request(named(b"break").u32(1)).starts_with("Other"));
    assert!(request(named(b"exec")).starts_with("Err(Wire"), "a known request must be whole");
}

fn global(want_reply: bool) -> Vec<u8> {
    Message::new(message::GLOBAL_REQUEST).string(b"x@example.com").boolean(want_reply).0
}

#[test]
fn the_reply_to_our_own_request_is_found_by_its_place() {
    let mut relay = Relay::default();
    let success = [message::REQUEST_SUCCESS, 1, 2];
    let content = Some(&success[1..]);
    relay.sent(Side::Downstream, &global(true));
    relay.sent(Side::Downstream, &global(false));
    // Those of the target are answered by the user.
    relay.sent(Side::Upstream, &global(true));
    relay.ask(Side::Upstream);
    relay.sent(Side::Downstream, &global(true));
    assert_eq!(relay.see(Side::Downstream, &[message::REQUEST_FAILURE]), Ok(Seen::Other));
    assert_eq!(relay.see(Side::Upstream, &success), Ok(Seen::Other), "for the first");
    assert_eq!(relay.see(Side::Upstream, &success), Ok(Seen::OwnReply { content }));
    assert_eq!(relay.see(Side::Upstream, &success), Ok(Seen::Other), "for the last");
    assert_eq!(relay.see(Side::Upstream, &success), Ok(Seen::Other), "for nobody");
    relay.ask(Side::Upstream);
    let failure = [message::REQUEST_FAILURE];
    assert_eq!(relay.see(Side::Upstream, &failure), Ok(Seen::OwnReply { content: None }));
}

fn keep_alive(channel: Option<u32>, want_reply: bool) -> Vec<u8> {
    let message = channel.map_or_else(
        || Message::new(message::GLOBAL_REQUEST),
        |number| Message::new(message::CHANNEL_REQUEST).u32(number),
    );
    message.string(b"keepalive@openssh.com").boolean(want_reply).0
}

#[test]
fn a_keep_alive_can_be_answered_only_when_no_earlier_reply_is_due() {
    let mut relay = with_channel();
    let failure = Some(vec![message::REQUEST_FAILURE]);
    assert_eq!(relay.keep_alive_reply(Side::Upstream, &keep_alive(None, true)), failure);
    relay.sent(Side::Upstream, &global(true));
    relay.sent(Side::Upstream, &global(false));
    assert_eq!(relay.keep_alive_reply(Side::Upstream, &keep_alive(None, true)), None);
    assert_eq!(relay.keep_alive_reply(Side::Downstream, &keep_alive(None, true)), failure);
    relay.see(Side::Downstream, &[message::REQUEST_FAILURE]).unwrap();
    assert_eq!(relay.keep_alive_reply(Side::Upstream, &keep_alive(None, true)), failure);
    // Each channel has its own order.
    let on_channel = keep_alive(Some(5), true);
    let failure = Some(Message::new(message::CHANNEL_FAILURE).u32(9).0);
    relay.sent(Side::Upstream, &global(true));
    assert_eq!(relay.keep_alive_reply(Side::Upstream, &on_channel), failure);
    relay.sent(Side::Upstream, &on_channel);
    assert_eq!(relay.keep_alive_reply(Side::Upstream, &on_channel), None);
    relay.see(Side::Downstream, &Message::new(message::CHANNEL_FAILURE).u32(9).0).unwrap();
    assert_eq!(relay.keep_alive_reply(Side::Upstream, &on_channel), failure);
}

#[test]
fn only_a_keep_alive_that_wants_a_reply_and_would_get_one_is_answered() {
    let mut relay = with_channel();
    for message in [keep_alive(None, false), keep_alive(Some(5), false), global(true), data(5, b"x"), vec![]]
    {
        assert_eq!(relay.keep_alive_reply(Side::Upstream, &message), None, "{message:?}");
    }
    assert_eq!(relay.keep_alive_reply(Side::Upstream, &keep_alive(Some(9), true)), None, "no such channel");
    // OpenSSH asks after its own CLOSE, too, and gets no reply after the other one's.
    relay.see(Side::Upstream, &close(5)).unwrap();
    assert!(relay.keep_alive_reply(Side::Upstream, &keep_alive(Some(5), true)).is_some());
    let mut relay = with_channel();
    relay.see(Side::Downstream, &close(9)).unwrap();
    assert_eq!(relay.keep_alive_reply(Side::Upstream, &keep_alive(Some(5), true)), None);
}

proptest! {
    #[test]
    fn no_message_makes_the_relay_panic(
        messages in proptest::collection::vec((any::<bool>(), 80_u8..=100, proptest::collection::vec(any::<u8>(), 0..40)), 0..40),
    ) {
        let mut relay = with_channel();
        for (downstream, number, rest) in messages {
            let from = if downstream { Side::Downstream } else { Side::Upstream };
            let payload = [&[number], rest.as_slice()].concat();
            let is_request = [message::GLOBAL_REQUEST, message::CHANNEL_REQUEST].contains(&number);
            prop_assert!(is_request || refused_request(&payload).is_err());
            if let Ok(Seen::Open { channel, .. }) = relay.see(from, &payload) {
                prop_assert_eq!(relay.channel(channel).map(|channel| channel.opener), Some(from));
                refused_open(&mut relay, from, &payload, &TerminalText::new("no")).unwrap();
                prop_assert!(relay.channel(channel).is_none());
            }
        }
    }
}
