//! Real OpenSSH clients through both SSH sides and the relay, to a real sshd on the loopback.
//!
//! Needs root (sshd logs `root` in) and /usr/sbin/sshd; without them the tests fail, they never skip.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test bed that breaks must fail its test")]

mod bed;
mod forwarding;
mod host_certificates;
mod refusals;
mod sessions;
