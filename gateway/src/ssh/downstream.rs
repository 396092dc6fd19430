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
use portreeve_core::host_key::DerivedHostKeys;
use portreeve_core::login::{Login, LoginError};
use portreeve_ssh::host_key::HostKeySigner;
use portreeve_ssh::message::reason;
use portreeve_ssh::negotiation::Role;
use portreeve_ssh::text::TerminalText;
use portreeve_ssh::transport::{Config, Event, Transport, TransportError};
use portreeve_ssh::userauth::server::{Asked, ServerAuth};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::fault::ProtocolFault;
use super::link::farewell::Farewell;
use super::link::{Link, PeerEnd};
use super::offers;

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

/// Runs the handshake with the client behind `tcp`, showing `keys`, until the login is known. A client
/// that takes a certificate in place of a key gets one of `certificates`, if there are any.
///
/// `identification` is the line that the client sees, without its line end: that of the target, whose
/// messages it will get.
///
/// # Errors
/// [`DownstreamError`]; the connection is closed then.
pub async fn accept(
    tcp: TcpStream,
    keys: &DerivedHostKeys,
    certificates: Option<&HostCertificates>,
    identification: &[u8],
    limit: Duration,
) -> Result<LoginAttempt, DownstreamError> {
    let host_keys = signers(keys, certificates).map_err(DownstreamError::Protocol)?;
    let mut link = begin(tcp, host_keys, identification).map_err(DownstreamError::Protocol)?;
    let asked = timeout(limit, ask_login(&mut link)).await;
    let error = match asked {
        Ok(Ok(asked)) => {
            let asked = String::from_utf8_lossy(&asked).into_owned();
            return Ok(LoginAttempt { login: Login::new(&asked), asked, link });
        }
        Ok(Err(end)) => DownstreamError::from(end),
        Err(_) => DownstreamError::TimedOut(limit),
    };
    if let Some(farewell) = error.farewell() {
        link.part(farewell).await;
    }
    Err(error)
}

fn signers(
    keys: &DerivedHostKeys,
    certificates: Option<&HostCertificates>,
) -> Result<Vec<HostKeySigner>, ProtocolFault> {
    Ok(vec![
        HostKeySigner::new(&keys.ed25519, certificates.map(|certificates| &certificates.ed25519))?,
        HostKeySigner::new(&keys.p256, certificates.map(|certificates| &certificates.p256))?,
    ])
}

fn begin(
    tcp: TcpStream,
    host_keys: Vec<HostKeySigner>,
    identification: &[u8],
) -> Result<Link, ProtocolFault> {
    let config = Config {
        identification: identification.to_vec(),
        preferences: offers::towards_users(),
        host_keys,
        answer_second: true,
        ..Config::default()
    };
    Ok(Link::new(tcp, Transport::new(Role::Server, config)?)?)
}

/// Answers the client up to its first authentication request; the login is untrusted.
async fn ask_login(link: &mut Link) -> Result<Vec<u8>, PeerEnd> {
    propose(link).await?;
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
