//! What russh's client calls back.
//!
//! Every callback that would open something by default is answered here: channels that a target may
//! open go to the relay, all others are refused.

use portreeve_core::record::ChannelKind;
use russh::client::{self, ChannelOpenHandle, DisconnectReason, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, Error};
use ssh_key::PublicKey;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::asked::UpstreamOpen;
use super::super::user_text::one_line;

/// How far a connection to a target is.
#[derive(Clone, Debug, Default)]
pub(in crate::ssh) enum End {
    /// It is up.
    #[default]
    Running,
    /// The target left with SSH_MSG_DISCONNECT.
    Disconnected {
        /// What it said.
        text: String,
    },
    /// The target offers no further authentication method.
    NoMethodLeft,
    /// It broke.
    Lost,
}

impl End {
    /// What the target said, if anything.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Disconnected { text } if !text.is_empty() => Some(text.clone()),
            Self::Disconnected { .. } | Self::Running | Self::NoMethodLeft | Self::Lost => None,
        }
    }
}

/// russh's handler for one target.
pub(in crate::ssh) struct Callbacks {
    host_key: Option<oneshot::Sender<PublicKey>>,
    opens: mpsc::Sender<UpstreamOpen>,
    end: watch::Sender<End>,
}

impl Callbacks {
    pub(super) fn new(
        host_key: oneshot::Sender<PublicKey>,
        opens: mpsc::Sender<UpstreamOpen>,
        end: watch::Sender<End>,
    ) -> Self {
        Self { host_key: Some(host_key), opens, end }
    }

    async fn pass_on(&self, kind: ChannelKind, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        // Without a relay the open comes back and is dropped, which refuses it.
        self.opens.send(UpstreamOpen { kind, channel, reply }).await.ok();
    }
}

impl client::Handler for Callbacks {
    type Error = Error;

    /// Takes any key: the caller judges it before it logs in. A certificate was not asked for.
    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        let Some(sender) = self.host_key.take() else {
            return Ok(false);
        };
        Ok(sender.send(key.clone()).is_ok())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        connected_address: &str,
        connected_port: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let kind = ChannelKind::ForwardedTcpip {
            listen: connected_address.into(),
            listen_port: connected_port,
            originator: originator_address.into(),
            originator_port,
        };
        self.pass_on(kind, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let kind = ChannelKind::ForwardedStreamlocal { path: socket_path.into() };
        self.pass_on(kind, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.pass_on(ChannelKind::Agent, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        channel: Channel<Msg>,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let kind = ChannelKind::X11 { originator: originator_address.into(), originator_port };
        self.pass_on(kind, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        drop(reply);
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Error>) -> Result<(), Error> {
        self.end.send_replace(match reason {
            DisconnectReason::ReceivedDisconnect(told) => End::Disconnected { text: one_line(&told.message) },
            DisconnectReason::Error(Error::NoAuthMethod) => End::NoMethodLeft,
            DisconnectReason::Error(_) => End::Lost,
        });
        Ok(())
    }
}
