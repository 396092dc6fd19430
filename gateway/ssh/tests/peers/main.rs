//! Our transport, in both roles, against independent implementations of the protocol.
//!
//! OpenSSH needs root (sshd logs `root` in) and its programs; without them those tests fail, they never
//! skip. russh runs in the same process and needs nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test bed that breaks must fail its test")]

mod commands;
mod connection;
mod openssh;
mod russh_peer;
