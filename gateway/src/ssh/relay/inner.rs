//! Channels that end in the gateway: what the user's side sends on them goes into a stream, and what comes out of the
//! stream goes to the user's side.
//!
//! Owns the stream of each such channel from the answer to its open to the end of both. Invariants: of what the user's
//! side sends no more waits here than [`INNER_WINDOW`](portreeve_ssh::relay::INNER_WINDOW), of what comes out of a stream nothing; a stream that has ended
//! closes its channel; a channel that the user closes ends its stream once all that came before is in it; the target
//! sees none of it.
//!
//! Deliberately absent: which channels these are, and who is at the other end of a stream.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use portreeve_ssh::relay::{ChannelId, InnerChannel, InnerMessage, Relay, Seen, Side};
use tokio::io::{AsyncRead as _, AsyncWrite as _, DuplexStream, ReadBuf};

use super::events;
use super::judge::{Fate, Judged};
use super::pump::{Halt, Lane, Watched, count, takes};
use crate::ssh::byte_stream::ChannelEnd;
use crate::ssh::fault::ProtocolFault;
use crate::ssh::link::Link;
use crate::ssh::observe::SessionObserver;

/// Bytes that are taken out of a stream at once.
const PIECE: usize = 32 * 1024;

/// The channels of a session that end in the gateway.
#[derive(Default)]
pub(super) struct InnerChannels {
    carried: HashMap<ChannelId, Carried>,
    /// Room for what comes out of a stream.
    piece: Vec<u8>,
}

struct Carried {
    channel: InnerChannel,
    /// Absent once it has ended.
    stream: Option<DuplexStream>,
    /// What the user's side sent and the stream has not taken yet.
    pending: VecDeque<u8>,
    input: Input,
}

/// What still comes from the user's side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    /// No more bytes; the stream is to be told.
    Ended,
    /// No more bytes; the stream knows.
    Shut,
    /// Nothing: the channel is closed.
    Closed,
}

impl InnerChannels {
    /// Carries `end` in a channel that was answered.
    fn add(&mut self, channel: InnerChannel, end: ChannelEnd) {
        let (id, stream) = (channel.id(), Some(end.0));
        let carried = Carried { channel, stream, pending: VecDeque::new(), input: Input::Open };
        self.carried.insert(id, carried);
    }

    /// Takes a message of the user's side; yields what it is answered.
    fn receive(&mut self, id: ChannelId, payload: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolFault> {
        let Some(carried) = self.carried.get_mut(&id) else { return Ok(Vec::new()) };
        Ok(match carried.channel.receive(payload)? {
            InnerMessage::Data(bytes) => {
                if carried.stream.is_some() {
                    carried.pending.extend(bytes);
                }
                Vec::new()
            }
            InnerMessage::End => {
                carried.input = Input::Ended;
                Vec::new()
            }
            InnerMessage::Closed => {
                carried.input = Input::Closed;
                carried.channel.end()
            }
            InnerMessage::Answer(answer) => vec![answer],
            InnerMessage::Nothing => Vec::new(),
        })
    }

    /// Moves what can be moved, at most one piece out of each stream; whether anything was.
    pub(super) fn turn(
        &mut self,
        down: &mut Link,
        channels: &mut Relay,
        cx: &mut Context<'_>,
    ) -> Result<bool, ProtocolFault> {
        if self.carried.is_empty() {
            return Ok(false);
        }
        let mut moved = false;
        for carried in self.carried.values_mut() {
            moved |= carried.write(down, cx)?;
            if carried.stream.is_some() {
                self.piece.resize(PIECE, 0);
                moved |= carried.read(&mut self.piece, (down, channels), cx)?;
            }
        }
        self.carried.retain(|_, carried| carried.input != Input::Closed || carried.stream.is_some());
        if self.carried.is_empty() {
            self.piece = Vec::new();
        }
        Ok(moved)
    }
}

impl Carried {
    /// Gives the stream what the user's side sent.
    fn write(&mut self, down: &mut Link, cx: &mut Context<'_>) -> Result<bool, ProtocolFault> {
        let mut moved = false;
        while let Some(stream) = &mut self.stream
            && !self.pending.is_empty()
        {
            match Pin::new(stream).poll_write(cx, self.pending.as_slices().0) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(bytes)) => {
                    self.pending.drain(..bytes);
                    if let Some(adjust) = self.channel.consumed(bytes) {
                        down.transport.send(&[&adjust])?;
                    }
                }
                // Nobody reads it; what was said last is still to be read.
                Poll::Ready(Err(_)) => self.pending.clear(),
            }
            moved = true;
        }
        if self.input == Input::Ended
            && let Some(stream) = &mut self.stream
            && Pin::new(stream).poll_shutdown(cx).is_ready()
        {
            self.input = Input::Shut;
        }
        if self.input == Input::Closed {
            self.stream = None;
        }
        Ok(moved)
    }

    /// Takes one piece out of the stream, if the user's side takes it.
    fn read(
        &mut self,
        piece: &mut [u8],
        (down, channels): (&mut Link, &mut Relay),
        cx: &mut Context<'_>,
    ) -> Result<bool, ProtocolFault> {
        // A closed channel takes all and keeps nothing, as whoever writes into the stream must not wait for it.
        let closed = self.input == Input::Closed;
        let room = if closed { piece.len() } else { self.channel.room().min(piece.len()) };
        if room == 0 || !(closed || takes(&down.transport)) {
            return Ok(false);
        }
        let (Some(stream), Some(piece)) = (&mut self.stream, piece.get_mut(..room)) else { return Ok(false) };
        let mut room = ReadBuf::new(piece);
        let Poll::Ready(read) = Pin::new(stream).poll_read(cx, &mut room) else { return Ok(false) };
        match read {
            Ok(()) if closed && !room.filled().is_empty() => {}
            Ok(()) if !room.filled().is_empty() => {
                let data = self.channel.data(channels, room.filled())?;
                down.transport.send(&[&data])?;
            }
            Ok(()) | Err(_) => {
                self.stream = None;
                self.pending = VecDeque::new();
                for end in self.channel.end() {
                    down.transport.send(&[&end])?;
                }
            }
        }
        Ok(true)
    }
}

impl<O: SessionObserver> Lane<'_, O> {
    /// The channel that a message of the user's side is about, if it ends here.
    pub(super) fn inner_channel(&mut self, message: Range<usize>) -> Option<ChannelId> {
        if self.side != Side::Downstream {
            return None;
        }
        self.channels.inner(self.from.transport.payload(message))
    }

    /// Takes a message about a channel that ends here; the observer is told of the channel's end.
    pub(super) fn take_inner(
        &mut self,
        channel: ChannelId,
        message: Range<usize>,
    ) -> Result<Option<Watched>, Halt> {
        let payload: &[u8] = self.from.transport.payload(message.clone());
        let seen = self.channels.see(self.side, payload).map_err(|error| Halt::Sender(error.into()))?;
        let closed = if let Seen::Closed { channel } = seen { Some(channel) } else { None };
        let answers = self.inner.receive(channel, payload).map_err(|error| Halt::Sender(error.into()))?;
        for answer in answers {
            self.from.transport.send(&[&answer]).map_err(|error| Halt::Sender(error.into()))?;
        }
        Ok(closed.map(|channel| {
            count(self.closed_bytes, &channel);
            self.watch(message, KEPT, events::closed(&channel))
        }))
    }

    /// Answers the open of a channel in place of the target, and carries `end` in it.
    pub(super) fn begin_inner(&mut self, open: Range<usize>, end: ChannelEnd) -> Result<(), Halt> {
        let payload: &[u8] = self.from.transport.payload(open);
        // Only a target that has answered already can make it fail.
        let answered = self.channels.answer(payload).map_err(|error| Halt::Receiver(error.into()));
        let (channel, confirmation) = answered?;
        self.from.transport.send(&[&confirmation]).map_err(|error| Halt::Sender(error.into()))?;
        self.inner.add(channel, end);
        Ok(())
    }
}

/// The message ends here.
const KEPT: Judged = Judged { fate: Fate::Keep, if_refused: Fate::Keep, event: None };
