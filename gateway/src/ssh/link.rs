//! One SSH connection: a stream and the transport that runs on it.
//!
//! Owns reading into the transport and writing from it, as poll functions of one task. Invariants: what
//! one read brings is read at once and what one step makes is written at once; a write that fails is
//! not an error of its own, since what the peer sent before is still to be read and tells the reason.
//! [`farewell`] ends a connection so that the peer can read why.

pub(super) mod buffers;
pub(super) mod farewell;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use portreeve_ssh::packet::BUFFER_SIZE;
use portreeve_ssh::transport::{Event, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::byte_stream::ByteStream;
use super::fault::ProtocolFault;

/// Room for one read during a handshake, in bytes.
const HANDSHAKE_READ: usize = 4 * 1024;
/// Least room for one read in a session, in bytes.
const SESSION_READ: usize = 64 * 1024;

/// How a peer's side of a connection ended.
#[derive(Debug)]
pub(super) enum PeerEnd {
    /// It said so (RFC 4253 section 11.1).
    Disconnected {
        /// Reason code.
        reason: u32,
        /// Untrusted text.
        text: Vec<u8>,
    },
    /// It closed the connection.
    Closed,
    /// It reset the connection, or the network lost it.
    Reset,
    /// What it sent makes no sense.
    Fault(ProtocolFault),
}

/// A stream and its transport.
pub(super) struct Link {
    stream: ByteStream,
    pub(super) transport: Transport,
    buffers: buffers::Borrowed,
    /// A write failed: the peer has reset the connection, whatever reads say.
    broken: bool,
}

impl<E: Into<ProtocolFault>> From<E> for PeerEnd {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

impl Link {
    /// Runs `transport` on `stream`, with the socket options that OpenSSH sets.
    pub(super) fn new(stream: impl Into<ByteStream>, transport: Transport) -> io::Result<Self> {
        let stream = stream.into();
        stream.tune()?;
        Ok(Self { stream, transport, buffers: buffers::Borrowed::default(), broken: false })
    }

    /// The next event of a handshake; what is pending is written meanwhile. Nothing is lost when the
    /// future is dropped.
    pub(super) async fn next_event(&mut self) -> Result<Event, PeerEnd> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Waits for the peer's identification line; what comes with it stays for [`Self::next_event`].
    pub(super) async fn identified(&mut self) -> Result<(), PeerEnd> {
        poll_fn(|cx| {
            loop {
                self.poll_flush(cx);
                if self.transport.identify_peer()? {
                    return Poll::Ready(Ok(()));
                }
                ready!(self.poll_fill(cx, HANDSHAKE_READ))?;
            }
        })
        .await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, PeerEnd>> {
        loop {
            let event = self.transport.poll()?;
            self.poll_flush(cx);
            match event {
                Some(Event::Disconnected { reason, text }) => {
                    return Poll::Ready(Err(PeerEnd::Disconnected { reason, text }));
                }
                Some(event) => return Poll::Ready(Ok(event)),
                None => {}
            }
            ready!(self.poll_fill(cx, HANDSHAKE_READ))?;
        }
    }

    /// Reads once, as much as a session's buffer takes.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PeerEnd>> {
        let unread = self.transport.buffers().0.unread().len();
        self.poll_fill(cx, SESSION_READ.min(BUFFER_SIZE.saturating_sub(unread)).max(1))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, at_least: usize) -> Poll<Result<(), PeerEnd>> {
        let mut room = ReadBuf::new(self.transport.spare(at_least));
        // Unlike try_read, this spares the read that would only find out that there is no more.
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room));
        let n = room.filled().len();
        Poll::Ready(match read {
            Ok(()) if n > 0 => self.transport.filled(n).map_err(PeerEnd::from),
            Ok(()) if self.broken => Err(PeerEnd::Reset),
            Ok(()) => Err(PeerEnd::Closed),
            Err(_) => Err(PeerEnd::Reset),
        })
    }

    /// Reads once and forgets what came; 0 at the end.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = [0; 4096];
        let mut room = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        Poll::Ready(Ok(room.filled().len()))
    }

    /// Writes as much as the socket takes of what is pending; whether anything was written. What does
    /// not fit wakes the task when it does.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> bool {
        let mut wrote = false;
        while !self.transport.pending().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.transport.pending()) {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) => self.transport.written(n),
                Poll::Ready(Err(_)) => {
                    self.broken = true;
                    self.transport.written(usize::MAX);
                }
            }
            wrote = true;
        }
        wrote
    }

    /// Takes a buffer of a session's size to read into, if nothing is unread; no message that was read is
    /// valid any more.
    pub(super) fn borrow_input(&mut self) {
        self.buffers.take_input(&mut self.transport);
    }

    /// Takes a buffer of a session's size for what is to be written, if nothing is.
    pub(super) fn borrow_output(&mut self) {
        self.buffers.take_output(&mut self.transport);
    }

    /// Gives back the buffer of what is read if it is empty; no message in it is valid any more.
    pub(super) fn return_input(&mut self) {
        self.buffers.return_input(&mut self.transport);
    }

    /// Gives back the buffer of what is to be written if it is empty.
    pub(super) fn return_output(&mut self) {
        self.buffers.return_output(&mut self.transport);
    }
}
