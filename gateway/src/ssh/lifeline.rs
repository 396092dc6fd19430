//! A TCP stream that can be cut from outside.
//!
//! russh runs a connection in a task of its own that cannot be cancelled. Tying its stream to a
//! [`Lifeline`] gives the owner that power: when the lifeline is dropped, reads and writes fail and
//! russh's task ends. Nothing is flushed then; a clean end is the owner's job before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Keeps a [`TiedStream`] alive while it exists.
#[derive(Debug)]
pub(super) struct Lifeline {
    _held: oneshot::Sender<()>,
}

/// A TCP stream that fails once its [`Lifeline`] is gone.
#[derive(Debug)]
pub(super) struct TiedStream {
    tcp: TcpStream,
    cut: Option<oneshot::Receiver<()>>,
}

/// Ties `tcp` to a lifeline, and sets what OpenSSH sets on its own sockets: no delay, keep-alive.
///
/// # Errors
/// What the socket says to these options.
pub(super) fn tie(tcp: TcpStream) -> io::Result<(TiedStream, Lifeline)> {
    tcp.set_nodelay(true)?;
    setsockopt(&tcp, sockopt::KeepAlive, &true)?;
    let (held, cut) = oneshot::channel();
    Ok((TiedStream { tcp, cut: Some(cut) }, Lifeline { _held: held }))
}

impl TiedStream {
    /// Fails when the lifeline is gone, else registers to be woken when it goes.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(cut) = &mut self.cut {
            if Pin::new(cut).poll(cx).is_pending() {
                return Ok(());
            }
            self.cut = None;
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl AsyncRead for TiedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for TiedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn dropping_the_lifeline_wakes_a_blocked_read() {
        let (near, _far) = pair().await;
        let (mut tied, lifeline) = tie(near).unwrap();
        let reading = tokio::spawn(async move {
            let first = tied.read_u8().await.map_err(|error| error.kind());
            (first, tied.write_all(b"x").await.map_err(|error| error.kind()))
        });
        tokio::task::yield_now().await;
        drop(lifeline);
        let aborted = io::ErrorKind::ConnectionAborted;
        assert_eq!(reading.await.unwrap(), (Err(aborted), Err(aborted)));
    }

    #[tokio::test]
    async fn bytes_pass_while_the_lifeline_is_held() {
        let (near, mut far) = pair().await;
        let (mut tied, _lifeline) = tie(near).unwrap();
        far.write_all(b"ab").await.unwrap();
        assert_eq!(tied.read_u16().await.unwrap(), u16::from_be_bytes(*b"ab"));
        tied.write_all(b"cd").await.unwrap();
        assert_eq!(far.read_u16().await.unwrap(), u16::from_be_bytes(*b"cd"));
    }
}
