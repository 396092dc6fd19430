//! Accepting steered connections.

pub mod socket;
