//! Ending a connection so that the peer learns why.
//!
//! A socket that is closed while something is unread resets the connection, and a reset discards what
//! the peer has not read. So the output is written, then closed, and what still comes is read and
//! forgotten until the peer closes, too. Invariant: a peer that does neither read nor close costs a
//! bounded time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use portreeve_ssh::message::reason;
use portreeve_ssh::text::TerminalText;
use tokio::io::AsyncWrite;
use tokio::time::timeout;

use super::Link;

/// How long a peer may take none of what is to be written.
const STALLED: Duration = Duration::from_secs(10);
/// How long a peer that has all may take to close.
const CLOSING: Duration = Duration::from_millis(1400);

/// How a connection is to end.
#[derive(Debug)]
pub(in crate::ssh) enum Farewell {
    /// With SSH_MSG_DISCONNECT.
    Disconnect {
        /// Reason code.
        reason: u32,
        /// For the peer's terminal or log.
        text: String,
    },
    /// By closing it.
    Close,
    /// By resetting it.
    Reset,
}

impl Farewell {
    /// Ends by our own decision, with this text.
    pub(in crate::ssh) fn because(text: impl Into<String>) -> Self {
        Self::Disconnect { reason: reason::BY_APPLICATION, text: text.into() }
    }
}

impl Link {
    /// Ends the connection: what is pending goes first.
    pub(in crate::ssh) async fn part(mut self, farewell: Farewell) {
        let mut reset = false;
        match farewell {
            Farewell::Disconnect { reason, text } => {
                // Without the message the end is still clean.
                self.transport.disconnect(reason, &TerminalText::new(&text)).ok();
            }
            Farewell::Close => {}
            Farewell::Reset => reset = true,
        }
        while !self.transport.pending().is_empty() {
            if timeout(STALLED, self.write_some()).await.is_err() {
                return;
            }
        }
        if reset {
            self.stream.reset();
            return;
        }
        // Who has left already needs no end of output.
        let shut = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
        if shut.is_ok() {
            timeout(CLOSING, self.discard_to_end()).await.ok();
        }
    }

    /// Writes something, or loses the peer. What comes is read: the peer may not read before it has
    /// written.
    async fn write_some(&mut self) {
        let mut at_end = false;
        poll_fn(|cx| {
            if self.poll_flush(cx) {
                return Poll::Ready(());
            }
            while !at_end {
                match self.poll_discard(cx) {
                    Poll::Pending => break,
                    Poll::Ready(read) => at_end = matches!(read, Ok(0) | Err(_)),
                }
            }
            Poll::Pending
        })
        .await;
    }

    async fn discard_to_end(&mut self) {
        while poll_fn(|cx| self.poll_discard(cx)).await.is_ok_and(|n| n > 0) {}
    }
}
