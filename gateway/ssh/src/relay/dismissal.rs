//! A program that the target is made to refuse, and whose user is told why.
//!
//! A client that reads CHANNEL_FAILURE tells its user that the request failed, and no more. So in place of that reply, in
//! its order, the user's side gets what a program sends that was started, writes one line to its standard error and ends
//! with status 1; the target gets CLOSE, and its own CLOSE ends the channel at the user's side. The CLOSE with which the
//! user's side answers has crossed already then, so it is left out, and whatever else the user's side says before it.
//!
//! Owns when that is due, and the messages. Invariants: the numbers in use stay right, because who has closed a channel
//! says so before it uses the number again; one line is less than any window in use, so the target's account of the
//! window holds while it sends nothing itself.

use std::collections::{HashMap, HashSet};

use super::replies::{Asked, Scope};
use super::{ChannelId, MAX_CHANNELS, Relay, RelayError, Side, recipient};
use crate::message;
use crate::text::TerminalText;
use crate::wire::{PayloadTooLong, WireError, put_string, put_u32};

/// Extended data of a program's standard error (RFC 4254 section 5.2).
const STDERR: u32 = 1;
/// The status with which the program seems to end.
const STATUS: u32 = 1;

/// Which programs are to be dismissed, and whose channels were left in place of the user's side.
#[derive(Debug, Default)]
pub(super) struct Dismissals {
    due: HashMap<ChannelId, Due>,
    /// By the target's numbers: what the user's side still says is left out.
    left: HashSet<u32>,
}

#[derive(Debug)]
struct Due {
    /// Replies of the target up to and with that which is replaced.
    replies: u32,
    text: TerminalText,
}

/// Messages that dismiss a program.
#[derive(Debug, PartialEq, Eq)]
pub struct Dismissal {
    /// To the user's side, in order.
    pub downstream: Vec<Vec<u8>>,
    /// To the target.
    pub upstream: Vec<u8>,
}

impl Relay {
    /// The refused request for a program was sent on to the target, after [`Self::sent`] saw it. If it wants a reply, the
    /// user is told `text` when that is due.
    pub fn dismiss(&mut self, request: &[u8], text: TerminalText) {
        let Ok(Some(Asked { scope: Scope::Channel(number), .. })) = Asked::read(request) else { return };
        let Some(id) = self.channels.find(Side::Upstream, number) else { return };
        let due = Due { replies: self.channels.owed_by_upstream(id), text };
        self.dismissals.due.entry(id).or_insert(due);
    }

    /// The target has replied on a channel; whether that is the reply to a program that is dismissed.
    pub(super) fn is_dismissed(&mut self, id: ChannelId) -> bool {
        let Some(due) = self.dismissals.due.get_mut(&id) else { return false };
        due.replies = due.replies.saturating_sub(1);
        due.replies == 0
    }

    /// What is sent in place of the reply to a dismissed program; none where a side has closed the channel.
    ///
    /// # Errors
    /// [`RelayError::TooManyChannels`] if the user's side never answers CLOSE; [`PayloadTooLong`] not at all.
    pub fn dismissed(&mut self, id: ChannelId) -> Result<Option<Dismissal>, RelayError> {
        let Some(Due { text, .. }) = self.dismissals.due.remove(&id) else { return Ok(None) };
        let Some((user, target)) = self.channels.leave(id) else { return Ok(None) };
        if self.dismissals.left.len() >= MAX_CHANNELS {
            return Err(RelayError::TooManyChannels);
        }
        self.dismissals.left.insert(target);
        let too_long = |_| RelayError::Wire { number: message::CHANNEL_DATA, source: WireError::Malformed };
        let downstream = told(user, &text).map_err(too_long)?;
        Ok(Some(Dismissal { downstream, upstream: about(message::CHANNEL_CLOSE, target) }))
    }

    /// Whether a message of the user's side is about a channel that was left in its place.
    pub(super) fn is_left(&mut self, payload: &[u8]) -> bool {
        if self.dismissals.left.is_empty() {
            return false;
        }
        let Some(number) = recipient(payload) else { return false };
        if payload.first() == Some(&message::CHANNEL_CLOSE) {
            return self.dismissals.left.remove(&number);
        }
        self.dismissals.left.contains(&number)
    }

    /// The channel is closed.
    pub(super) fn forget_dismissal(&mut self, id: ChannelId) {
        self.dismissals.due.remove(&id);
    }
}

/// What a program sends that was started, says a line, and ends.
fn told(user: u32, text: &TerminalText) -> Result<Vec<Vec<u8>>, PayloadTooLong> {
    let mut line = about(message::CHANNEL_EXTENDED_DATA, user);
    put_u32(&mut line, STDERR);
    put_string(&mut line, format!("{text}\r\n").as_bytes())?;
    let mut status = about(message::CHANNEL_REQUEST, user);
    put_string(&mut status, b"exit-status")?;
    status.push(0);
    put_u32(&mut status, STATUS);
    Ok(vec![about(message::CHANNEL_SUCCESS, user), line, status])
}

fn about(number: u8, channel: u32) -> Vec<u8> {
    let mut payload = vec![number];
    put_u32(&mut payload, channel);
    payload
}

#[cfg(test)]
mod tests {
    use super::super::Seen;
    use super::*;

    const USER: u32 = 5;
    const TARGET: u32 = 9;

    fn open(number: u32) -> Vec<u8> {
        let mut open = vec![message::CHANNEL_OPEN];
        put_string(&mut open, b"session").unwrap();
        [number, 1000, 1000].iter().for_each(|field| put_u32(&mut open, *field));
        open
    }

    fn confirmation(recipient: u32, number: u32) -> Vec<u8> {
        let mut confirmation = about(message::CHANNEL_OPEN_CONFIRMATION, recipient);
        [number, 1000, 1000].iter().for_each(|field| put_u32(&mut confirmation, *field));
        confirmation
    }

    fn request(name: &[u8], wants_reply: bool) -> Vec<u8> {
        let mut request = about(message::CHANNEL_REQUEST, TARGET);
        put_string(&mut request, name).unwrap();
        request.push(u8::from(wants_reply));
        put_string(&mut request, b"scp -f x").unwrap();
        request
    }

    fn opened() -> Relay {
        let mut relay = Relay::default();
        relay.see(Side::Downstream, &open(USER)).unwrap();
        relay.see(Side::Upstream, &confirmation(USER, TARGET)).unwrap();
        relay
    }

    fn ask(relay: &mut Relay, request: &[u8]) {
        relay.see(Side::Downstream, request).unwrap();
        relay.sent(Side::Downstream, request);
    }

    #[test]
    fn the_reply_to_the_program_is_replaced_and_no_other() {
        let mut relay = opened();
        ask(&mut relay, &request(b"shell", true));
        let exec = request(b"exec", true);
        ask(&mut relay, &exec);
        relay.dismiss(&exec, TerminalText::new("no"));
        let (success, failure) =
            (about(message::CHANNEL_SUCCESS, USER), about(message::CHANNEL_FAILURE, USER));
        assert_eq!(relay.see(Side::Upstream, &success), Ok(Seen::Other), "that of the earlier request");
        let id = ChannelId(0);
        assert_eq!(relay.see(Side::Upstream, &failure), Ok(Seen::Dismissed { channel: id }));
        let dismissal = relay.dismissed(id).unwrap().unwrap();
        let mut line = about(message::CHANNEL_EXTENDED_DATA, USER);
        put_u32(&mut line, 1);
        put_string(&mut line, b"no\r\n").unwrap();
        assert_eq!(dismissal.downstream[..2], [success, line]);
        assert!(dismissal.downstream[2].ends_with(b"exit-status\0\0\0\0\x01"));
        assert_eq!(dismissal.upstream, about(message::CHANNEL_CLOSE, TARGET));
    }

    #[test]
    fn the_targets_close_ends_the_channel_and_the_users_is_left_out_even_if_the_number_is_in_use_again() {
        let mut relay = opened();
        let exec = request(b"exec", true);
        ask(&mut relay, &exec);
        relay.dismiss(&exec, TerminalText::new("no"));
        relay.see(Side::Upstream, &about(message::CHANNEL_FAILURE, USER)).unwrap();
        relay.dismissed(ChannelId(0)).unwrap().unwrap();
        let close = about(message::CHANNEL_CLOSE, USER);
        assert!(matches!(relay.see(Side::Upstream, &close), Ok(Seen::Closed { .. })));
        // The target may give its number to the next channel before the user's side has answered.
        relay.see(Side::Downstream, &open(6)).unwrap();
        relay.see(Side::Upstream, &confirmation(6, TARGET)).unwrap();
        for late in [about(message::CHANNEL_EOF, TARGET), about(message::CHANNEL_CLOSE, TARGET)] {
            assert_eq!(relay.see(Side::Downstream, &late), Ok(Seen::Stray));
        }
        assert!(matches!(relay.see(Side::Downstream, &request(b"exec", true)), Ok(Seen::Request { .. })));
    }

    #[test]
    fn who_wants_no_reply_or_has_closed_is_told_nothing() {
        let mut relay = opened();
        let silent = request(b"exec", false);
        ask(&mut relay, &silent);
        relay.dismiss(&silent, TerminalText::new("no"));
        assert_eq!(relay.see(Side::Upstream, &about(message::CHANNEL_FAILURE, USER)), Ok(Seen::Other));

        let mut relay = opened();
        let exec = request(b"exec", true);
        ask(&mut relay, &exec);
        relay.dismiss(&exec, TerminalText::new("no"));
        relay.see(Side::Downstream, &about(message::CHANNEL_CLOSE, TARGET)).unwrap();
        let failure = about(message::CHANNEL_FAILURE, USER);
        let replied = Seen::Dismissed { channel: ChannelId(0) };
        assert_eq!(relay.see(Side::Upstream, &failure), Ok(replied));
        assert_eq!(relay.dismissed(ChannelId(0)), Ok(None));
    }
}
