//! What russh's server calls back.
//!
//! Until the owner's verdict nothing but authentication is possible; after a refusal the first thing
//! asked for is answered with SSH_MSG_DISCONNECT (and not earlier: russh starts delayed compression
//! with the client's first message, so a text sent before would be unreadable for `ssh -C`); after an
//! admission everything is passed on to the relay. Requests that carry a reply are awaited here, since
//! russh answers them with the flag of the latest request: the order of replies is then the order of
//! requests, at the price that the client is not read meanwhile.

use std::collections::HashMap;

use portreeve_core::record::ChannelKind;
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, Disconnect, Error, MethodKind, MethodSet, Pty};
use tokio::sync::{mpsc, oneshot};

use super::super::asked::{
    AskedForward, AskedRequest, ChannelRequest, DownstreamEvent, DownstreamOpen, ForwardRequest, PtyRequest,
};

/// The owner's decision about a login attempt.
pub(super) enum Verdict {
    /// Let the user in.
    Admit,
    /// Send the user away with this text.
    Refuse(String),
}

/// How far authentication is.
enum Phase {
    /// No request of method `none` yet.
    Unknown { asked: oneshot::Sender<String>, verdict: oneshot::Receiver<Verdict> },
    /// The user is in.
    Admitted,
    /// The user is to be sent away with this text.
    Refused(String),
}

/// russh's handler for one user.
pub(in crate::ssh) struct Callbacks {
    phase: Phase,
    events: mpsc::Sender<DownstreamEvent>,
    requests: HashMap<ChannelId, mpsc::Sender<AskedRequest>>,
}

impl Callbacks {
    pub(super) fn new(
        asked: oneshot::Sender<String>,
        verdict: oneshot::Receiver<Verdict>,
        events: mpsc::Sender<DownstreamEvent>,
    ) -> Self {
        Self { phase: Phase::Unknown { asked, verdict }, events, requests: HashMap::new() }
    }

    /// Whether the user is in; sends away who was refused.
    fn admitted(&self, session: &mut Session) -> Result<bool, Error> {
        match &self.phase {
            Phase::Admitted => Ok(true),
            Phase::Unknown { .. } => Ok(false),
            Phase::Refused(reason) => {
                session.disconnect(Disconnect::ByApplication, reason, "")?;
                Ok(false)
            }
        }
    }

    async fn open(
        &mut self,
        kind: ChannelKind,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        if !self.admitted(session)? {
            return Ok(());
        }
        self.requests.retain(|_, requests| !requests.is_closed());
        let (sender, requests) = mpsc::channel(1);
        self.requests.insert(channel.id(), sender);
        let open = DownstreamEvent::Open(DownstreamOpen { kind, channel, reply, requests });
        // Without a relay the open comes back and is dropped, which refuses it.
        self.events.send(open).await.ok();
        Ok(())
    }

    /// Waits for the target's answer to a channel request and gives it to the client.
    async fn request(
        &mut self,
        channel: ChannelId,
        request: ChannelRequest,
        session: &mut Session,
    ) -> Result<(), Error> {
        if self.answer_to(channel, request).await {
            session.channel_success(channel)
        } else {
            session.channel_failure(channel)
        }
    }

    async fn answer_to(&self, channel: ChannelId, request: ChannelRequest) -> bool {
        let Some(requests) = self.requests.get(&channel) else {
            return false;
        };
        let (answer, answered) = oneshot::channel();
        requests.send(AskedRequest { request, answer }).await.is_ok() && answered.await.unwrap_or(false)
    }

    /// Waits for the target's answer to a forward request: the port, or `None` for failure.
    async fn forward(&self, request: ForwardRequest, session: &mut Session) -> Result<Option<u32>, Error> {
        if !self.admitted(session)? {
            return Ok(None);
        }
        let (answer, answered) = oneshot::channel();
        let asked = DownstreamEvent::Forward(AskedForward { request, answer });
        if self.events.send(asked).await.is_err() {
            return Ok(None);
        }
        Ok(answered.await.unwrap_or(None))
    }
}

impl server::Handler for Callbacks {
    type Error = Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Error> {
        let placeholder = Phase::Refused(String::from("the gateway gave no answer"));
        let Phase::Unknown { asked, verdict } = std::mem::replace(&mut self.phase, placeholder) else {
            return Ok(Auth::reject());
        };
        if asked.send(user.to_owned()).is_err() {
            return Err(Error::Disconnect);
        }
        self.phase = match verdict.await {
            Ok(Verdict::Admit) => Phase::Admitted,
            Ok(Verdict::Refuse(reason)) => Phase::Refused(reason),
            Err(_owner_gone) => return Err(Error::Disconnect),
        };
        Ok(Auth::Accept)
    }

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        _offer: server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        Ok(Auth::Reject {
            proceed_with_methods: Some(MethodSet::from([MethodKind::None].as_slice())),
            partial_success: false,
        })
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.requests.remove(&channel);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.open(ChannelKind::Session, channel, reply, session).await
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        let kind = ChannelKind::DirectTcpip {
            destination: host_to_connect.into(),
            destination_port: port_to_connect,
            originator: originator_address.into(),
            originator_port,
        };
        self.open(kind, channel, reply, session).await
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        let kind = ChannelKind::DirectStreamlocal { path: socket_path.into() };
        self.open(kind, channel, reply, session).await
    }

    async fn channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        drop(reply);
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
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

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        col_width: u32,
        row_height: u32,
        pix_width: u32,
        pix_height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        // russh leaves a hole, spelled as the end mark, where it met an opcode it does not know.
        let modes = modes.iter().copied().filter(|(mode, _)| *mode != Pty::TTY_OP_END).collect();
        let request = ChannelRequest::Pty(PtyRequest {
            term: term.to_owned(),
            columns: col_width,
            rows: row_height,
            pixel_width: pix_width,
            pixel_height: pix_height,
            modes,
        });
        self.request(channel, request, session).await
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        single_connection: bool,
        x11_auth_protocol: &str,
        x11_auth_cookie: &str,
        x11_screen_number: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        let request = ChannelRequest::X11 {
            single_connection,
            protocol: x11_auth_protocol.to_owned(),
            cookie: x11_auth_cookie.to_owned(),
            screen: x11_screen_number,
        };
        self.request(channel, request, session).await
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        variable_name: &str,
        variable_value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let request =
            ChannelRequest::Env { name: variable_name.to_owned(), value: variable_value.to_owned() };
        self.request(channel, request, session).await
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.request(channel, ChannelRequest::Shell, session).await
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.request(channel, ChannelRequest::Exec { command: data.to_vec() }, session).await
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.request(channel, ChannelRequest::Subsystem { name: name.to_owned() }, session).await
    }

    /// russh itself replies with what is returned here.
    async fn agent_request(&mut self, channel: ChannelId, _session: &mut Session) -> Result<bool, Error> {
        Ok(self.answer_to(channel, ChannelRequest::Agent).await)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Error> {
        let request = ForwardRequest::Tcpip { address: address.to_owned(), port: *port };
        let bound = self.forward(request, session).await?;
        if let Some(bound) = bound {
            *port = bound;
        }
        Ok(bound.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        session: &mut Session,
    ) -> Result<bool, Error> {
        let request = ForwardRequest::CancelTcpip { address: address.to_owned(), port };
        Ok(self.forward(request, session).await?.is_some())
    }

    async fn streamlocal_forward(&mut self, socket_path: &str, session: &mut Session) -> Result<bool, Error> {
        let request = ForwardRequest::Streamlocal { path: socket_path.to_owned() };
        Ok(self.forward(request, session).await?.is_some())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        socket_path: &str,
        session: &mut Session,
    ) -> Result<bool, Error> {
        let request = ForwardRequest::CancelStreamlocal { path: socket_path.to_owned() };
        Ok(self.forward(request, session).await?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use russh::server::Handler as _;

    use super::*;

    type Wired = (Callbacks, oneshot::Receiver<String>, oneshot::Sender<Verdict>);

    fn wired() -> Wired {
        let (asked_sender, asked) = oneshot::channel();
        let (verdict, verdict_receiver) = oneshot::channel();
        let (events, _nobody) = mpsc::channel(1);
        (Callbacks::new(asked_sender, verdict_receiver, events), asked, verdict)
    }

    #[tokio::test]
    async fn the_verdict_is_about_the_first_name_only() {
        let (mut callbacks, asked, verdict) = wired();
        assert!(verdict.send(Verdict::Admit).is_ok());
        assert_eq!(callbacks.auth_none("alice").await.unwrap(), Auth::Accept);
        assert_eq!(callbacks.auth_none("root").await.unwrap(), Auth::reject());
        assert_eq!(asked.await.unwrap(), "alice");
    }

    #[tokio::test]
    async fn without_a_verdict_nobody_gets_in() {
        let (mut callbacks, _asked, verdict) = wired();
        drop(verdict);
        assert!(callbacks.auth_none("alice").await.is_err());
        assert!(!matches!(callbacks.phase, Phase::Admitted));
        assert_eq!(callbacks.auth_none("alice").await.unwrap(), Auth::reject());
    }

    #[tokio::test]
    async fn a_name_that_nobody_waits_for_is_an_error() {
        let (mut callbacks, asked, _verdict) = wired();
        drop(asked);
        assert!(callbacks.auth_none("alice").await.is_err());
    }
}
