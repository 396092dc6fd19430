//! Replies that are due (RFC 4254 section 4).
//!
//! A reply to a global request does not name it: each side answers in the order of the requests. So the
//! reply to a request of our own is found by counting those that are due before it.

use super::{Relay, Side};
use crate::message;
use crate::wire::{Reader, WireError};

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

    /// A message of `from` was sent on; if it is a global request that wants a reply, that is due from now
    /// on. To be told in the order of sending, which need not be that of [`Self::see`].
    pub fn sent(&mut self, from: Side, payload: &[u8]) {
        if wants_reply(payload) == Ok(true) {
            let owed = self.owed_by(from.other());
            owed.due = owed.due.saturating_add(1);
        }
    }

    /// A global request of our own that wants a reply is sent to `to` now; its reply will be
    /// [`super::Seen::OwnReply`]. No second one before it came.
    pub const fn ask(&mut self, to: Side) {
        let owed = self.owed_by(to);
        owed.before_ours = Some(owed.due);
    }
}

/// Whether a message is a global request that wants a reply.
fn wants_reply(payload: &[u8]) -> Result<bool, WireError> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != message::GLOBAL_REQUEST {
        return Ok(false);
    }
    reader.string()?;
    reader.boolean()
}
