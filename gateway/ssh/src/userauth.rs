//! Authentication (RFC 4252), both roles, as states over messages.
//!
//! [`server`] learns which login a user asks for and leaves the decision to the caller; [`client`]
//! logs in with a certificate. Neither sends anything by itself: both return payloads.

pub mod client;
pub mod server;

/// The service that authentication is (RFC 4252 section 4).
const USERAUTH: &[u8] = b"ssh-userauth";
/// The service that authentication leads to (RFC 4254).
const CONNECTION: &[u8] = b"ssh-connection";
