//! Pure decisions and formats of portreeve.
//!
//! Owns every rule that decides about a connection (identity table, network policies,
//! infrastructure policies, certificate contents) and every format that outlives it (the sealed
//! envelope, the record vocabulary, the configuration files). Deliberately absent: sockets, files,
//! clocks, random number generators, async. Callers pass bytes, times and generators in.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod access_event;
pub mod access_group;
pub mod alert;
pub mod asciicast;
pub mod certificate;
pub mod clock;
pub mod command;
pub mod config;
pub mod envelope;
pub mod expression;
#[cfg(any(test, feature = "fuzz-entry"))]
pub mod fuzz_entry;
pub mod geo;
pub mod host_certificate;
pub mod host_key;
pub mod id;
pub mod identity;
pub mod infrastructure;
pub mod inspection;
pub mod login;
pub mod manifest;
pub mod net;
pub mod network_policy;
pub mod port;
pub mod prefix;
pub mod record;
pub mod rule;
pub mod shipping;
pub mod snapshot;
mod suggest;
pub mod target;
pub mod transfer;
pub mod utc;
mod utf8;
