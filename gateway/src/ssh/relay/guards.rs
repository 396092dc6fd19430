//! Channels that must not carry an SSH connection.
//!
//! Whoever opens a forward to a name that only the target can resolve may mean a target of this gateway. Such a
//! channel is watched for the line that an SSH server begins with (RFC 4253 section 4.2). When it comes the observer
//! is asked. If it refuses, the user is sent its text in place of the line, as a server that refuses sends it, and no
//! more data crosses; both sides then close the channel as they please. Pure.

use std::collections::HashMap;

use portreeve_ssh::message::reason;
use portreeve_ssh::refusal::refusal_bytes;
use portreeve_ssh::relay::{ChannelId, Side, replaced_data};
use portreeve_ssh::text::TerminalText;
use portreeve_ssh::wire::WireError;

/// How an SSH server begins.
const BEGINNING: &[u8] = b"SSH-";

/// The guarded channels of a session.
#[derive(Debug, Default)]
pub(super) struct Guards(HashMap<ChannelId, Guard>);

#[derive(Debug)]
enum Guard {
    /// So many bytes were those that SSH begins with.
    Watching(usize),
    /// Nothing crosses any more.
    Cut,
}

/// What becomes of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It crosses.
    Open,
    /// SSH begins here; the channel is not guarded any more, unless it is cut.
    Ssh,
    /// It is left out.
    Closed,
}

impl Guards {
    /// Guards a channel from now on.
    pub(super) fn add(&mut self, channel: ChannelId) {
        self.0.insert(channel, Guard::Watching(0));
    }

    /// Nothing crosses on a channel any more.
    pub(super) fn cut(&mut self, channel: ChannelId) {
        self.0.insert(channel, Guard::Cut);
    }

    /// The channel is no more.
    pub(super) fn forget(&mut self, channel: ChannelId) {
        self.0.remove(&channel);
    }

    /// What becomes of data that `side` sent on a channel.
    pub(super) fn see(&mut self, side: Side, channel: ChannelId, data: &[u8]) -> Passage {
        let Some(guard) = self.0.get_mut(&channel) else { return Passage::Open };
        let Guard::Watching(seen) = guard else { return Passage::Closed };
        if side == Side::Downstream || data.is_empty() {
            return Passage::Open;
        }
        let due = BEGINNING.get(*seen..).unwrap_or_default();
        let same = data.iter().zip(due).take_while(|(byte, due)| byte == due).count();
        *seen += same;
        if *seen < BEGINNING.len() && same == data.len() {
            return Passage::Open;
        }
        let ssh = *seen == BEGINNING.len();
        self.0.remove(&channel);
        if ssh { Passage::Ssh } else { Passage::Open }
    }
}

/// What the user gets in place of the data in `payload`.
pub(super) fn refusal(payload: &[u8], text: &str) -> Result<Vec<u8>, WireError> {
    replaced_data(payload, &refusal_bytes(reason::BY_APPLICATION, &TerminalText::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ChannelId = ChannelId(4);

    fn guarded() -> Guards {
        let mut guards = Guards::default();
        guards.add(CHANNEL);
        guards
    }

    #[test]
    fn ssh_is_seen_however_its_first_bytes_come() {
        for pieces in [&[&b"SSH-2.0-x"[..]][..], &[b"S", b"SH", b"-"], &[b"SSH", b"", b"-1.99-x"]] {
            let mut guards = guarded();
            let (last, first) = pieces.split_last().unwrap();
            for piece in first {
                assert_eq!(guards.see(Side::Upstream, CHANNEL, piece), Passage::Open, "{pieces:?}");
            }
            assert_eq!(guards.see(Side::Downstream, CHANNEL, b"SSH-2.0-client"), Passage::Open);
            assert_eq!(guards.see(Side::Upstream, CHANNEL, last), Passage::Ssh, "{pieces:?}");
            guards.cut(CHANNEL);
            for side in [Side::Upstream, Side::Downstream] {
                assert_eq!(guards.see(side, CHANNEL, b"more"), Passage::Closed);
            }
        }
    }

    #[test]
    fn anything_else_passes_and_is_not_looked_at_again() {
        for first in [&b"HTTP/1.1 200 OK"[..], b"SSX", b"ssh-"] {
            let mut guards = guarded();
            assert_eq!(guards.see(Side::Upstream, CHANNEL, first), Passage::Open);
            assert_eq!(guards.see(Side::Upstream, CHANNEL, b"SSH-2.0-x"), Passage::Open);
        }
        assert_eq!(guarded().see(Side::Upstream, ChannelId(5), b"SSH-2.0-x"), Passage::Open);
        let mut forgotten = guarded();
        forgotten.forget(CHANNEL);
        assert_eq!(forgotten.see(Side::Upstream, CHANNEL, b"SSH-"), Passage::Open);
    }
}
