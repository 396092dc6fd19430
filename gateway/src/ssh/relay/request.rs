//! Requests on session channels: permission, observer, target, and the target's own answer.

use portreeve_core::infrastructure::SshPermissions;
use portreeve_core::record::{ChannelNumber, Pty, RecordEvent};
use russh::Error;
use tokio::sync::mpsc;

use super::super::asked::{Answer, AskedRequest, ChannelRequest, PtyRequest};
use super::super::observe::SessionObserver;
use super::channel::{Ends, Stopped};
use super::state::State;

impl Ends {
    /// Carries a request to the target and leaves it among those that wait for the target's answer.
    ///
    /// The target is always asked for an answer; whether the client gets it is up to its own flag.
    pub(super) async fn ask_target<O: SessionObserver>(
        &self,
        state: &State<O>,
        asked: AskedRequest,
        unanswered: &mpsc::Sender<Answer>,
    ) -> Result<(), Stopped> {
        let AskedRequest { request, answer } = asked;
        if let Some(what) = not_permitted(&request, state.permissions) {
            state.tell_refused(Some(self.number), what).await?;
            return Ok(());
        }
        if !state.allows(event_of(self.number, &request)).await? {
            return Ok(());
        }
        // Before the request, which the target may answer at once.
        unanswered.send(answer).await.map_err(|_| Error::SendError)?;
        Ok(self.send_request(request).await?)
    }

    async fn send_request(&self, request: ChannelRequest) -> Result<(), Error> {
        let target = &self.to_target;
        match request {
            ChannelRequest::Pty(pty) => {
                let PtyRequest { term, columns, rows, pixel_width, pixel_height, modes } = pty;
                target.request_pty(true, &term, columns, rows, pixel_width, pixel_height, &modes).await
            }
            ChannelRequest::X11 { single_connection, protocol, cookie, screen } => {
                target.request_x11(true, single_connection, protocol, cookie, screen).await
            }
            ChannelRequest::Env { name, value } => target.set_env(true, name, value).await,
            ChannelRequest::Shell => target.request_shell(true).await,
            ChannelRequest::Exec { command } => target.exec(true, command).await,
            ChannelRequest::Subsystem { name } => target.request_subsystem(true, name).await,
            ChannelRequest::Agent => target.agent_forward(true).await,
        }
    }
}

/// What the grant does not hold, if the request asks for it.
fn not_permitted(request: &ChannelRequest, permissions: SshPermissions) -> Option<&'static str> {
    match request {
        ChannelRequest::Pty(_) => (!permissions.pty).then_some("terminal"),
        ChannelRequest::X11 { .. } => (!permissions.x11_forwarding).then_some("X11 forwarding"),
        ChannelRequest::Agent => (!permissions.agent_forwarding).then_some("agent forwarding"),
        ChannelRequest::Env { .. }
        | ChannelRequest::Shell
        | ChannelRequest::Exec { .. }
        | ChannelRequest::Subsystem { .. } => None,
    }
}

fn event_of(channel: ChannelNumber, request: &ChannelRequest) -> RecordEvent {
    match request {
        ChannelRequest::Pty(pty) => RecordEvent::Pty { channel, pty: terminal(pty) },
        ChannelRequest::X11 { .. } => RecordEvent::X11Forward { channel },
        ChannelRequest::Env { name, value } => {
            RecordEvent::Env { channel, name: name.as_str().into(), value: value.as_str().into() }
        }
        ChannelRequest::Shell => RecordEvent::Shell { channel },
        ChannelRequest::Exec { command } => RecordEvent::Exec { channel, command: command.as_slice().into() },
        ChannelRequest::Subsystem { name } => RecordEvent::Subsystem { channel, name: name.as_str().into() },
        ChannelRequest::Agent => RecordEvent::AgentForward { channel },
    }
}

/// Mode names are those of RFC 4254 section 8, which russh's variants spell.
fn terminal(pty: &PtyRequest) -> Pty {
    Pty {
        term: pty.term.as_str().into(),
        width: pty.columns,
        height: pty.rows,
        modes: pty.modes.iter().map(|(mode, value)| (format!("{mode:?}"), *value)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: SshPermissions = SshPermissions {
        pty: false,
        port_forwarding: false,
        agent_forwarding: false,
        x11_forwarding: false,
        user_rc: false,
    };

    fn pty() -> ChannelRequest {
        ChannelRequest::Pty(PtyRequest {
            term: String::from("vt100"),
            columns: 80,
            rows: 24,
            pixel_width: 0,
            pixel_height: 0,
            modes: vec![(russh::Pty::ECHO, 1), (russh::Pty::TTY_OP_ISPEED, 38400)],
        })
    }

    #[test]
    fn each_permission_governs_its_own_request() {
        assert_eq!(not_permitted(&pty(), NOTHING), Some("terminal"));
        assert_eq!(not_permitted(&pty(), SshPermissions { pty: true, ..NOTHING }), None);
        assert_eq!(not_permitted(&ChannelRequest::Agent, NOTHING), Some("agent forwarding"));
        let agent = SshPermissions { agent_forwarding: true, ..NOTHING };
        assert_eq!(not_permitted(&ChannelRequest::Agent, agent), None);
        assert_eq!(not_permitted(&ChannelRequest::Shell, NOTHING), None);
    }

    #[test]
    fn a_terminal_is_recorded_with_mode_names_in_order() {
        let RecordEvent::Pty { pty, .. } = event_of(ChannelNumber(0), &pty()) else {
            panic!("not a pty event");
        };
        assert_eq!((pty.width, pty.height), (80, 24));
        assert_eq!(pty.modes, [(String::from("ECHO"), 1), (String::from("TTY_OP_ISPEED"), 38400)]);
    }
}
