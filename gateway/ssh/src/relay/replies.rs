//! Replies that are due (RFC 4254 sections 4 and 5.4).
//!
//! A reply does not name its request: each side answers global requests in their order, and those of a
//! channel in theirs. So the reply to a request of our own is found by counting those that are due before
//! it, and a request is answered in place of a side only when that side owes nothing.

use super::{Relay, Side};
use crate::message;
use crate::wire::{Reader, WireError, put_u32};

/// What OpenSSH asks to see whether its peer is there, as a global request or on a channel (its
/// clientloop.c, serverloop.c). Every implementation refuses it, as it knows no such request.
const KEEP_ALIVE: &[u8] = b"keepalive@openssh.com";

/// Replies to global requests that one side owes.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// To the other side.
    due: u32,
    /// Of these the ones that come before the reply to our own request, while that is due.
    before_ours: Option<u32>,
}

/// To whose request a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// To one of the other side, or to none at all.
    Theirs,
    /// To our own.
    Ours,
}

impl Owed {
    /// A reply came.
    pub(super) const fn came(&mut self) -> Reply {
        if let Some(before) = self.before_ours {
            if before == 0 {
                self.before_ours = None;
                return Reply::Ours;
            }
            self.before_ours = Some(before - 1);
        }
        self.due = self.due.saturating_sub(1);
        Reply::Theirs
    }
}

impl Relay {
    pub(super) const fn owed_by(&mut self, side: Side) -> &mut Owed {
        match side {
            Side::Downstream => &mut self.owed_by_downstream,
            Side::Upstream => &mut self.owed_by_upstream,
        }
    }

    /// A message of `from` was sent on; if it is a request that wants a reply, that is due from now on. To
    /// be told in the order of sending, which need not be that of [`Self::see`].
    pub fn sent(&mut self, from: Side, payload: &[u8]) {
        match Asked::read(payload) {
            Ok(Some(Asked { scope: Scope::Connection, .. })) => {
                let owed = self.owed_by(from.other());
                owed.due = owed.due.saturating_add(1);
            }
            Ok(Some(Asked { scope: Scope::Channel(number), .. })) => {
                self.channels.asked(from.other(), number);
            }
            Ok(None) | Err(_) => {}
        }
    }

    /// What the other side would reply to a keep-alive of `from`, if it could now: a refusal, as to every
    /// request that is not known. None for any other message, and while an earlier reply is due, which must
    /// come first.
    pub fn keep_alive_reply(&self, from: Side, payload: &[u8]) -> Option<Vec<u8>> {
        let asked = Asked::read(payload).ok()?.filter(|asked| asked.name == KEEP_ALIVE)?;
        match asked.scope {
            Scope::Connection => {
                let owed = match from {
                    Side::Downstream => &self.owed_by_upstream,
                    Side::Upstream => &self.owed_by_downstream,
                };
                (owed.due == 0).then(|| vec![message::REQUEST_FAILURE])
            }
            Scope::Channel(number) => {
                let mut refusal = vec![message::CHANNEL_FAILURE];
                put_u32(&mut refusal, self.channels.answered_next(from.other(), number)?);
                Some(refusal)
            }
        }
    }

    /// A global request of our own that wants a reply is sent to `to` now; its reply will be
    /// [`super::Seen::OwnReply`]. No second one before it came.
    pub const fn ask(&mut self, to: Side) {
        let owed = self.owed_by(to);
        owed.before_ours = Some(owed.due);
    }
}

/// A request that wants a reply.
pub(super) struct Asked<'a> {
    pub(super) scope: Scope,
    name: &'a [u8],
}

/// What a request is about, and so where its reply has its place.
pub(super) enum Scope {
    /// The whole connection.
    Connection,
    /// The channel that the receiver calls so.
    Channel(u32),
}

impl<'a> Asked<'a> {
    /// None for what is no request or wants no reply.
    pub(super) fn read(payload: &'a [u8]) -> Result<Option<Self>, WireError> {
        let mut reader = Reader::new(payload);
        let scope = match reader.u8()? {
            message::GLOBAL_REQUEST => Scope::Connection,
            message::CHANNEL_REQUEST => Scope::Channel(reader.u32()?),
            _ => return Ok(None),
        };
        let name = reader.string()?;
        Ok(reader.boolean()?.then_some(Self { scope, name }))
    }
}
