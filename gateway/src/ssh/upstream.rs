//! The target's side: SSH client, log-in by certificate.
//!
//! Two steps, so that nothing is authenticated to a target whose host key nobody judged:
//! [`connect`] exchanges keys and shows the host key, [`Upstream::log_in`] consumes that and
//! authenticates. Dropping either value cuts the connection. The target's own announcements of
//! further host keys are not passed on, its log-in banner comes too late to be.

mod callbacks;

use std::sync::Arc;
use std::time::Duration;

use portreeve_core::login::Login;
use russh::client::{self, AuthResult};
use russh::{Disconnect, SshId};
use ssh_key::{Algorithm, Certificate, PrivateKey, PublicKey};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

pub(super) use self::callbacks::Callbacks;
use self::callbacks::End;
use super::algorithms;
use super::asked::UpstreamOpen;
use super::fault::{HandshakeFault, ProtocolFault};
use super::lifeline::{self, Lifeline};
use super::user_text::one_line;

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
    #[error("the target offers no {kind} algorithm that the gateway accepts (it has {theirs})")]
    NoCommonAlgorithm {
        /// The kind of algorithm.
        kind: &'static str,
        /// What the target offers, separated by commas.
        theirs: String,
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
         (TrustedUserCAKeys), and {login} must exist and be a principal it accepts"
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

/// A target whose host key is proven and not yet judged.
pub struct Upstream {
    handle: client::Handle<Callbacks>,
    host_key: PublicKey,
    link: Link,
}

/// A target that has let the gateway in.
pub struct UpstreamSession {
    pub(super) handle: Arc<client::Handle<Callbacks>>,
    link: Link,
}

/// What comes from a target, and what keeps it connected.
struct Link {
    opens: mpsc::Receiver<UpstreamOpen>,
    end: watch::Receiver<End>,
    _lifeline: Lifeline,
}

/// What a target does of its own accord.
pub(super) enum UpstreamEvent {
    /// It opens a channel.
    Open(UpstreamOpen),
    /// It has ended the connection, with this text if it gave one.
    Ended(Option<String>),
}

/// Exchanges versions and keys with the target behind `tcp`; `preferred` is the algorithm of the
/// pinned host key.
///
/// # Errors
/// [`UpstreamError`]; the connection is closed then.
pub async fn connect(
    tcp: TcpStream,
    preferred: Option<&Algorithm>,
    limit: Duration,
) -> Result<Upstream, UpstreamError> {
    let (stream, lifeline) =
        lifeline::tie(tcp).map_err(|error| UpstreamError::Protocol(russh::Error::from(error).into()))?;
    let (host_key_sender, mut host_key) = oneshot::channel();
    let (opens_sender, opens) = mpsc::channel(16);
    let (end_sender, end) = watch::channel(End::default());
    let callbacks = Callbacks::new(host_key_sender, opens_sender, end_sender);
    let connecting = client::connect_stream(Arc::new(config(preferred)), stream, callbacks);
    let handle = match timeout(limit, connecting).await {
        Err(_) => return Err(UpstreamError::TimedOut(limit)),
        Ok(Err(error)) => return Err(handshake_error(error, &end)),
        Ok(Ok(handle)) => handle,
    };
    let Ok(host_key) = host_key.try_recv() else {
        return Err(UpstreamError::Closed { text: end.borrow().text() });
    };
    Ok(Upstream { handle, host_key, link: Link { opens, end, _lifeline: lifeline } })
}

fn config(preferred: Option<&Algorithm>) -> client::Config {
    client::Config {
        client_id: SshId::Standard("SSH-2.0-portreeve".into()),
        window_size: algorithms::WINDOW,
        maximum_packet_size: algorithms::PACKET,
        channel_buffer_size: algorithms::CHANNEL_QUEUE,
        preferred: algorithms::towards_targets(preferred),
        ..client::Config::default()
    }
}

fn handshake_error(error: russh::Error, end: &watch::Receiver<End>) -> UpstreamError {
    match HandshakeFault::from(error) {
        HandshakeFault::Closed => UpstreamError::Closed { text: end.borrow().text() },
        HandshakeFault::NotSsh => UpstreamError::NotSsh,
        HandshakeFault::NoCommonAlgorithm { kind, theirs } => {
            UpstreamError::NoCommonAlgorithm { kind, theirs: one_line(&theirs) }
        }
        HandshakeFault::Protocol(fault) => UpstreamError::Protocol(fault),
    }
}

impl Upstream {
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
        let Self { mut handle, link, .. } = self;
        let trying = handle.authenticate_openssh_cert(login.as_str(), Arc::new(key), certificate);
        match timeout(limit, trying).await {
            Err(_) => Err(LogInError::TimedOut(limit)),
            Ok(Ok(AuthResult::Success)) => Ok(UpstreamSession { handle: Arc::new(handle), link }),
            Ok(Ok(AuthResult::Failure { partial_success: true, .. })) => {
                Err(LogInError::FurtherAuthentication { login: login.clone() })
            }
            Ok(Ok(AuthResult::Failure { partial_success: false, .. })) => Err(link.refusal(login)),
            Ok(Err(russh::Error::SendError | russh::Error::RecvError)) => {
                Err(LogInError::Disconnected { text: link.end.borrow().text() })
            }
            Ok(Err(error)) => Err(LogInError::Protocol(error.into())),
        }
    }
}

impl Link {
    /// russh reports a refusal and a lost connection alike; how the connection ended tells them apart.
    fn refusal(&self, login: &Login) -> LogInError {
        match &*self.end.borrow() {
            End::Running | End::NoMethodLeft => LogInError::Refused { login: login.clone() },
            lost @ (End::Disconnected { .. } | End::Lost) => LogInError::Disconnected { text: lost.text() },
        }
    }
}

impl UpstreamSession {
    /// The next thing that the target does of its own accord.
    pub(super) async fn next_event(&mut self) -> UpstreamEvent {
        let Link { opens, end, .. } = &mut self.link;
        tokio::select! {
            biased;
            Some(open) = opens.recv() => UpstreamEvent::Open(open),
            ended = end.wait_for(|end| !matches!(end, End::Running)) => {
                UpstreamEvent::Ended(ended.ok().and_then(|end| end.text()))
            }
        }
    }

    /// Tells the target that the gateway leaves.
    pub(super) async fn disconnect(&self) {
        // An error means that the target has left first.
        self.handle.disconnect(Disconnect::ByApplication, "", "").await.ok();
    }
}
