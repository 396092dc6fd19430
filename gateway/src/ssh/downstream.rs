//! The user's side: SSH server, the identity known beforehand.
//!
//! [`accept`] runs the handshake up to the first authentication request and stops there: the login is
//! known, nothing is granted. The owner then either admits the attempt or refuses it with a text for
//! the user. While it makes up its mind the client is not read, so no second request with another name
//! can come between; after the answer none is evaluated any more (RFC 4252 section 5.1). Dropping a
//! value of this module cuts the connection.
//!
//! The method of the request does not matter: the gateway knows who is there. A refusal is
//! SSH_MSG_DISCONNECT in place of an answer, which clients print.

use std::pin::pin;
use std::time::Duration;

use portreeve_core::host_certificate::HostCertificates;
use portreeve_core::login::{Login, LoginError};
use portreeve_ssh::message::reason;
use portreeve_ssh::negotiation::Role;
use portreeve_ssh::text::TerminalText;
use portreeve_ssh::transport::{Config, Event, Transport, TransportError};
use portreeve_ssh::userauth::server::{Asked, ServerAuth};
use thiserror::Error;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};

use super::byte_stream::ByteStream;
use super::fault::ProtocolFault;
use super::link::farewell::Farewell;
use super::link::{Link, PeerEnd};
use super::offers;
use super::shown_keys::ShownKeys;

/// How long the client's proposal is waited for before ours is made without it: a client may itself
/// wait for ours, and a scanner does.
const PROPOSAL_GRACE: Duration = Duration::from_millis(300);

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
    #[error("the gateway and the client have no {kind} in common (the client has {theirs})")]
    NoCommonAlgorithm {
        /// The kind of algorithm and, where it matters, the direction.
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
    link: Link,
}

/// A user who was let in. The relay says so, once it has passed on what the target says before.
pub struct DownstreamSession {
    pub(super) link: Link,
}

/// A client that has proposed algorithms and knows ours; it waits for our host key.
pub struct Greeted {
    link: Link,
}

/// Identifies us to the client behind `stream` and exchanges proposals with it; `with_certificates` says
/// whether host certificates are among what is proposed. The client is not read any further.
///
/// `identification` is the line that the client sees, without its line end: that of the target, whose
/// messages it will get.
///
/// # Errors
/// [`DownstreamError`]; the connection is closed then.
pub async fn greet(
    stream: impl Into<ByteStream>,
    identification: &[u8],
    with_certificates: bool,
    limit: Duration,
) -> Result<Greeted, DownstreamError> {
    let config = Config {
        identification: identification.to_vec(),
        preferences: offers::towards_users(with_certificates),
        answer_second: true,
        ..Config::default()
    };
    let mut link = begin(stream.into(), config).map_err(DownstreamError::Protocol)?;
    let proposed = timeout(limit, propose(&mut link)).await;
    let ((), link) = step_of(link, proposed, limit).await?;
    Ok(Greeted { link })
}

fn begin(stream: ByteStream, config: Config) -> Result<Link, ProtocolFault> {
    Ok(Link::new(stream, Transport::new(Role::Server, config)?)?)
}

impl Greeted {
    /// Runs the rest of the handshake, showing `keys`, until the login is known. A client that takes a
    /// certificate in place of a key gets one of `certificates`, which must be there if they were proposed.
    ///
    /// # Errors
    /// [`DownstreamError`]; the connection is closed then.
    pub async fn ask_login(
        self,
        keys: ShownKeys,
        certificates: Option<&HostCertificates>,
        limit: Duration,
    ) -> Result<LoginAttempt, DownstreamError> {
        let mut link = self.link;
        let signers = keys.signers(certificates).map_err(|error| DownstreamError::Protocol(error.into()))?;
        link.transport.set_host_keys(signers);
        let asked = timeout(limit, ask_login(&mut link)).await;
        let (asked, link) = step_of(link, asked, limit).await?;
        let asked = String::from_utf8_lossy(&asked).into_owned();
        Ok(LoginAttempt { login: Login::new(&asked), asked, link })
    }

    /// Refuses the user, who reads `reason` as with [`LoginAttempt::refuse`].
    pub async fn refuse(self, reason: &str) {
        self.link.part(Farewell::because(reason)).await;
    }
}

/// What came of a step of the handshake; who did not get through it is told why.
async fn step_of<T>(
    link: Link,
    step: Result<Result<T, PeerEnd>, Elapsed>,
    limit: Duration,
) -> Result<(T, Link), DownstreamError> {
    let error = match step {
        Ok(Ok(done)) => return Ok((done, link)),
        Ok(Err(end)) => DownstreamError::from(end),
        Err(_) => DownstreamError::TimedOut(limit),
    };
    if let Some(farewell) = error.farewell() {
        link.part(farewell).await;
    }
    Err(error)
}

/// Answers the client up to its first authentication request; the login is untrusted.
async fn ask_login(link: &mut Link) -> Result<Vec<u8>, PeerEnd> {
    let mut auth = ServerAuth::default();
    loop {
        // A key exchange may come between.
        let Event::Message(range) = link.next_event().await? else { continue };
        match auth.receive(link.transport.payload(range))? {
            Asked::Reply(payload) => link.transport.send(&[&payload])?,
            Asked::Login(login) => return Ok(login),
            Asked::Again => {}
        }
    }
}

/// Proposes algorithms, with the client's own proposal in view if it comes in time.
async fn propose(link: &mut Link) -> Result<(), PeerEnd> {
    let mut grace = pin!(sleep(PROPOSAL_GRACE));
    let event = tokio::select! {
        event = link.next_event() => Some(event?),
        () = &mut grace => None,
    };
    if let Some(ciphers) = event.and_then(|_| link.transport.asked()).and_then(offers::narrowed) {
        link.transport.preferences_mut().ciphers = ciphers;
    }
    Ok(link.transport.propose()?)
}

impl From<PeerEnd> for DownstreamError {
    fn from(end: PeerEnd) -> Self {
        match end {
            PeerEnd::Disconnected { .. } | PeerEnd::Closed | PeerEnd::Reset => Self::Closed,
            PeerEnd::Fault(ProtocolFault::Transport(TransportError::Identification(_))) => Self::NotSsh,
            PeerEnd::Fault(ProtocolFault::Transport(TransportError::Negotiation(missing))) => {
                Self::NoCommonAlgorithm {
                    kind: missing.what,
                    theirs: TerminalText::new(&missing.client).to_string(),
                }
            }
            PeerEnd::Fault(fault) => Self::Protocol(fault),
        }
    }
}

impl DownstreamError {
    /// What the client is told, if it speaks SSH and is still there.
    fn farewell(&self) -> Option<Farewell> {
        let reason = match self {
            Self::Closed | Self::NotSsh => return None,
            Self::TimedOut(_) => reason::BY_APPLICATION,
            Self::NoCommonAlgorithm { .. } => reason::KEY_EXCHANGE_FAILED,
            Self::Protocol(_) => reason::PROTOCOL_ERROR,
        };
        Some(Farewell::Disconnect { reason, text: format!("portreeve: {self}") })
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
        let mut link = self.link;
        link.transport.authenticated();
        DownstreamSession { link }
    }

    /// Refuses the user, who reads `reason` in the terminal as one line of at most 400 bytes.
    ///
    /// Returns when the client has closed the connection, after a few seconds at the latest.
    pub async fn refuse(self, reason: &str) {
        self.link.part(Farewell::because(reason)).await;
    }
}

#[cfg(test)]
mod tests;
