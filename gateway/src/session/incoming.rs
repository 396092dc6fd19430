//! A connection that is to be served: one that was steered here, or one in a channel of a live session.
//!
//! Invariant: it holds a permit, and one in a channel its place among those of that session; both are given back when it
//! ends.

use portreeve_core::id::SessionId;
use portreeve_core::net::FlowTuple;
use portreeve_core::net::interface::InterfaceName;
use tokio::sync::OwnedSemaphorePermit;

use crate::listener::Accepted;
use crate::listener::admission::Permit;
use crate::ssh::byte_stream::ByteStream;

/// A connection, before any SSH byte.
#[derive(Debug)]
pub struct Incoming {
    pub(super) id: SessionId,
    pub(super) stream: ByteStream,
    pub(super) flow: FlowTuple,
    pub(super) ingress: Option<InterfaceName>,
    pub(super) permit: Permit,
    pub(super) nesting: Nesting,
}

/// In how many sessions a connection is.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    /// The session in whose channel it is.
    pub(super) outer: Option<SessionId>,
    /// How many sessions are around it.
    pub(super) depth: u8,
    /// Its place among the connections in that session.
    pub(super) _place: Option<OwnedSemaphorePermit>,
}

impl From<Accepted> for Incoming {
    fn from(accepted: Accepted) -> Self {
        let (flow, ingress) = (accepted.flow(), accepted.ingress().cloned());
        let (stream, permit) = accepted.into_parts();
        let id = SessionId::from_random_bytes(rand::random());
        Self { id, stream: stream.into(), flow, ingress, permit, nesting: Nesting::default() }
    }
}
