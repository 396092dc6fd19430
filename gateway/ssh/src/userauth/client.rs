//! The client role: logs in with a certificate (RFC 4252 section 7, OpenSSH's PROTOCOL.certkeys).

use ssh_key::Certificate;
use thiserror::Error;

use super::{CONNECTION, USERAUTH};
use crate::host_key::{HostKeyError, HostKeySigner};
use crate::message;
use crate::negotiation::HostKeyAlgorithm;
use crate::wire::{PayloadTooLong, Reader, WireError, put_boolean, put_string};

/// Most bytes of banners that are kept; OpenSSH servers send one.
const MAX_BANNERS: usize = 16 * 1024;
/// Most bytes of a server's list of methods that an error shows.
const MAX_METHODS: usize = 200;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Send this.
    Send(Vec<u8>),
    /// A banner to show to the user.
    Banner(Vec<u8>),
    /// The login is accepted.
    LoggedIn,
}

/// Why the log-in failed.
#[derive(Debug, Error)]
pub enum ClientAuthError {
    /// A malformed message.
    #[error("the target sent a malformed authentication message")]
    Wire(#[from] WireError),
    /// The certificate was not accepted.
    #[error("the target does not accept the certificate (it offers: {methods})")]
    Refused {
        /// Methods that the server would accept instead.
        methods: String,
        /// It accepted the certificate, and wants another method too.
        partial: bool,
    },
    /// A message that is not allowed now.
    #[error("the target sent message {0} during authentication")]
    Unexpected(u8),
    /// Too many banners.
    #[error("the target sent too many banners")]
    Banners,
    /// The request cannot be signed.
    #[error(transparent)]
    Sign(#[from] HostKeyError),
    /// The certificate cannot be encoded.
    #[error("the certificate cannot be encoded")]
    Certificate(#[from] ssh_key::Error),
    /// The request does not fit a packet.
    #[error(transparent)]
    TooLong(#[from] PayloadTooLong),
}

/// The client role before it is logged in.
pub struct ClientAuth<'a> {
    login: &'a str,
    signer: &'a HostKeySigner,
    certificate: &'a Certificate,
    session_id: &'a [u8],
    state: State,
    banner_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    ServiceRequested,
    KeyOffered,
}

impl<'a> ClientAuth<'a> {
    /// Starts; the payload asks for the authentication service.
    ///
    /// # Errors
    /// [`ClientAuthError::TooLong`].
    pub fn start(
        login: &'a str,
        signer: &'a HostKeySigner,
        certificate: &'a Certificate,
        session_id: &'a [u8],
    ) -> Result<(Self, Vec<u8>), ClientAuthError> {
        let mut payload = vec![message::SERVICE_REQUEST];
        put_string(&mut payload, USERAUTH)?;
        let state = State::ServiceRequested;
        Ok((Self { login, signer, certificate, session_id, state, banner_bytes: 0 }, payload))
    }

    /// Takes one message.
    ///
    /// # Errors
    /// [`ClientAuthError`]; the connection must end then.
    pub fn receive(&mut self, payload: &[u8]) -> Result<Answer, ClientAuthError> {
        let mut reader = Reader::new(payload);
        match (reader.u8()?, self.state) {
            (message::SERVICE_ACCEPT, State::ServiceRequested) => {
                self.state = State::KeyOffered;
                Ok(Answer::Send(self.signed_request()?))
            }
            (message::USERAUTH_SUCCESS, State::KeyOffered) => Ok(Answer::LoggedIn),
            (message::USERAUTH_FAILURE, State::KeyOffered) => {
                let methods =
                    reader.string()?.iter().filter(|byte| byte.is_ascii_graphic()).take(MAX_METHODS);
                let methods = methods.copied().map(char::from).collect();
                Err(ClientAuthError::Refused { methods, partial: reader.boolean()? })
            }
            (message::USERAUTH_BANNER, _) => {
                let banner = reader.string()?;
                self.banner_bytes += banner.len();
                if self.banner_bytes > MAX_BANNERS {
                    return Err(ClientAuthError::Banners);
                }
                Ok(Answer::Banner(banner.to_vec()))
            }
            (other, _) => Err(ClientAuthError::Unexpected(other)),
        }
    }

    /// The publickey request and its signature over session id and request.
    fn signed_request(&self) -> Result<Vec<u8>, ClientAuthError> {
        let algorithm = self.signer.algorithms().first().copied().unwrap_or(HostKeyAlgorithm::Ed25519);
        let mut request = vec![message::USERAUTH_REQUEST];
        put_string(&mut request, self.login.as_bytes())?;
        put_string(&mut request, CONNECTION)?;
        put_string(&mut request, b"publickey")?;
        put_boolean(&mut request, true);
        put_string(&mut request, self.certificate.algorithm().to_certificate_type().as_bytes())?;
        put_string(&mut request, &self.certificate.to_bytes()?)?;
        let mut signed = Vec::new();
        put_string(&mut signed, self.session_id)?;
        signed.extend_from_slice(&request);
        put_string(&mut request, &self.signer.sign(algorithm, &signed)?)?;
        Ok(request)
    }
}
