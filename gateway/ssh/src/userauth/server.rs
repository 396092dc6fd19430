//! The server role: which login does the user ask for?
//!
//! The user is known by other means, so the first authentication request decides, whatever its
//! method. Invariant: one user name per connection; a request with another one ends it.

use thiserror::Error;

use super::{CONNECTION, USERAUTH};
use crate::message;
use crate::wire::{PayloadTooLong, Reader, WireError, put_string};

/// Requests that are answered with a failure before the connection ends.
const MAX_REQUESTS: u32 = 20;

/// What the peer of the server role did.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// It asked for the authentication service; send this.
    Reply(Vec<u8>),
    /// It asked for this login, for the first time.
    Login(Vec<u8>),
    /// It asked again while the first request waits for its decision.
    Again,
}

/// Why authentication cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// A malformed message.
    #[error("the user's side sent a malformed authentication message: {0}")]
    Wire(#[from] WireError),
    /// Another service than authentication and connection.
    #[error("the user's side asked for a service that SSH does not have")]
    Service,
    /// Another user name than before.
    #[error("the user's side changed its user name during authentication")]
    NameChanged,
    /// Too many requests.
    #[error("the user's side sent too many authentication requests")]
    TooMany,
    /// A message of another protocol before authentication.
    #[error("the user's side sent message {0} before it was authenticated")]
    Unexpected(u8),
    /// A reply that does not fit a packet.
    #[error(transparent)]
    TooLong(#[from] PayloadTooLong),
}

/// The server role before the user is let in.
#[derive(Debug, Default)]
pub struct ServerAuth {
    service_accepted: bool,
    login: Option<Vec<u8>>,
    requests: u32,
}

impl ServerAuth {
    /// Takes one message.
    ///
    /// # Errors
    /// [`AuthError`]; the connection must end then.
    pub fn receive(&mut self, payload: &[u8]) -> Result<Asked, AuthError> {
        let mut reader = Reader::new(payload);
        match reader.u8()? {
            message::SERVICE_REQUEST if !self.service_accepted => {
                if reader.string()? != USERAUTH {
                    return Err(AuthError::Service);
                }
                self.service_accepted = true;
                let mut reply = vec![message::SERVICE_ACCEPT];
                put_string(&mut reply, USERAUTH)?;
                Ok(Asked::Reply(reply))
            }
            message::USERAUTH_REQUEST if self.service_accepted => self.request(reader),
            other => Err(AuthError::Unexpected(other)),
        }
    }

    fn request(&mut self, mut reader: Reader<'_>) -> Result<Asked, AuthError> {
        let login = reader.string()?;
        if reader.string()? != CONNECTION {
            return Err(AuthError::Service);
        }
        reader.string()?;
        self.requests += 1;
        if self.requests > MAX_REQUESTS {
            return Err(AuthError::TooMany);
        }
        match &self.login {
            None => {
                self.login = Some(login.to_vec());
                Ok(Asked::Login(login.to_vec()))
            }
            Some(first) if first == login => Ok(Asked::Again),
            Some(_) => Err(AuthError::NameChanged),
        }
    }
}

/// USERAUTH_SUCCESS.
pub const SUCCESS: &[u8] = &[message::USERAUTH_SUCCESS];

/// USERAUTH_BANNER (RFC 4252 section 5.4).
///
/// # Errors
/// [`PayloadTooLong`].
pub fn banner(text: &[u8]) -> Result<Vec<u8>, PayloadTooLong> {
    let mut payload = vec![message::USERAUTH_BANNER];
    put_string(&mut payload, text)?;
    put_string(&mut payload, b"")?;
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(login: &[u8], service: &[u8], method: &[u8]) -> Vec<u8> {
        let mut payload = vec![message::USERAUTH_REQUEST];
        for field in [login, service, method] {
            put_string(&mut payload, field).unwrap();
        }
        payload
    }

    fn with_service() -> ServerAuth {
        let mut auth = ServerAuth::default();
        let mut payload = vec![message::SERVICE_REQUEST];
        put_string(&mut payload, USERAUTH).unwrap();
        assert!(matches!(auth.receive(&payload), Ok(Asked::Reply(_))));
        auth
    }

    #[test]
    fn the_first_request_names_the_login_whatever_its_method() {
        for method in [&b"none"[..], b"publickey", b"password"] {
            let asked = with_service().receive(&request(b"alice", CONNECTION, method));
            assert_eq!(asked, Ok(Asked::Login(b"alice".to_vec())));
        }
    }

    #[test]
    fn a_user_name_that_changes_ends_the_connection() {
        let mut auth = with_service();
        auth.receive(&request(b"alice", CONNECTION, b"none")).unwrap();
        assert_eq!(auth.receive(&request(b"alice", CONNECTION, b"none")), Ok(Asked::Again));
        assert_eq!(auth.receive(&request(b"root", CONNECTION, b"none")), Err(AuthError::NameChanged));
    }

    #[test]
    fn what_is_out_of_order_is_refused() {
        let early = ServerAuth::default().receive(&request(b"alice", CONNECTION, b"none"));
        assert_eq!(early, Err(AuthError::Unexpected(message::USERAUTH_REQUEST)));
        assert_eq!(with_service().receive(&[message::CHANNEL_OPEN]), Err(AuthError::Unexpected(90)));
        let service = with_service().receive(&request(b"alice", b"other", b"none"));
        assert_eq!(service, Err(AuthError::Service));
    }

    #[test]
    fn requests_are_bounded() {
        let mut auth = with_service();
        let asked: Vec<_> =
            (0..=MAX_REQUESTS).map(|_| auth.receive(&request(b"alice", CONNECTION, b"none"))).collect();
        assert_eq!(asked.last(), Some(&Err(AuthError::TooMany)));
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(payload in proptest::collection::vec(any::<u8>(), 0..80), accepted in any::<bool>()) {
            let mut auth = if accepted { with_service() } else { ServerAuth::default() };
            if let Ok(asked) = auth.receive(&payload) {
                prop_assert_eq!(accepted, !matches!(asked, Asked::Reply(_)));
            }
        }
    }
}
