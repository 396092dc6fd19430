//! Our transport, in both roles, against independent implementations of the protocol.
//!
//! OpenSSH and dropbear need root (their servers log `root` in) and their programs; without them those tests fail, they never
//! skip. russh runs in the same process and needs nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test bed that breaks must fail its test")]

mod commands;
mod connection;
mod dropbear;
mod openssh;
mod russh_peer;
