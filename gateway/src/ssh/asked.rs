//! What library callbacks pass on to the relay, and where the answers go.
//!
//! russh calls back from inside the loop that runs a connection. A callback only writes down what was
//! asked, sends it over a bounded queue, and waits where the protocol needs the answer in order.

use portreeve_core::record::ChannelKind;
use russh::{Channel, Pty, client, server};
use tokio::sync::{mpsc, oneshot};

/// A request on a session channel that the target must answer (RFC 4254 section 6).
#[derive(Debug)]
pub(super) enum ChannelRequest {
    /// `pty-req`.
    Pty(PtyRequest),
    /// `x11-req`.
    X11 { single_connection: bool, protocol: String, cookie: String, screen: u32 },
    /// `env`.
    Env { name: String, value: String },
    /// `shell`.
    Shell,
    /// `exec`.
    Exec { command: Vec<u8> },
    /// `subsystem`.
    Subsystem { name: String },
    /// `auth-agent-req@openssh.com`.
    Agent,
}

/// The contents of a `pty-req` (RFC 4254 section 6.2); sizes in characters, then in pixels.
#[derive(Debug)]
pub(super) struct PtyRequest {
    pub(super) term: String,
    pub(super) columns: u32,
    pub(super) rows: u32,
    pub(super) pixel_width: u32,
    pub(super) pixel_height: u32,
    pub(super) modes: Vec<(Pty, u32)>,
}

/// Where the answer to a channel request goes; dropping it answers with failure.
pub(super) type Answer = oneshot::Sender<bool>;

/// A channel request and where its answer goes.
#[derive(Debug)]
pub(super) struct AskedRequest {
    pub(super) request: ChannelRequest,
    pub(super) answer: Answer,
}

/// A global request for a remote forward (RFC 4254 section 7.1; OpenSSH's PROTOCOL section 2.4).
#[derive(Debug)]
pub(super) enum ForwardRequest {
    /// `tcpip-forward`.
    Tcpip { address: String, port: u32 },
    /// `cancel-tcpip-forward`.
    CancelTcpip { address: String, port: u32 },
    /// `streamlocal-forward@openssh.com`.
    Streamlocal { path: String },
    /// `cancel-streamlocal-forward@openssh.com`.
    CancelStreamlocal { path: String },
}

/// A forward request and where its answer goes: the port that was bound (0 where none was chosen), or
/// failure, also when the sender is dropped.
#[derive(Debug)]
pub(super) struct AskedForward {
    pub(super) request: ForwardRequest,
    pub(super) answer: oneshot::Sender<Option<u32>>,
}

/// A channel that the user's side asks to open; dropping `reply` refuses it.
pub(super) struct DownstreamOpen {
    pub(super) kind: ChannelKind,
    pub(super) channel: Channel<server::Msg>,
    pub(super) reply: server::ChannelOpenHandle,
    pub(super) requests: mpsc::Receiver<AskedRequest>,
}

/// A channel that the target asks to open; dropping `reply` refuses it.
pub(super) struct UpstreamOpen {
    pub(super) kind: ChannelKind,
    pub(super) channel: Channel<client::Msg>,
    pub(super) reply: client::ChannelOpenHandle,
}

/// What the user's side asks for outside of its channels.
pub(super) enum DownstreamEvent {
    Open(DownstreamOpen),
    Forward(AskedForward),
}
