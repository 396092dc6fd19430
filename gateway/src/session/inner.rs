//! Connections to targets in channels of a session, where policy has such forwards inspected.
//!
//! Owns the bounds: how many at a time, and in how many sessions one may be. Invariant: what begins here is served as if
//! the user had connected to that target: from their address and interface, against the same limits, by the whole
//! flow. It ends with the channel, and so with the outer session.
//!
//! Deliberately absent: which forwards these are ([`super::forwards`]).

use std::sync::Arc;

use portreeve_core::id::SessionId;
use portreeve_core::net::{FlowTuple, OriginalDst};
use tokio::sync::{Semaphore, mpsc};

use super::incoming::{Incoming, Nesting};
use super::steps::Flow;
use crate::listener::admission::Admission;
use crate::ssh::byte_stream::{ByteStream, ChannelEnd};

/// Most connections to targets in a session at one time.
const MAX_INNER: usize = 16;

/// Most sessions around a connection.
const MAX_DEPTH: u8 = 3;

/// Begins the connections in one session.
#[derive(Debug)]
pub(super) struct InnerSessions {
    queue: mpsc::Sender<Incoming>,
    /// The session, and how many are around it.
    outer: (SessionId, u8),
    flow: Flow,
    admission: Arc<Admission>,
    places: Arc<Semaphore>,
}

impl InnerSessions {
    /// None yet, in a session that `flow` has led to.
    pub(super) fn new(
        queue: mpsc::Sender<Incoming>,
        outer: (SessionId, u8),
        flow: Flow,
        admission: Arc<Admission>,
    ) -> Self {
        Self { queue, outer, flow, admission, places: Arc::new(Semaphore::new(MAX_INNER)) }
    }

    /// The target that the session is on.
    pub(super) const fn outer_dst(&self) -> OriginalDst {
        self.flow.0.original_dst
    }

    /// Begins a connection to `dst`; yields its id, and what is to be carried in the channel.
    ///
    /// # Errors
    /// Why not, for the user.
    pub(super) fn begin(&self, dst: OriginalDst) -> Result<(SessionId, ChannelEnd), String> {
        let ((outer, depth), (flow, ingress)) = (self.outer, &self.flow);
        if depth >= MAX_DEPTH {
            return Err(format!(
                "portreeve: more than {MAX_DEPTH} targets in a row; connect to some directly"
            ));
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| {
            format!("portreeve: more than {MAX_INNER} connections to targets in this session at a time")
        })?;
        let permit = self.admission.admit(flow.client);
        let permit = permit.ok_or("portreeve: too many connections from your address at a time")?;
        let (stream, end) = ByteStream::in_channel();
        let id = SessionId::from_random_bytes(rand::random());
        let incoming = Incoming {
            id,
            stream,
            flow: FlowTuple { original_dst: dst, ..*flow },
            ingress: ingress.clone(),
            permit,
            nesting: Nesting { outer: Some(outer), depth: depth + 1, _place: Some(place) },
        };
        let queued = self.queue.try_send(incoming);
        queued.map_err(|_| "portreeve: the gateway is busy or stopping; connect again in a moment")?;
        Ok((id, end))
    }
}

#[cfg(test)]
pub(super) mod fixture {
    use std::time::Duration;

    use portreeve_core::config::daemon::Limits;
    use portreeve_core::net::ClientAddr;

    use super::*;

    pub(in crate::session) fn dst(text: &str) -> OriginalDst {
        OriginalDst::new(text.parse().unwrap())
    }

    /// In a session that is `depth` deep, of a source that may have so many connections.
    pub(in crate::session) fn inner(
        depth: u8,
        connections: u32,
    ) -> (InnerSessions, mpsc::Receiver<Incoming>) {
        let (handshakes_per_source, connections_per_source) = (connections, connections);
        let (handshake_timeout, drain_timeout) = (Duration::from_secs(1), Duration::from_secs(1));
        let limits = Limits {
            handshake_timeout,
            handshakes_per_source,
            connections_per_source,
            connections,
            drain_timeout,
        };
        let admission = Admission::new(limits, crate::metrics::Metrics::default());
        let (queue, queued) = mpsc::channel(64);
        let flow = FlowTuple {
            client: ClientAddr::new("192.0.2.1:40000".parse().unwrap()),
            original_dst: dst("10.0.0.1:22"),
        };
        let outer = (SessionId::from_random_bytes([7; 16]), depth);
        (InnerSessions::new(queue, outer, (flow, None), Arc::new(admission)), queued)
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{dst, inner};
    use super::*;

    #[test]
    fn a_connection_comes_from_the_users_address_and_is_one_deeper() {
        let (inner, mut queued) = inner(0, 100);
        let (id, _end) = inner.begin(dst("10.0.0.2:2222")).unwrap();
        let incoming = queued.try_recv().unwrap();
        assert_eq!((incoming.id, incoming.flow.original_dst), (id, dst("10.0.0.2:2222")));
        assert_eq!(incoming.flow.client.to_string(), "192.0.2.1:40000");
        assert_eq!((incoming.nesting.outer, incoming.nesting.depth), (Some(inner.outer.0), 1));
    }

    #[test]
    fn connections_in_a_session_are_bounded_and_one_that_ends_makes_room() {
        let (inner, mut queued) = inner(0, 100);
        let ends: Vec<_> = (0..MAX_INNER).map(|_| inner.begin(dst("10.0.0.2:22")).unwrap()).collect();
        assert!(inner.begin(dst("10.0.0.2:22")).unwrap_err().contains("more than 16 connections"));
        drop(queued.try_recv().unwrap());
        assert!(inner.begin(dst("10.0.0.2:22")).is_ok());
        drop(ends);
    }

    #[test]
    fn depth_and_the_limits_of_the_source_hold() {
        for (depth, connections, expected) in
            [(MAX_DEPTH, 100, "3 targets in a row"), (0, 0, "too many connections from your address")]
        {
            let (inner, _queued) = inner(depth, connections);
            let refused = inner.begin(dst("10.0.0.2:22")).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
        let (deepest, queued) = inner(MAX_DEPTH - 1, 100);
        assert!(deepest.begin(dst("10.0.0.2:22")).is_ok());
        drop(queued);
        assert!(deepest.begin(dst("10.0.0.2:22")).unwrap_err().contains("stopping"));
    }
}
