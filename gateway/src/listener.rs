//! Steered connections: accepted, bounded, named by their flow.
//!
//! Invariant: an [`Accepted`] came through the kernel program (its local address is the original
//! destination) and holds a [`Permit`]. Connections over a limit, and those made to the listener's
//! own port from elsewhere, are reset here. Nothing is read from a connection.

pub mod admission;
mod ingress;
pub mod socket;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use portreeve_core::net::interface::InterfaceName;
use portreeve_core::net::{ClientAddr, FlowTuple, OriginalDst};
use tokio::net::{TcpListener, TcpStream};

use self::admission::{Admission, Permit};
use crate::metrics::{ConnectionOutcome, Metrics};

/// How long accepting pauses when the process is out of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// One steered connection, before any SSH byte.
#[derive(Debug)]
pub struct Accepted {
    stream: TcpStream,
    flow: FlowTuple,
    ingress: Option<InterfaceName>,
    permit: Permit,
}

/// Accepts on both families.
#[derive(Debug)]
pub struct Listener {
    v4: TcpListener,
    v6: TcpListener,
    own_ports: socket::ListenerPorts,
    admission: Arc<Admission>,
    metrics: Metrics,
}

impl Listener {
    /// Listens on sockets that the datapath already steers to.
    ///
    /// # Errors
    /// When a socket cannot be handed to the runtime.
    pub fn new(sockets: socket::Listeners, admission: Admission, metrics: Metrics) -> io::Result<Self> {
        let own_ports = sockets.ports();
        let [v4, v6] = sockets.into_tokio()?;
        Ok(Self { v4, v6, own_ports, admission: Arc::new(admission), metrics })
    }

    /// The sockets, for steering.
    pub fn fds(&self) -> socket::ListenerFds<'_> {
        socket::ListenerFds { v4: self.v4.as_fd(), v6: self.v6.as_fd() }
    }

    /// The next connection that is within its limits.
    pub async fn accept(&self) -> Accepted {
        loop {
            let accepted = tokio::select! {
                accepted = self.v4.accept() => accepted,
                accepted = self.v6.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Some(accepted) = self.admit(stream, peer) {
                        return accepted;
                    }
                }
                Err(error) if out_of_resources(&error) => {
                    tracing::error!(%error, "cannot accept connections: raise the limit of open files");
                    tokio::time::sleep(BACK_OFF).await;
                }
                // The peer was gone before it was accepted (accept(2), ECONNABORTED and the like).
                Err(error) => tracing::debug!(%error, "a connection was gone before it was accepted"),
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Accepted> {
        let Ok(local) = stream.local_addr() else { return None };
        let flow = FlowTuple { client: ClientAddr::new(peer), original_dst: OriginalDst::new(local) };
        if self.own_ports.is_direct(local) {
            tracing::debug!(client = %flow.client, "reset a connection that was not steered");
            reset(stream);
            return None;
        }
        let Some(permit) = self.admission.admit(flow.client) else {
            tracing::debug!(client = %flow.client, "reset a connection over the limits");
            self.metrics.connection_ended(ConnectionOutcome::Limited);
            reset(stream);
            return None;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let ingress = ingress::interface(&stream);
        if let Err(error) = &ingress {
            tracing::warn!(client = %flow.client, %error, "the interface of a connection is not known");
        }
        Some(Accepted { stream, flow, ingress: ingress.ok(), permit })
    }
}

impl Accepted {
    /// Who wants to go where.
    pub fn flow(&self) -> FlowTuple {
        self.flow
    }

    /// The interface that it came in on, where that is known.
    pub fn ingress(&self) -> Option<&InterfaceName> {
        self.ingress.as_ref()
    }

    /// The connection and its permit, to speak SSH on it.
    pub fn into_parts(self) -> (TcpStream, Permit) {
        (self.stream, self.permit)
    }
}

fn reset(stream: TcpStream) {
    if let Err(error) = socket::reset(stream) {
        tracing::debug!(%error, "a connection was closed instead of reset");
    }
}

fn out_of_resources(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(nix::errno::Errno::from_raw),
        Some(
            nix::errno::Errno::EMFILE
                | nix::errno::Errno::ENFILE
                | nix::errno::Errno::ENOBUFS
                | nix::errno::Errno::ENOMEM
        )
    )
}
