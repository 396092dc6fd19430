//! The user's side: SSH server, authentication method `none`.
//!
//! [`accept`] runs the handshake up to the first request of method `none` and stops there: the login
//! is known, nothing is granted. The owner then either admits the attempt or refuses it with a text
//! for the user. While it makes up its mind the client is not read, so no second request with another
//! name can come between; after the answer none is evaluated any more (RFC 4252 section 5.1).
//! Dropping a value of this module cuts the connection.
//!
//! A refusal lets the authentication succeed and then disconnects, since OpenSSH shows a text only
//! then; in between, everything that the client asks for is refused.

mod callbacks;

use std::sync::Arc;
use std::time::Duration;

use portreeve_core::host_key::DerivedHostKeys;
use portreeve_core::login::{Login, LoginError};
use russh::server::{self, RunningSession};
use russh::{Disconnect, MethodKind, MethodSet, SshId};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use self::callbacks::{Callbacks, Verdict};
use super::algorithms;
use super::asked::DownstreamEvent;
use super::fault::{HandshakeFault, ProtocolFault};
use super::lifeline::{self, Lifeline};
use super::user_text::one_line;

/// How long a refused client may take to ask for its first channel, the moment at which it is told.
const REFUSAL_DELAY: Duration = Duration::from_secs(1);

/// How long a client may take to close after it was told to; a revoked session ends within 2 s.
const CLOSING: Duration = Duration::from_millis(1400);

/// Why no login attempt came out of a connection.
#[derive(Debug, Error)]
pub enum DownstreamError {
    /// The client took too long.
    #[error("the client did not ask for a login in {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The client hung up, for instance because its user did not accept the host key.
    #[error("the client closed the connection before it asked for a login")]
    Closed,
    /// The client speaks something else.
    #[error("the client does not speak SSH")]
    NotSsh,
    /// No algorithm in common.
    #[error("the client offers no {kind} algorithm that the gateway accepts (it has {theirs})")]
    NoCommonAlgorithm {
        /// The kind of algorithm.
        kind: &'static str,
        /// What the client offers, separated by commas.
        theirs: String,
    },
    /// The handshake failed otherwise.
    #[error("the SSH handshake with the client failed")]
    Protocol(#[source] ProtocolFault),
}

/// A user who waits to be let in.
pub struct LoginAttempt {
    asked: String,
    login: Result<Login, LoginError>,
    verdict: oneshot::Sender<Verdict>,
    session: DownstreamSession,
}

/// A user who was let in.
pub struct DownstreamSession {
    pub(super) handle: server::Handle,
    events: mpsc::Receiver<DownstreamEvent>,
    running: RunningSession<Callbacks>,
    over: bool,
    _lifeline: Lifeline,
}

/// Runs the handshake with the client behind `tcp`, showing `keys`, until the login is known.
///
/// # Errors
/// [`DownstreamError`]; the connection is closed then.
pub async fn accept(
    tcp: TcpStream,
    keys: DerivedHostKeys,
    limit: Duration,
) -> Result<LoginAttempt, DownstreamError> {
    timeout(limit, handshake(tcp, keys)).await.unwrap_or(Err(DownstreamError::TimedOut(limit)))
}

async fn handshake(tcp: TcpStream, keys: DerivedHostKeys) -> Result<LoginAttempt, DownstreamError> {
    let (stream, lifeline) =
        lifeline::tie(tcp).map_err(|error| DownstreamError::Protocol(russh::Error::from(error).into()))?;
    let (asked_sender, asked) = oneshot::channel();
    let (verdict, verdict_receiver) = oneshot::channel();
    let (events_sender, events) = mpsc::channel(16);
    let callbacks = Callbacks::new(asked_sender, verdict_receiver, events_sender);
    let mut running =
        server::run_stream(Arc::new(config(keys)), stream, callbacks).await.map_err(handshake_error)?;
    let asked = tokio::select! {
        biased;
        Ok(asked) = asked => asked,
        ended = &mut running => {
            return Err(ended.map_or_else(handshake_error, |()| DownstreamError::Closed));
        }
    };
    let session =
        DownstreamSession { handle: running.handle(), events, running, over: false, _lifeline: lifeline };
    Ok(LoginAttempt { login: Login::new(&asked), asked, verdict, session })
}

fn config(keys: DerivedHostKeys) -> server::Config {
    server::Config {
        server_id: SshId::Standard("SSH-2.0-portreeve".into()),
        methods: MethodSet::from([MethodKind::None].as_slice()),
        // Any user name gets the same answer, so there is no time to hide.
        auth_rejection_time: Duration::ZERO,
        keys: vec![keys.ed25519, keys.p256],
        window_size: algorithms::WINDOW,
        maximum_packet_size: algorithms::PACKET,
        channel_buffer_size: algorithms::CHANNEL_QUEUE,
        event_buffer_size: 64,
        preferred: algorithms::towards_users(),
        inactivity_timeout: None,
        ..server::Config::default()
    }
}

fn handshake_error(error: russh::Error) -> DownstreamError {
    match HandshakeFault::from(error) {
        HandshakeFault::Closed => DownstreamError::Closed,
        HandshakeFault::NotSsh => DownstreamError::NotSsh,
        HandshakeFault::NoCommonAlgorithm { kind, theirs } => {
            DownstreamError::NoCommonAlgorithm { kind, theirs: one_line(&theirs) }
        }
        HandshakeFault::Protocol(fault) => DownstreamError::Protocol(fault),
    }
}

impl LoginAttempt {
    /// The login that was asked for; none if the text is no login, which leaves only to refuse.
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref().ok()
    }

    /// The login as the client sent it, for the access log; untrusted text of any length.
    pub fn login_text(&self) -> &str {
        &self.asked
    }

    /// Why the text is no login.
    pub fn login_error(&self) -> Option<LoginError> {
        self.login.as_ref().err().copied()
    }

    /// Lets the user in.
    pub fn admit(self) -> DownstreamSession {
        // An error means that the client has left; the relay will see that.
        self.verdict.send(Verdict::Admit).ok();
        self.session
    }

    /// Refuses the user, who reads `reason` in the terminal as one line of at most 400 bytes.
    ///
    /// Returns when the client has closed the connection, after a few seconds at the latest.
    pub async fn refuse(self, reason: &str) {
        let reason = one_line(reason);
        let mut session = self.session;
        if self.verdict.send(Verdict::Refuse(reason.clone())).is_err() {
            return;
        }
        // The callbacks disconnect at the first thing the client asks for; a client that asks for
        // nothing (`ssh -N`) is told here.
        if timeout(REFUSAL_DELAY, session.ended()).await.is_err() {
            session.disconnect(&reason).await;
        }
    }
}

impl DownstreamSession {
    /// The next thing asked for outside of channels; `None` when the connection is over.
    pub(super) async fn next_event(&mut self) -> Option<DownstreamEvent> {
        if self.over {
            return None;
        }
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => Some(event),
            _polite_or_not = &mut self.running => {
                self.over = true;
                None
            }
        }
    }

    /// Resolves when the connection is over.
    async fn ended(&mut self) {
        if !self.over {
            // Whether the client left politely makes no difference to what follows.
            (&mut self.running).await.ok();
            self.over = true;
        }
    }

    /// Tells the user `reason` and waits, at most a few seconds, until the client has closed: data in
    /// flight is read until then, as a reset would discard the text.
    pub(super) async fn disconnect(&mut self, reason: &str) {
        let handle = self.handle.clone();
        let closing = async {
            let told = handle.disconnect(Disconnect::ByApplication, one_line(reason), String::new());
            if told.await.is_ok() {
                self.ended().await;
            }
        };
        // What has not closed by then is cut when the session is dropped.
        timeout(CLOSING, closing).await.ok();
    }
}
