//! Two connections joined at message level (RFC 4254): what crosses, and what it means.
//!
//! One user's side and one target's side are joined one to one, so channel numbers, windows, packet
//! sizes, texts and the order of replies are already right: messages 80 to 100 cross untouched.
//! [`Relay::see`] reads each message on its way and keeps the table of channels; the caller decides
//! from what it saw. What is refused is turned into something the other side refuses by itself
//! ([`refused_request`]), which keeps replies in order; what replies are due is counted, so that a
//! request of our own can be put between and a keep-alive answered in place of a side that cannot. A channel
//! that the gateway answers in place of the target is in the same table, and the target has no part in it
//! ([`InnerChannel`]).
//! Invariants: memory is bounded by [`MAX_CHANNELS`]; a message that does not fit the table ends the
//! session.

mod channel;
mod dismissal;
mod inner;
mod own;
mod replies;
mod stream;
mod view;

use thiserror::Error;

use self::channel::ChannelTable;
pub use self::channel::{Channel, ChannelId};
pub use self::dismissal::Dismissal;
use self::dismissal::Dismissals;
pub use self::inner::{INNER_WINDOW, InnerChannel, InnerMessage};
pub use self::own::{refused_open, refused_request, replaced_data, window_adjust};
use self::replies::Owed;
pub use self::stream::{Streamed, channel_data};
pub use self::view::{GlobalRequest, OpenKind, PtyRequest, Request};
use crate::message;
use crate::wire::{Reader, WireError};

/// Most channels of a session at one time.
pub const MAX_CHANNELS: usize = 4096;

/// Most session channels of a session at one time; OpenSSH's servers allow ten (`MaxSessions`).
pub const MAX_SESSION_CHANNELS: usize = 128;

/// Which side sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The user's side.
    Downstream,
    /// The target's side.
    Upstream,
}

/// What a message means.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// A channel is asked for.
    Open {
        /// The channel.
        channel: ChannelId,
        /// What for.
        kind: OpenKind<'a>,
    },
    /// A channel was not opened.
    OpenFailed {
        /// The channel.
        channel: ChannelId,
    },
    /// Data of a channel.
    Data {
        /// The channel.
        channel: ChannelId,
        /// 0 for data, else the extended-data type.
        code: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// A request on a channel.
    Request {
        /// The channel.
        channel: ChannelId,
        /// Whether it is a session channel (RFC 4254 section 6.1).
        in_session: bool,
        /// What is asked.
        request: Request<'a>,
    },
    /// A request of the whole connection.
    Global(GlobalRequest<'a>),
    /// The reply to a request of our own ([`Relay::ask`]), which must not cross.
    OwnReply {
        /// What a success holds; none for a failure.
        content: Option<&'a [u8]>,
    },
    /// A side may be sent more on a channel.
    Window {
        /// The channel.
        channel: ChannelId,
        /// Its number on the wire.
        recipient: u32,
        /// How many bytes more.
        bytes: u32,
    },
    /// Both sides have closed a channel.
    Closed {
        /// What is known of it.
        channel: Channel,
    },
    /// The reply to a program that is dismissed: [`Relay::dismissed`] yields what takes its place.
    Dismissed {
        /// The channel.
        channel: ChannelId,
    },
    /// What a target still says of a channel whose number at the user's side is that of an [`InnerChannel`] by
    /// now, or the user's side of one that was left in its place ([`Dismissal`]). It must not cross.
    Stray,
    /// A message that changes nothing that is watched.
    Other,
}

/// A message that does not belong into this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RelayError {
    /// A malformed message.
    #[error("a malformed message {number}: {source}")]
    Wire {
        /// Its number.
        number: u8,
        /// What is wrong.
        source: WireError,
    },
    /// A message that is none of RFC 4254.
    #[error("message {0} does not belong into a session")]
    Unexpected(u8),
    /// A message for a channel that does not exist.
    #[error("message {number} for channel {channel}, which is not open")]
    NoChannel {
        /// The message.
        number: u8,
        /// The channel.
        channel: u32,
    },
    /// A channel number that is in use.
    #[error("channel {0} is opened while it is open")]
    Reused(u32),
    /// More data than the window allows (RFC 4254 section 5.2).
    #[error("more data than the window of channel {0} allows")]
    Overrun(u32),
    /// Too many channels.
    #[error("more than {MAX_CHANNELS} channels at a time")]
    TooManyChannels,
}

/// Follows the messages of one session.
#[derive(Debug, Default)]
pub struct Relay {
    channels: ChannelTable,
    owed_by_downstream: Owed,
    owed_by_upstream: Owed,
    dismissals: Dismissals,
}

impl Side {
    /// The side that receives what this one sent.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Downstream => Self::Upstream,
            Self::Upstream => Self::Downstream,
        }
    }
}

impl Relay {
    /// Reads a message that `from` sent and that is about to cross.
    ///
    /// # Errors
    /// [`RelayError`]; the session must end then.
    pub fn see<'a>(&mut self, from: Side, payload: &'a [u8]) -> Result<Seen<'a>, RelayError> {
        let number = payload.first().copied().unwrap_or_default();
        self.read(from, payload).map_err(|error| error.of(number))
    }

    /// What is known of a channel.
    pub fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(id)
    }

    /// Whether a side may still say something on a channel: both have numbers for it, and this one has not closed it.
    pub fn speaks_on(&self, side: Side, id: ChannelId) -> bool {
        self.channels.carries_data_of(id, side)
    }

    /// The channels that are open or asked for, in the order they were asked for.
    pub fn open_channels(&self) -> Vec<&Channel> {
        self.channels.all()
    }

    /// Whether more session channels are open or asked for than [`MAX_SESSION_CHANNELS`].
    pub fn has_too_many_sessions(&self) -> bool {
        self.channels.sessions() > MAX_SESSION_CHANNELS
    }

    fn read<'a>(&mut self, from: Side, payload: &'a [u8]) -> Result<Seen<'a>, SeeError> {
        let mut reader = Reader::new(payload);
        let number = reader.u8()?;
        let is_stray = match from {
            Side::Downstream => self.is_left(payload),
            Side::Upstream => self.is_stray(payload)?,
        };
        if is_stray {
            return Ok(Seen::Stray);
        }
        match number {
            message::GLOBAL_REQUEST => Ok(Seen::Global(GlobalRequest::read(reader)?)),
            message::REQUEST_SUCCESS | message::REQUEST_FAILURE => Ok(match self.owed_by(from).came() {
                replies::Reply::Theirs => Seen::Other,
                replies::Reply::Ours => {
                    let content = (number == message::REQUEST_SUCCESS).then_some(reader.rest());
                    Seen::OwnReply { content }
                }
            }),
            // They carry nothing, and late ones are common: each peer judges them for itself.
            message::CHANNEL_SUCCESS | message::CHANNEL_FAILURE => {
                let channel = self.channels.answered(from, reader.u32()?);
                let dismissed = channel.filter(|id| from == Side::Upstream && self.is_dismissed(*id));
                Ok(dismissed.map_or(Seen::Other, |channel| Seen::Dismissed { channel }))
            }
            message::CHANNEL_WINDOW_ADJUST => {
                let (recipient, bytes) = (reader.u32()?, reader.u32()?);
                let channel = self.channels.find(from.other(), recipient);
                Ok(channel.map_or(Seen::Other, |channel| Seen::Window { channel, recipient, bytes }))
            }
            message::CHANNEL_OPEN => {
                let kind = reader.name()?;
                let sender = reader.u32()?;
                reader.u32()?;
                reader.u32()?;
                let kind = OpenKind::read(kind, reader)?;
                let channel = self.channels.open(from, sender, kind == OpenKind::Session)?;
                Ok(Seen::Open { channel, kind })
            }
            message::CHANNEL_OPEN_CONFIRMATION
            | message::CHANNEL_OPEN_FAILURE
            | message::CHANNEL_DATA
            | message::CHANNEL_EXTENDED_DATA
            | message::CHANNEL_EOF
            | message::CHANNEL_CLOSE
            | message::CHANNEL_REQUEST => {
                let recipient = reader.u32()?;
                let allowed = |id: &ChannelId| match number {
                    message::CHANNEL_OPEN_CONFIRMATION | message::CHANNEL_OPEN_FAILURE => true,
                    // Keep-alives are requests that may follow a CLOSE.
                    message::CHANNEL_REQUEST => self.channels.is_confirmed(*id),
                    _ => self.channels.carries_data_of(*id, from),
                };
                match self.channels.find(from.other(), recipient).filter(allowed) {
                    Some(channel) => self.read_channel_message(from, number, channel, reader),
                    // A keep-alive of the target crossed the last CLOSE: it grants nothing, the client judges.
                    None if number == message::CHANNEL_REQUEST && from == Side::Upstream => Ok(Seen::Other),
                    None => Err(RelayError::NoChannel { number, channel: recipient }.into()),
                }
            }
            other => Err(RelayError::Unexpected(other).into()),
        }
    }

    fn read_channel_message<'a>(
        &mut self,
        from: Side,
        number: u8,
        channel: ChannelId,
        mut reader: Reader<'a>,
    ) -> Result<Seen<'a>, SeeError> {
        match number {
            message::CHANNEL_OPEN_CONFIRMATION => {
                self.channels.confirm(channel, from, reader.u32()?)?;
                Ok(Seen::Other)
            }
            message::CHANNEL_OPEN_FAILURE => {
                self.channels.fail(channel, from)?;
                Ok(Seen::OpenFailed { channel })
            }
            message::CHANNEL_DATA => {
                let data = reader.string()?;
                self.channels.count(channel, from, data.len());
                Ok(Seen::Data { channel, code: 0, data })
            }
            message::CHANNEL_EXTENDED_DATA => {
                let code = reader.u32()?;
                let data = reader.string()?;
                self.channels.count(channel, from, data.len());
                Ok(Seen::Data { channel, code, data })
            }
            message::CHANNEL_REQUEST => {
                let in_session = self.channels.get(channel).is_some_and(|channel| channel.is_session);
                Ok(Seen::Request { channel, in_session, request: Request::read(reader)? })
            }
            message::CHANNEL_CLOSE => Ok(match self.channels.close(channel, from) {
                Some(channel) => {
                    self.forget_dismissal(channel.id);
                    Seen::Closed { channel }
                }
                None => Seen::Other,
            }),
            _ => Ok(Seen::Other),
        }
    }
}

/// The number of the channel that a message is about.
fn recipient(payload: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(payload);
    let number = reader.u8().ok()?;
    let about_one = (message::CHANNEL_OPEN_CONFIRMATION..=message::CHANNEL_FAILURE).contains(&number);
    about_one.then(|| reader.u32().ok()).flatten()
}

/// Either kind of problem while a message is read.
enum SeeError {
    Wire(WireError),
    Relay(RelayError),
}

impl SeeError {
    /// The error of a message with this number.
    const fn of(self, number: u8) -> RelayError {
        match self {
            Self::Wire(source) => RelayError::Wire { number, source },
            Self::Relay(error) => error,
        }
    }
}

impl From<WireError> for SeeError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<RelayError> for SeeError {
    fn from(error: RelayError) -> Self {
        Self::Relay(error)
    }
}

#[cfg(test)]
mod tests;
