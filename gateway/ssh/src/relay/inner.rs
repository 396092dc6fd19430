//! A channel that the user's side asked for and that the gateway answers in place of the target.
//!
//! Owns its numbers, its windows (RFC 4254 section 5.2) and the messages that go to the user. Invariants: the gateway's
//! number is the highest that is free up to [`HIGHEST`], far from those that servers count up from 0, and a target that
//! takes the same one later ends the session, as with any number that is taken twice; a target has no say in such a
//! channel; the user's side is granted [`INNER_WINDOW`] and then as much as was consumed, so that no more than that waits
//! for the owner; CLOSE is sent once.
//!
//! Deliberately absent: what the bytes are.

use super::{ChannelId, Relay, RelayError, SeeError, Side, channel_data, recipient, window_adjust};
use crate::message;
use crate::wire::{PayloadTooLong, Reader, WireError, put_u32};

/// Bytes that the user's side may send before more is granted: the most that the owner of a channel has to keep.
pub const INNER_WINDOW: u32 = 1024 * 1024;

/// Most bytes of data in a message of the user's side; OpenSSH's own choice.
const MAX_PACKET: u32 = 32 * 1024;

/// The highest number. Clients that keep numbers in a signed integer of 32 bits take a higher one for none.
const HIGHEST: u32 = 0x7fff_ffff;

/// A channel that ends in the gateway.
#[derive(Debug)]
pub struct InnerChannel {
    id: ChannelId,
    /// What the user's side calls it.
    recipient: u32,
    /// Bytes that may be sent to the user's side.
    may_send: u32,
    /// Of these in one message.
    max_packet: u32,
    /// Bytes that the user's side may still send.
    may_receive: u32,
    /// Bytes that were consumed and not granted anew.
    consumed: u32,
    ended: bool,
}

/// What the user's side says on such a channel.
#[derive(Debug, PartialEq, Eq)]
pub enum InnerMessage<'a> {
    /// These bytes come next; they are to be [`InnerChannel::consumed`].
    Data(&'a [u8]),
    /// No more bytes come.
    End,
    /// The channel is closed; no more is said on it.
    Closed,
    /// This is to be answered.
    Answer(Vec<u8>),
    /// Nothing that matters.
    Nothing,
}

impl Relay {
    /// Agrees to the CHANNEL_OPEN of the user's side in place of the target, which must not see it; yields the channel and
    /// the message that tells the user's side.
    ///
    /// # Errors
    /// [`RelayError`] if a target has answered what it was not asked; the session must end then.
    pub fn answer(&mut self, open: &[u8]) -> Result<(InnerChannel, Vec<u8>), RelayError> {
        let malformed = |source| RelayError::Wire { number: message::CHANNEL_OPEN, source };
        let Asked { recipient, may_send, max_packet } = Asked::read(open).map_err(malformed)?;
        let (id, ours) = self.channels.answer(recipient, HIGHEST)?;
        let mut confirmation = vec![message::CHANNEL_OPEN_CONFIRMATION];
        for field in [recipient, ours, INNER_WINDOW, MAX_PACKET] {
            put_u32(&mut confirmation, field);
        }
        let may_receive = INNER_WINDOW;
        let channel =
            InnerChannel { id, recipient, may_send, max_packet, may_receive, consumed: 0, ended: false };
        Ok((channel, confirmation))
    }

    /// The channel that a message of the user's side is about, if it ends in the gateway: it must not cross.
    pub fn inner(&self, payload: &[u8]) -> Option<ChannelId> {
        self.channels.find_inner(Side::Upstream, recipient(payload)?)
    }

    /// Whether a target's message is about a channel that ends in the gateway. A request, a reply or window may be late:
    /// they were meant for an earlier channel, whose number the user's side has used again.
    ///
    /// # Errors
    /// [`RelayError::NoChannel`] for any other message.
    pub(super) fn is_stray(&self, payload: &[u8]) -> Result<bool, RelayError> {
        let Some(channel) = recipient(payload) else { return Ok(false) };
        if self.channels.find_inner(Side::Downstream, channel).is_none() {
            return Ok(false);
        }
        match payload.first().copied().unwrap_or_default() {
            message::CHANNEL_WINDOW_ADJUST
            | message::CHANNEL_REQUEST
            | message::CHANNEL_SUCCESS
            | message::CHANNEL_FAILURE => Ok(true),
            number => Err(RelayError::NoChannel { number, channel }),
        }
    }
}

impl InnerChannel {
    /// Which channel it is.
    pub const fn id(&self) -> ChannelId {
        self.id
    }

    /// Reads a message of the user's side on this channel, which [`Relay::see`] has seen.
    ///
    /// # Errors
    /// [`RelayError`]; the session must end then.
    pub fn receive<'a>(&mut self, payload: &'a [u8]) -> Result<InnerMessage<'a>, RelayError> {
        let number = payload.first().copied().unwrap_or_default();
        self.read(Reader::new(payload)).map_err(|error| error.of(number))
    }

    fn read<'a>(&mut self, mut reader: Reader<'a>) -> Result<InnerMessage<'a>, SeeError> {
        let (number, _recipient) = (reader.u8()?, reader.u32()?);
        Ok(match number {
            message::CHANNEL_DATA => {
                let data = reader.string()?;
                self.received(data.len())?;
                InnerMessage::Data(data)
            }
            message::CHANNEL_EXTENDED_DATA => {
                reader.u32()?;
                let bytes = reader.string()?.len();
                self.received(bytes)?;
                // Nobody reads it, so it is consumed.
                self.consumed(bytes).map_or(InnerMessage::Nothing, InnerMessage::Answer)
            }
            message::CHANNEL_WINDOW_ADJUST => {
                self.may_send = self.may_send.saturating_add(reader.u32()?);
                InnerMessage::Nothing
            }
            message::CHANNEL_EOF => InnerMessage::End,
            message::CHANNEL_CLOSE => InnerMessage::Closed,
            message::CHANNEL_REQUEST => {
                reader.string()?;
                let mut failure = vec![message::CHANNEL_FAILURE];
                put_u32(&mut failure, self.recipient);
                let wanted = reader.boolean()? && !self.ended;
                if wanted { InnerMessage::Answer(failure) } else { InnerMessage::Nothing }
            }
            _ => InnerMessage::Nothing,
        })
    }

    fn received(&mut self, bytes: usize) -> Result<(), RelayError> {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.may_receive.checked_sub(bytes));
        self.may_receive = left.ok_or(RelayError::Overrun(self.id.0))?;
        Ok(())
    }

    /// Bytes of data of the user's side have gone on; yields the message that grants as many anew, once they are worth
    /// one.
    pub fn consumed(&mut self, bytes: usize) -> Option<Vec<u8>> {
        // Never more than the window.
        self.consumed = self.consumed.saturating_add(u32::try_from(bytes).unwrap_or(INNER_WINDOW));
        if self.ended || self.consumed < INNER_WINDOW / 4 {
            return None;
        }
        let bytes = std::mem::take(&mut self.consumed);
        self.may_receive = self.may_receive.saturating_add(bytes);
        Some(window_adjust(self.recipient, bytes))
    }

    /// The most bytes that the next message of data may have; 0 while the user's side takes none.
    pub fn room(&self) -> usize {
        let room = if self.ended { 0 } else { self.may_send.min(self.max_packet) };
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// The message of data to the user's side, which `relay` counts; at most [`Self::room`] bytes.
    ///
    /// # Errors
    /// [`PayloadTooLong`].
    pub fn data(&mut self, relay: &mut Relay, bytes: &[u8]) -> Result<Vec<u8>, PayloadTooLong> {
        let payload = channel_data(self.recipient, bytes)?;
        self.may_send = self.may_send.saturating_sub(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        relay.channels.count(self.id, Side::Upstream, bytes.len());
        Ok(payload)
    }

    /// The messages that end the channel: EOF and CLOSE, once.
    pub fn end(&mut self) -> Vec<Vec<u8>> {
        if std::mem::replace(&mut self.ended, true) {
            return Vec::new();
        }
        let end = |number| {
            let mut payload = vec![number];
            put_u32(&mut payload, self.recipient);
            payload
        };
        vec![end(message::CHANNEL_EOF), end(message::CHANNEL_CLOSE)]
    }
}

/// What matters here of a CHANNEL_OPEN.
struct Asked {
    recipient: u32,
    may_send: u32,
    max_packet: u32,
}

impl Asked {
    fn read(open: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(open);
        if reader.u8()? != message::CHANNEL_OPEN {
            return Err(WireError::Malformed);
        }
        reader.string()?;
        Ok(Self { recipient: reader.u32()?, may_send: reader.u32()?, max_packet: reader.u32()? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Seen;
    use super::*;
    use crate::wire::put_string;

    fn message(number: u8, fields: &[u32]) -> Vec<u8> {
        let mut payload = vec![number];
        fields.iter().for_each(|field| put_u32(&mut payload, *field));
        payload
    }

    fn data(recipient: u32, bytes: &[u8]) -> Vec<u8> {
        let mut payload = message(message::CHANNEL_DATA, &[recipient]);
        put_string(&mut payload, bytes).unwrap();
        payload
    }

    /// CHANNEL_OPEN of channel 5, which may be sent `window` bytes, at most 100 at once.
    fn open(window: u32) -> Vec<u8> {
        let mut open = vec![message::CHANNEL_OPEN];
        put_string(&mut open, b"direct-tcpip").unwrap();
        [5, window, 100].iter().for_each(|field| put_u32(&mut open, *field));
        put_string(&mut open, b"10.0.0.1").unwrap();
        put_u32(&mut open, 22);
        put_string(&mut open, b"127.0.0.1").unwrap();
        put_u32(&mut open, 1024);
        open
    }

    fn opened(window: u32) -> (Relay, InnerChannel) {
        let mut relay = Relay::default();
        relay.see(Side::Downstream, &open(window)).unwrap();
        let (channel, confirmation) = relay.answer(&open(window)).unwrap();
        let expected = message(message::CHANNEL_OPEN_CONFIRMATION, &[5, HIGHEST, INNER_WINDOW, MAX_PACKET]);
        assert_eq!(confirmation, expected);
        (relay, channel)
    }

    /// Both as a relay does it.
    fn say<'a>(relay: &mut Relay, channel: &mut InnerChannel, payload: &'a [u8]) -> InnerMessage<'a> {
        assert_eq!(relay.inner(payload), Some(channel.id()));
        relay.see(Side::Downstream, payload).unwrap();
        channel.receive(payload).unwrap()
    }

    #[test]
    fn data_goes_both_ways_within_the_windows() {
        let (mut relay, mut channel) = opened(150);
        assert_eq!(channel.room(), 100);
        assert_eq!(channel.data(&mut relay, &[1; 100]).unwrap(), data(5, &[1; 100]));
        assert_eq!(channel.room(), 50);
        channel.data(&mut relay, &[1; 50]).unwrap();
        assert_eq!(channel.room(), 0, "the window is used up");
        let more = message(message::CHANNEL_WINDOW_ADJUST, &[HIGHEST, 70]);
        assert_eq!(say(&mut relay, &mut channel, &more), InnerMessage::Nothing);
        assert_eq!(channel.room(), 70);
        assert_eq!(say(&mut relay, &mut channel, &data(HIGHEST, b"ab")), InnerMessage::Data(b"ab"));
        let known = relay.channel(channel.id()).unwrap();
        assert_eq!((known.downstream_bytes, known.upstream_bytes), (2, 150));
    }

    #[test]
    fn no_more_comes_than_was_granted() {
        let (mut relay, mut channel) = opened(1);
        let most = data(HIGHEST, &vec![0; usize::try_from(MAX_PACKET).unwrap()]);
        for _ in 0..INNER_WINDOW / MAX_PACKET {
            assert!(matches!(channel.receive(&most), Ok(InnerMessage::Data(_))));
        }
        let one = data(HIGHEST, b"x");
        assert_eq!(channel.receive(&one), Err(RelayError::Overrun(0)));
        assert_eq!(channel.consumed(100), None, "too few to be worth a message");
        let quarter = usize::try_from(INNER_WINDOW / 4).unwrap();
        assert_eq!(channel.consumed(quarter - 100), Some(window_adjust(5, INNER_WINDOW / 4)));
        assert_eq!(say(&mut relay, &mut channel, &one), InnerMessage::Data(b"x"));
    }

    #[test]
    fn it_is_closed_once_and_the_users_close_is_the_last_word() {
        for user_first in [true, false] {
            let (mut relay, mut channel) = opened(1);
            let ends = [message::CHANNEL_EOF, message::CHANNEL_CLOSE].map(|number| message(number, &[5]));
            if !user_first {
                assert_eq!(channel.end(), ends);
                assert!(relay.channel(channel.id()).is_some());
            }
            let close = message(message::CHANNEL_CLOSE, &[HIGHEST]);
            assert!(matches!(relay.see(Side::Downstream, &close), Ok(Seen::Closed { .. })));
            assert_eq!(channel.receive(&close), Ok(InnerMessage::Closed));
            assert_eq!(channel.end().len(), if user_first { 2 } else { 0 });
            assert_eq!(relay.inner(&close), None);
            relay.see(Side::Downstream, &open(1)).unwrap();
        }
    }

    #[test]
    fn requests_are_refused_and_extended_data_is_let_go() {
        let (mut relay, mut channel) = opened(1);
        let mut request = message(message::CHANNEL_REQUEST, &[HIGHEST]);
        put_string(&mut request, b"keepalive@openssh.com").unwrap();
        request.push(1);
        let failure = message(message::CHANNEL_FAILURE, &[5]);
        assert_eq!(say(&mut relay, &mut channel, &request), InnerMessage::Answer(failure));
        let mut extended = message(message::CHANNEL_EXTENDED_DATA, &[HIGHEST, 1]);
        put_string(&mut extended, b"err").unwrap();
        assert_eq!(say(&mut relay, &mut channel, &extended), InnerMessage::Nothing);
        assert_eq!(channel.consumed, 3);
    }

    #[test]
    fn a_target_has_no_say_in_it() {
        for (number, late) in [
            (message::CHANNEL_OPEN_CONFIRMATION, false),
            (message::CHANNEL_OPEN_FAILURE, false),
            (message::CHANNEL_WINDOW_ADJUST, true),
            (message::CHANNEL_DATA, false),
            (message::CHANNEL_EXTENDED_DATA, false),
            (message::CHANNEL_EOF, false),
            (message::CHANNEL_CLOSE, false),
            (message::CHANNEL_REQUEST, true),
            (message::CHANNEL_SUCCESS, true),
            (message::CHANNEL_FAILURE, true),
        ] {
            let (mut relay, _channel) = opened(1);
            let payload = message(number, &[5, 7, 7, 7]);
            let expected =
                if late { Ok(Seen::Stray) } else { Err(RelayError::NoChannel { number, channel: 5 }) };
            assert_eq!(relay.see(Side::Upstream, &payload), expected, "{number}");
        }
    }

    #[test]
    fn the_highest_free_number_is_taken_and_a_target_cannot_take_it_too() {
        let (mut relay, _channel) = opened(1);
        let mut theirs = vec![message::CHANNEL_OPEN];
        put_string(&mut theirs, b"auth-agent@openssh.com").unwrap();
        let mut same = theirs.clone();
        [HIGHEST, 1, 1].iter().for_each(|field| put_u32(&mut same, *field));
        assert_eq!(relay.see(Side::Upstream, &same), Err(RelayError::Reused(HIGHEST)));

        let mut relay = Relay::default();
        relay.see(Side::Upstream, &same).unwrap();
        relay.see(Side::Downstream, &open(1)).unwrap();
        let (_, confirmation) = relay.answer(&open(1)).unwrap();
        assert_eq!(confirmation[5..9], (HIGHEST - 1).to_be_bytes());
    }

    #[test]
    fn a_target_that_answers_what_it_was_not_asked_ends_the_session() {
        let mut relay = Relay::default();
        relay.see(Side::Downstream, &open(1)).unwrap();
        relay.see(Side::Upstream, &message(message::CHANNEL_OPEN_CONFIRMATION, &[5, 0, 1, 1])).unwrap();
        assert!(matches!(relay.answer(&open(1)), Err(RelayError::Reused(_))));
    }
}
