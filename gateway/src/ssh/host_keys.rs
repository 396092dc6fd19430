//! Learning which further host keys a target has, while its session runs.
//!
//! A target announces all its host keys after the log-in (`hostkeys-00@openssh.com`); those that are not
//! known are asked for proof, once in a session. Owns the way from announcement to proof; what the keys
//! are good for is decided by who waits for them.

use portreeve_ssh::host_key::announced::UnprovenKeys;
use portreeve_ssh::relay::{GlobalRequest, Seen, Side};
use ssh_key::PublicKey;
use tokio::sync::oneshot;

/// Waits for the announcement, then for the proof.
#[derive(Debug, Default)]
pub(super) enum HostKeyLearner {
    /// Nothing was announced yet.
    Listening(Listening),
    /// The request for proof is sent.
    Asked(Listening, UnprovenKeys),
    /// Nobody wants to know.
    #[default]
    Done,
}

#[derive(Debug)]
pub(super) struct Listening {
    session_id: Vec<u8>,
    known: Vec<PublicKey>,
    proven: oneshot::Sender<Vec<PublicKey>>,
}

impl HostKeyLearner {
    /// Learns keys beside those that are known. The other end hears of those that are proven; nothing if
    /// there are none.
    pub(super) fn new(session_id: &[u8], known: Vec<PublicKey>) -> (Self, oneshot::Receiver<Vec<PublicKey>>) {
        let (proven, receiver) = oneshot::channel();
        (Self::Listening(Listening { session_id: session_id.to_vec(), known, proven }), receiver)
    }

    /// Sees a message of `from`; the request for proof, where that is due now.
    pub(super) fn see(&mut self, from: Side, seen: &Seen<'_>) -> Option<Vec<u8>> {
        if let Seen::Global(GlobalRequest::HostKeys { keys }) = seen
            && from == Side::Upstream
        {
            return self.announced(keys);
        }
        if let Seen::OwnReply { content } = seen {
            self.answered(*content);
        }
        None
    }

    /// Only the first announcement of a session counts.
    fn announced(&mut self, content: &[u8]) -> Option<Vec<u8>> {
        match std::mem::take(self) {
            Self::Listening(listening) => {
                let keys = UnprovenKeys::announced(content, &listening.known).ok()??;
                let request = keys.request().ok()?;
                *self = Self::Asked(listening, keys);
                Some(request)
            }
            other @ (Self::Asked(..) | Self::Done) => {
                *self = other;
                None
            }
        }
    }

    /// The target's reply to the request; `content` is none for a failure.
    fn answered(&mut self, content: Option<&[u8]>) {
        if let Self::Asked(listening, keys) = std::mem::take(self)
            && let Some(content) = content
        {
            let proven = keys.proven(&listening.session_id, content);
            if !proven.is_empty() {
                // Who does not wait any more does not want to know.
                listening.proven.send(proven).ok();
            }
        }
    }
}
