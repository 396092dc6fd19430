//! SSH wire formats, sans-IO: bytes in, bytes out; no sockets, no clock, no policy.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod cipher;
pub mod fips;
#[cfg(any(test, feature = "fuzz-entry"))]
pub mod fuzz_entry;
pub mod host_key;
pub mod kex;
pub mod message;
pub mod negotiation;
pub mod packet;
pub mod refusal;
pub mod relay;
pub mod side;
pub mod text;
pub mod transport;
pub mod userauth;
pub mod wire;

/// Our own identification line: RFC 4253 section 4.2, without the line end.
pub const IDENTIFICATION: &str = "SSH-2.0-portreeve";
