//! Opening channels and forwards: permission, observer, other side, answer, in this order.

use portreeve_core::record::{ChannelKind, ChannelNumber, RecordEvent, Source, Text};
use russh::{Channel, ChannelOpenFailure, client, server};

use super::super::asked::{AskedForward, DownstreamOpen, ForwardRequest, UpstreamOpen};
use super::super::observe::{ObserverFailed, SessionObserver};
use super::channel::Pair;
use super::state::State;

impl<O: SessionObserver> State<O> {
    /// Opens a channel at the target as the user's side asked, and relays it to its end.
    pub(super) async fn open_for_client(&self, open: DownstreamOpen) -> Result<(), ObserverFailed> {
        let DownstreamOpen { kind, channel, reply, requests } = open;
        let Some(number) = self.admit(&kind, Source::Client).await? else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        match self.open_at_target(&kind).await {
            Ok(at_target) => {
                reply.accept().await;
                let pair = Pair::new(number, kind == ChannelKind::Session, channel, at_target);
                pair.run(self, Some(requests)).await
            }
            Err(failure) => {
                reply.reject(failure).await;
                self.tell_never_opened(number).await
            }
        }
    }

    /// Opens a channel at the user's side as the target asked, and relays it to its end.
    pub(super) async fn open_for_target(&self, open: UpstreamOpen) -> Result<(), ObserverFailed> {
        let UpstreamOpen { kind, channel, reply } = open;
        let Some(number) = self.admit(&kind, Source::Target).await? else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        match self.open_at_client(&kind).await {
            Ok(at_client) => {
                reply.accept().await;
                Pair::new(number, false, at_client, channel).run(self, None).await
            }
            Err(failure) => {
                reply.reject(failure).await;
                self.tell_never_opened(number).await
            }
        }
    }

    /// Sets up or cancels a remote forward as the user's side asked.
    pub(super) async fn forward(&self, asked: AskedForward) -> Result<(), ObserverFailed> {
        let AskedForward { request, answer } = asked;
        let event = forward_event(&request);
        if let RecordEvent::RemoteForward { listen, port } = &event
            && !self.permissions.port_forwarding
        {
            return self.tell_refused(None, format!("remote forward of {}", endpoint(listen, *port))).await;
        }
        if !self.allows(event).await? {
            return Ok(());
        }
        let forwarded = tokio::select! {
            forwarded = forward_at_target(&self.up, &request) => forwarded,
            () = self.stopped() => return Ok(()),
        };
        // An error means that the client has left and wants no answer.
        answer.send(forwarded.ok()).ok();
        Ok(())
    }

    /// Numbers a channel that both the grant and the observer allow.
    async fn admit(
        &self,
        kind: &ChannelKind,
        source: Source,
    ) -> Result<Option<ChannelNumber>, ObserverFailed> {
        let permitted = match kind {
            ChannelKind::Session => true,
            ChannelKind::DirectTcpip { .. }
            | ChannelKind::ForwardedTcpip { .. }
            | ChannelKind::DirectStreamlocal { .. }
            | ChannelKind::ForwardedStreamlocal { .. } => self.permissions.port_forwarding,
            ChannelKind::Agent => self.permissions.agent_forwarding,
            ChannelKind::X11 { .. } => self.permissions.x11_forwarding,
            ChannelKind::Other { .. } => false,
        };
        if !permitted {
            self.tell_refused(None, describe(kind)).await?;
            return Ok(None);
        }
        let channel = self.next_channel();
        let event = RecordEvent::ChannelOpen { channel, source, kind: kind.clone() };
        if self.allows(event).await? {
            return Ok(Some(channel));
        }
        self.tell_never_opened(channel).await?;
        Ok(None)
    }

    async fn tell_never_opened(&self, channel: ChannelNumber) -> Result<(), ObserverFailed> {
        self.tell(RecordEvent::ChannelClosed { channel, client_bytes: 0, target_bytes: 0 }).await
    }

    async fn open_at_target(&self, kind: &ChannelKind) -> Result<Channel<client::Msg>, ChannelOpenFailure> {
        let opening = async {
            match kind {
                ChannelKind::Session => self.up.channel_open_session().await,
                ChannelKind::DirectTcpip { destination, destination_port, originator, originator_port } => {
                    let (to, from) = (utf8(destination), utf8(originator));
                    self.up.channel_open_direct_tcpip(to, *destination_port, from, *originator_port).await
                }
                ChannelKind::DirectStreamlocal { path } => {
                    self.up.channel_open_direct_streamlocal(utf8(path)).await
                }
                ChannelKind::ForwardedTcpip { .. }
                | ChannelKind::ForwardedStreamlocal { .. }
                | ChannelKind::Agent
                | ChannelKind::X11 { .. }
                | ChannelKind::Other { .. } => {
                    Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::UnknownChannelType))
                }
            }
        };
        tokio::select! {
            opened = opening => opened.map_err(open_failure),
            () = self.stopped() => Err(ChannelOpenFailure::ConnectFailed),
        }
    }

    async fn open_at_client(&self, kind: &ChannelKind) -> Result<Channel<server::Msg>, ChannelOpenFailure> {
        let opening = async {
            match kind {
                ChannelKind::ForwardedTcpip { listen, listen_port, originator, originator_port } => {
                    let (to, from) = (utf8(listen), utf8(originator));
                    self.down.channel_open_forwarded_tcpip(to, *listen_port, from, *originator_port).await
                }
                ChannelKind::ForwardedStreamlocal { path } => {
                    self.down.channel_open_forwarded_streamlocal(utf8(path)).await
                }
                ChannelKind::Agent => self.down.channel_open_agent().await,
                ChannelKind::X11 { originator, originator_port } => {
                    self.down.channel_open_x11(utf8(originator), *originator_port).await
                }
                ChannelKind::Session
                | ChannelKind::DirectTcpip { .. }
                | ChannelKind::DirectStreamlocal { .. }
                | ChannelKind::Other { .. } => {
                    Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::UnknownChannelType))
                }
            }
        };
        tokio::select! {
            opened = opening => opened.map_err(open_failure),
            () = self.stopped() => Err(ChannelOpenFailure::ConnectFailed),
        }
    }
}

/// The port that the target bound, 0 where it was given.
async fn forward_at_target<H: client::Handler>(
    up: &client::Handle<H>,
    request: &ForwardRequest,
) -> Result<u32, russh::Error> {
    match request {
        ForwardRequest::Tcpip { address, port } => up.tcpip_forward(address, *port).await,
        ForwardRequest::CancelTcpip { address, port } => {
            up.cancel_tcpip_forward(address, *port).await.map(|()| 0)
        }
        ForwardRequest::Streamlocal { path } => up.streamlocal_forward(path).await.map(|()| 0),
        ForwardRequest::CancelStreamlocal { path } => up.cancel_streamlocal_forward(path).await.map(|()| 0),
    }
}

fn forward_event(request: &ForwardRequest) -> RecordEvent {
    match request {
        ForwardRequest::Tcpip { address, port } => {
            RecordEvent::RemoteForward { listen: address.as_str().into(), port: Some(*port) }
        }
        ForwardRequest::CancelTcpip { address, port } => {
            RecordEvent::CancelRemoteForward { listen: address.as_str().into(), port: Some(*port) }
        }
        ForwardRequest::Streamlocal { path } => {
            RecordEvent::RemoteForward { listen: path.as_str().into(), port: None }
        }
        ForwardRequest::CancelStreamlocal { path } => {
            RecordEvent::CancelRemoteForward { listen: path.as_str().into(), port: None }
        }
    }
}

/// The other side's own reason; a lost side counts as a failed connection.
fn open_failure(error: russh::Error) -> ChannelOpenFailure {
    if let russh::Error::ChannelOpenFailure(failure) = error {
        return failure;
    }
    ChannelOpenFailure::ConnectFailed
}

fn describe(kind: &ChannelKind) -> String {
    match kind {
        ChannelKind::Session => String::from("session"),
        ChannelKind::DirectTcpip { destination, destination_port, .. } => {
            format!("forward to {}", endpoint(destination, Some(*destination_port)))
        }
        ChannelKind::ForwardedTcpip { listen, listen_port, .. } => {
            format!("forward from {}", endpoint(listen, Some(*listen_port)))
        }
        ChannelKind::DirectStreamlocal { path } => format!("forward to {}", endpoint(path, None)),
        ChannelKind::ForwardedStreamlocal { path } => format!("forward from {}", endpoint(path, None)),
        ChannelKind::Agent => String::from("agent connection"),
        ChannelKind::X11 { .. } => String::from("X11 connection"),
        ChannelKind::Other { channel_type } => format!("channel of type {}", utf8(channel_type)),
    }
}

fn endpoint(name: &Text, port: Option<u32>) -> String {
    match port {
        Some(port) => format!("{}:{port}", utf8(name)),
        None => utf8(name),
    }
}

/// Texts of russh are UTF-8 already.
fn utf8(text: &Text) -> String {
    String::from_utf8_lossy(&text.0).into_owned()
}
