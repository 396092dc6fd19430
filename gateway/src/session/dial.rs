//! The TCP connection to a target, from the gateway's own address or from the user's.
//!
//! From the user's address the target sees the user's port too; where that is taken on the gateway, or still
//! used by an earlier connection to the same target, any other. The target then answers to the user's
//! address: its packets reach the gateway only if they come in on an interface that the kernel program is
//! attached to, and pass it by to the user otherwise.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use portreeve_core::net::FlowTuple;
use portreeve_core::target::SourceAddress;
use tokio::net::{TcpSocket, TcpStream};

use super::refusal::{Refusal, unreachable};
use crate::listener::socket::set_transparent;
use crate::metrics::ConnectionOutcome as Outcome;

/// Connects to the original destination of a flow; yields the connection and the address and port that the
/// target sees.
pub(super) async fn dial(
    flow: FlowTuple,
    source: SourceAddress,
    limit: Duration,
) -> Result<(TcpStream, SocketAddr), Refusal> {
    let dialled = async {
        let stream = match source {
            SourceAddress::Gateway => TcpStream::connect(flow.original_dst.socket_addr()).await?,
            SourceAddress::Client => dial_as_client(flow).await?,
        };
        stream.set_nodelay(true)?;
        let from = stream.local_addr()?;
        io::Result::Ok((stream, from))
    };
    match tokio::time::timeout(limit, dialled).await {
        Ok(Ok(dialled)) => Ok(dialled),
        Ok(Err(error)) => Err(unreachable(flow, &error)),
        Err(_) => Err(no_answer(flow, source, limit)),
    }
}

async fn dial_as_client(flow: FlowTuple) -> io::Result<TcpStream> {
    let (client, target) = (flow.client.socket_addr(), flow.original_dst.socket_addr());
    match dial_from(client, target).await {
        Err(error) if is_taken(&error) => {
            tracing::debug!(%client, %error, "the user's port is taken; the target sees another one");
            dial_from(SocketAddr::new(client.ip(), 0), target).await
        }
        dialled => dialled,
    }
}

/// Dials from any address, the gateway's or not; with port 0 the kernel chooses one when it connects, which
/// other connections may share as long as they go elsewhere (ip(7), `IP_BIND_ADDRESS_NO_PORT`).
async fn dial_from(from: SocketAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    set_transparent(&socket, from.is_ipv4())?;
    socket.set_reuseaddr(true)?;
    if from.port() == 0 {
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    }
    socket.bind(from)?;
    socket.connect(target).await
}

/// Whether a socket has the port (bind(2)), or a connection the same addresses and ports (connect(2)).
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

fn no_answer(flow: FlowTuple, source: SourceAddress, limit: Duration) -> Refusal {
    let hint = match source {
        SourceAddress::Gateway => "",
        SourceAddress::Client => {
            "; it was dialled from your address, so its answers are only seen on interfaces that the gateway \
             is configured for"
        }
    };
    let waited = limit.as_secs_f32();
    Refusal::new(
        Outcome::TargetUnreachable,
        format!("the target {} does not answer (waited {waited} s){hint}", flow.original_dst),
    )
}
