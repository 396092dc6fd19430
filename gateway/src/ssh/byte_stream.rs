//! What an SSH connection runs on: a TCP connection, or a channel of another session that ends in this gateway.
//!
//! Owns what differs between the two. Invariant: either holds a bounded number of bytes on their way, and wakes who
//! waits for more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

/// Bytes of a channel that may be on their way, in each direction, between the two sessions.
const CHANNEL_BYTES: usize = 64 * 1024;

/// A stream of bytes both ways.
#[derive(Debug)]
pub enum ByteStream {
    /// A TCP connection.
    Tcp(TcpStream),
    /// The other end of a [`ChannelEnd`].
    Channel(DuplexStream),
}

/// The end of such a stream that a relay carries in a channel; dropping it ends the stream.
#[derive(Debug)]
pub struct ChannelEnd(pub(super) DuplexStream);

impl ByteStream {
    /// A stream that is to be carried in a channel, and the end that does so.
    pub fn in_channel() -> (Self, ChannelEnd) {
        let (near, far) = tokio::io::duplex(CHANNEL_BYTES);
        (Self::Channel(far), ChannelEnd(near))
    }

    /// Sets what OpenSSH sets on its sockets: no delay, keep-alive.
    pub(super) fn tune(&self) -> io::Result<()> {
        if let Self::Tcp(tcp) = self {
            tcp.set_nodelay(true)?;
            setsockopt(tcp, sockopt::KeepAlive, &true)?;
        }
        Ok(())
    }

    /// Resets the connection: the peer gets no byte more. A channel is closed.
    pub fn reset(self) {
        if let Self::Tcp(tcp) = self {
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            // Without the option the connection is closed instead.
            setsockopt(&tcp, sockopt::Linger, &linger).ok();
        }
    }
}

impl From<TcpStream> for ByteStream {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, room),
            Self::Channel(channel) => Pin::new(channel).poll_read(cx, room),
        }
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Channel(channel) => Pin::new(channel).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Channel(channel) => Pin::new(channel).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Channel(channel) => Pin::new(channel).poll_shutdown(cx),
        }
    }
}
