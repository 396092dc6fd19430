//! sftp channels of a session that may not move files both ways.
//!
//! Owns the gate of each such channel from the request that starts sftp to the channel's end, and cuts data anew where
//! some of it is held back. Invariants: the bytes that cross are as many as came and in their order, so that the windows
//! of both sides hold (RFC 4254 section 5.2); no message is longer than one that its sender itself sent, so that it
//! fits the other side's packet size. What is held is less than half of any window in use but for names above 10 KiB,
//! so a receiver gives more window before its sender has none.
//!
//! Deliberately absent: what may pass, which is [`SftpGate`]'s.

use std::collections::HashMap;

use portreeve_core::infrastructure::TransferRights;
use portreeve_core::transfer::Program;
use portreeve_core::transfer::sftp::SftpGate;
use portreeve_ssh::relay::{ChannelId, Relay, Request, Seen, Side, Streamed, channel_data};
use portreeve_ssh::wire::MAX_PAYLOAD;

use crate::ssh::fault::ProtocolFault;

/// The gates of a session.
#[derive(Default)]
pub(super) struct Gates(HashMap<ChannelId, Gate>);

struct Gate {
    sftp: SftpGate,
    /// The longest data of a message from the user's side, and from the target's.
    longest: (usize, usize),
}

impl Gates {
    /// Puts a gate on a channel on which the user asks for sftp, unless all is granted. Whether the request may go on:
    /// not if data went before it, which a target may keep for the program that it starts.
    ///
    /// A gate stays even if the request fails, as the target may be asked twice at a time and take the first.
    pub(super) fn admit(&mut self, channels: &Relay, seen: &Seen<'_>, rights: TransferRights) -> bool {
        let Seen::Request { channel, in_session: true, request } = seen else { return true };
        if rights == TransferRights::ALL || !starts_sftp(*request) || self.0.contains_key(channel) {
            return true;
        }
        if channels.channel(*channel).is_none_or(|channel| channel.downstream_bytes > 0) {
            return false;
        }
        self.0.insert(*channel, Gate { sftp: SftpGate::new(rights), longest: (0, 0) });
        true
    }

    /// Forgets a channel that is closed.
    pub(super) fn forget(&mut self, channel: ChannelId) {
        self.0.remove(&channel);
    }

    /// What to send on in place of a message, if its channel has a gate.
    ///
    /// # Errors
    /// [`ProtocolFault`] of who sent it; the session must end.
    pub(super) fn cut(
        &mut self,
        channels: &Relay,
        from: Side,
        payload: &[u8],
    ) -> Result<Option<Vec<Vec<u8>>>, ProtocolFault> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let Some((channel, recipient, streamed)) = channels.streamed(from, payload) else { return Ok(None) };
        let Some(Gate { sftp, longest }) = self.0.get_mut(&channel) else { return Ok(None) };
        let longest = match from {
            Side::Downstream => &mut longest.0,
            Side::Upstream => &mut longest.1,
        };
        let (data, last) = match (streamed, from) {
            (Streamed::Data(data), from) => {
                *longest = data.len().max(*longest);
                let judged = match from {
                    Side::Downstream => sftp.requests(data)?,
                    Side::Upstream => sftp.answers(data)?,
                };
                (judged, None)
            }
            (Streamed::End, Side::Downstream) => (sftp.last_request(), Some(payload.to_vec())),
            (Streamed::End, Side::Upstream) => (sftp.last_answer(), Some(payload.to_vec())),
        };
        let pieces =
            data.chunks((*longest).clamp(1, MAX_PAYLOAD)).map(|piece| channel_data(recipient, piece));
        let mut messages = pieces.collect::<Result<Vec<_>, _>>()?;
        messages.extend(last);
        Ok(Some(messages))
    }
}

fn starts_sftp(request: Request<'_>) -> bool {
    let program = match request {
        Request::Subsystem { name } => Program::of_subsystem(name),
        Request::Exec { command } => Program::of_exec(command),
        Request::Pty(_)
        | Request::X11
        | Request::Agent
        | Request::Env { .. }
        | Request::Shell
        | Request::WindowChange { .. }
        | Request::Signal { .. }
        | Request::ExitStatus { .. }
        | Request::ExitSignal { .. }
        | Request::Other { .. } => None,
    };
    program == Some(Program::Sftp)
}
