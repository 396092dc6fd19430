//! SSH wire formats, sans-IO: bytes in, bytes out; no sockets, no clock, no policy.
//!
//! Owns what can be said to an SSH peer before any key exchange: the identification line and the
//! unencrypted DISCONNECT that tells a user why there is no session. Does not own a transport: both
//! SSH sides of a session still run on a protocol library.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod refusal;
pub mod text;
pub mod wire;

/// The software identification that users see: RFC 4253 section 4.2, without the line end.
pub const IDENTIFICATION: &str = "SSH-2.0-portreeve";
