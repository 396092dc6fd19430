//! The target's side: SSH client, log-in by certificate.
//!
//! Two steps, so that nothing is authenticated to a target whose host key nobody judged:
//! [`connect`] exchanges keys and shows the host key, [`Upstream::log_in`] consumes that and
//! authenticates. Dropping either value cuts the connection. The target's log-in banners are passed on
//! before the user is let in; its announcement of further host keys is not, but can be learnt from.

use std::time::Duration;

use portreeve_core::login::Login;
use portreeve_ssh::host_key::HostKeySigner;
use portreeve_ssh::negotiation::{Negotiated, Role};
use portreeve_ssh::text::TerminalText;
use portreeve_ssh::transport::{Config, Event, Transport, TransportError};
use portreeve_ssh::userauth::client::{Answer, ClientAuth, ClientAuthError};
use ssh_key::{Algorithm, Certificate, PrivateKey, PublicKey};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::fault::ProtocolFault;
use super::host_keys::HostKeyLearner;
use super::link::{Link, PeerEnd};
use super::offers;

/// How targets know us. OpenSSH sends `eow@openssh.com` and other extensions only to peers whose software
/// begins with `OpenSSH` (its compat.c), and what it sends is the user's client's to understand.
const IDENTIFICATION: &[u8] = b"SSH-2.0-OpenSSH_portreeve";

/// Why no SSH connection to a target came up; each text can be shown to the user.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// The handshake took too long.
    #[error("the target did not finish the SSH handshake in {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The target hung up.
    #[error("the target closed the connection during the SSH handshake{}", quoted(.text.as_deref()))]
    Closed {
        /// What it said, if anything.
        text: Option<String>,
    },
    /// Something else than an SSH server answers.
    #[error("what answers at the target's port is no SSH server")]
    NotSsh,
    /// No algorithm in common.
    #[error("the gateway and the target have no {kind} in common{} (the target has {theirs})", advice(*.legacy))]
    NoCommonAlgorithm {
        /// The kind of algorithm and, where it matters, the direction.
        kind: &'static str,
        /// What the target offers, separated by commas.
        theirs: String,
        /// The target offers what a legacy profile would open.
        legacy: bool,
    },
    /// The handshake failed otherwise.
    #[error("the SSH handshake with the target failed")]
    Protocol(#[source] ProtocolFault),
}

/// Why a target did not let the gateway in; each text can be shown to the user.
#[derive(Debug, Error)]
pub enum LogInError {
    /// The target does not accept the certificate.
    #[error(
        "the target refused the gateway's certificate for {login}: its sshd must trust the gateway's CA \
         (TrustedUserCAKeys), {login} must exist and be a principal it accepts, and the clocks of both must be right to \
         a minute"
    )]
    Refused {
        /// The login that was tried.
        login: Login,
    },
    /// The certificate is not enough for the target.
    #[error("the target asks for a second authentication step for {login}, which the gateway cannot give")]
    FurtherAuthentication {
        /// The login that was tried.
        login: Login,
    },
    /// The target hung up.
    #[error("the target closed the connection during authentication{}", quoted(.text.as_deref()))]
    Disconnected {
        /// What it said, if anything.
        text: Option<String>,
    },
    /// The target took too long.
    #[error("the target did not answer the log-in in {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The log-in failed otherwise.
    #[error("the log-in to the target failed")]
    Protocol(#[source] ProtocolFault),
}

fn quoted(text: Option<&str>) -> String {
    text.map(|text| format!(" (\"{text}\")")).unwrap_or_default()
}

/// Ahead of the target's list, as a long text is cut.
const fn advice(legacy: bool) -> &'static str {
    if legacy { "; the policy can open old ones for this target with `legacy = true`" } else { "" }
}

/// A target whose host key is proven and not yet judged.
pub struct Upstream {
    link: Link,
    host_key: PublicKey,
}

/// A target that has let the gateway in.
pub struct UpstreamSession {
    pub(super) link: Link,
    /// What the target wants users to read before they are let in (RFC 4252 section 5.4).
    pub(super) banners: Vec<Vec<u8>>,
    pub(super) learner: HostKeyLearner,
}

impl UpstreamSession {
    /// Has the target prove, while the session runs, what host keys it has beside those that are known.
    /// Yields the keys that it proves; an error when it announces no others, proves none, or the session
    /// ends before.
    pub fn learn_host_keys(&mut self, known: Vec<PublicKey>) -> oneshot::Receiver<Vec<PublicKey>> {
        let (learner, proven) = HostKeyLearner::new(self.link.transport.session_id(), known);
        self.learner = learner;
        proven
    }
}

/// A target that has said what it is; keys are being exchanged.
pub struct Identified {
    link: Link,
}

/// Exchanges identification lines with the target behind `tcp`, and proposes algorithms; `preferred` are
/// those of the pinned host keys, to be asked for first; `legacy` is whether old ones are offered too.
///
/// # Errors
/// [`UpstreamError`]; the connection is closed then.
pub async fn connect(
    tcp: TcpStream,
    preferred: &[Algorithm],
    legacy: bool,
    limit: Duration,
) -> Result<Identified, UpstreamError> {
    let config = Config {
        identification: IDENTIFICATION.into(),
        preferences: offers::towards_targets(preferred, legacy),
        ..Config::default()
    };
    within(limit, identify(tcp, config)).await
}

async fn identify(tcp: TcpStream, config: Config) -> Result<Identified, PeerEnd> {
    let mut link = Link::new(tcp, Transport::new(Role::Client, config)?)?;
    link.identified().await?;
    Ok(Identified { link })
}

impl Identified {
    /// The target's identification line, without its line end.
    pub fn identification(&self) -> &[u8] {
        self.link.transport.peer_identification().unwrap_or_default()
    }

    /// Waits for the end of the key exchange, and with it for the target's host key.
    ///
    /// # Errors
    /// [`UpstreamError`]; the connection is closed then.
    pub async fn exchange_keys(self, limit: Duration) -> Result<Upstream, UpstreamError> {
        within(limit, learn_host_key(self.link)).await
    }
}

async fn learn_host_key(mut link: Link) -> Result<Upstream, PeerEnd> {
    match link.next_event().await? {
        Event::KeysExchanged { host_key: Some(host_key) } => Ok(Upstream { link, host_key: host_key.key() }),
        Event::KeysExchanged { host_key: None }
        | Event::Proposed
        | Event::Message(_)
        | Event::Disconnected { .. } => Err(ProtocolFault::NoHostKey.into()),
    }
}

async fn within<T>(
    limit: Duration,
    step: impl Future<Output = Result<T, PeerEnd>>,
) -> Result<T, UpstreamError> {
    match timeout(limit, step).await {
        Err(_) => Err(UpstreamError::TimedOut(limit)),
        Ok(done) => done.map_err(UpstreamError::from),
    }
}

impl From<PeerEnd> for UpstreamError {
    fn from(end: PeerEnd) -> Self {
        match end {
            PeerEnd::Disconnected { text, .. } => Self::Closed { text: shown(&text) },
            PeerEnd::Closed | PeerEnd::Reset => Self::Closed { text: None },
            PeerEnd::Fault(ProtocolFault::Transport(TransportError::Identification(_))) => Self::NotSsh,
            PeerEnd::Fault(ProtocolFault::Transport(TransportError::Negotiation(missing))) => {
                let theirs = TerminalText::new(&missing.server).to_string();
                Self::NoCommonAlgorithm { kind: missing.what, theirs, legacy: missing.legacy }
            }
            PeerEnd::Fault(fault) => Self::Protocol(fault),
        }
    }
}

/// What a peer said, as it can be shown; `None` when it said nothing.
fn shown(text: &[u8]) -> Option<String> {
    Some(TerminalText::from_peer(text).to_string()).filter(|text| !text.is_empty())
}

impl Upstream {
    /// Names of the algorithms in use that only a legacy profile offers, each once.
    pub fn legacy_algorithms(&self) -> Vec<&'static str> {
        self.link.transport.negotiated().map(Negotiated::legacy_names).unwrap_or_default()
    }

    /// The host key that the target has proven to own.
    pub fn host_key(&self) -> &PublicKey {
        &self.host_key
    }

    /// Logs in with a certificate over `key`; call only after the host key was judged.
    ///
    /// # Errors
    /// [`LogInError`]; the connection is closed then.
    pub async fn log_in(
        self,
        login: &Login,
        key: PrivateKey,
        certificate: Certificate,
        limit: Duration,
    ) -> Result<UpstreamSession, LogInError> {
        match timeout(limit, self.authenticate(login, &key, &certificate)).await {
            Err(_) => Err(LogInError::TimedOut(limit)),
            Ok(authenticated) => authenticated.map_err(|end| LogInError::new(login, end)),
        }
    }

    async fn authenticate(
        self,
        login: &Login,
        key: &PrivateKey,
        certificate: &Certificate,
    ) -> Result<UpstreamSession, PeerEnd> {
        let Self { mut link, .. } = self;
        let signer = HostKeySigner::new(key, Some(certificate))?;
        let session_id = link.transport.session_id().to_vec();
        let (mut auth, request) = ClientAuth::start(login.as_str(), &signer, certificate, &session_id)?;
        link.transport.send(&[&request])?;
        let mut banners = Vec::new();
        loop {
            // A key exchange may come between.
            let Event::Message(range) = link.next_event().await? else { continue };
            match auth.receive(link.transport.payload(range))? {
                Answer::Send(payload) => link.transport.send(&[&payload])?,
                Answer::Banner(text) => banners.push(text),
                Answer::LoggedIn => break,
            }
        }
        link.transport.authenticated();
        Ok(UpstreamSession { link, banners, learner: HostKeyLearner::default() })
    }
}

impl LogInError {
    fn new(login: &Login, end: PeerEnd) -> Self {
        let login = login.clone();
        match end {
            PeerEnd::Disconnected { text, .. } => Self::Disconnected { text: shown(&text) },
            PeerEnd::Closed | PeerEnd::Reset => Self::Disconnected { text: None },
            PeerEnd::Fault(ProtocolFault::ClientAuth(ClientAuthError::Refused { partial, .. })) => {
                if partial { Self::FurtherAuthentication { login } } else { Self::Refused { login } }
            }
            PeerEnd::Fault(fault) => Self::Protocol(fault),
        }
    }
}

#[cfg(test)]
mod tests;
