//! Messages as the recording names them. Pure.

use portreeve_core::record::{ChannelKind, ChannelNumber, Exit, Pty, RecordEvent, Source, Text};
use portreeve_ssh::relay::{Channel, ChannelId, GlobalRequest, OpenKind, Request, Side};

use super::modes;

/// Who sent something.
pub(super) const fn source(side: Side) -> Source {
    match side {
        Side::Downstream => Source::Client,
        Side::Upstream => Source::Target,
    }
}

const fn number(channel: ChannelId) -> ChannelNumber {
    ChannelNumber(channel.0)
}

/// What a channel is asked for.
pub(super) fn channel_kind(kind: OpenKind<'_>) -> ChannelKind {
    match kind {
        OpenKind::Session => ChannelKind::Session,
        OpenKind::DirectTcpip { destination, destination_port, originator, originator_port } => {
            ChannelKind::DirectTcpip {
                destination: destination.into(),
                destination_port,
                originator: originator.into(),
                originator_port,
            }
        }
        OpenKind::ForwardedTcpip { listen, listen_port, originator, originator_port } => {
            ChannelKind::ForwardedTcpip {
                listen: listen.into(),
                listen_port,
                originator: originator.into(),
                originator_port,
            }
        }
        OpenKind::DirectStreamlocal { path } => ChannelKind::DirectStreamlocal { path: path.into() },
        OpenKind::ForwardedStreamlocal { path } => ChannelKind::ForwardedStreamlocal { path: path.into() },
        OpenKind::Agent => ChannelKind::Agent,
        OpenKind::X11 { originator, originator_port } => {
            ChannelKind::X11 { originator: originator.into(), originator_port }
        }
        OpenKind::Other { channel_type } => ChannelKind::Other { channel_type: channel_type.into() },
    }
}

/// A request of the user's side; none for what the recording has no word for.
pub(super) fn asked(channel: ChannelId, request: Request<'_>) -> Option<RecordEvent> {
    let channel = number(channel);
    Some(match request {
        Request::Pty(asked) => {
            let modes = modes::decode(asked.modes);
            let pty = Pty { term: asked.term.into(), width: asked.width, height: asked.height, modes };
            RecordEvent::Pty { channel, pty }
        }
        Request::X11 => RecordEvent::X11Forward { channel },
        Request::Agent => RecordEvent::AgentForward { channel },
        Request::Env { name, value } => RecordEvent::Env { channel, name: name.into(), value: value.into() },
        Request::Shell => RecordEvent::Shell { channel },
        Request::Exec { command } => RecordEvent::Exec { channel, command: command.into() },
        Request::Subsystem { name } => RecordEvent::Subsystem { channel, name: name.into() },
        Request::WindowChange { width, height } => RecordEvent::WindowChange { channel, width, height },
        Request::Signal { name } => RecordEvent::Signal { channel, name: name.into() },
        Request::ExitStatus { .. } | Request::ExitSignal { .. } | Request::Other { .. } => return None,
    })
}

/// A request of the target's side: how a program ended, if it is that.
pub(super) fn exit(channel: ChannelId, request: Request<'_>) -> Option<RecordEvent> {
    let exit = match request {
        Request::ExitStatus { status } => Exit::Status(status),
        Request::ExitSignal { signal, core_dumped, error_msg } => {
            Exit::Signal { signal: signal.into(), core_dumped, error_msg: error_msg.into() }
        }
        Request::Pty(_)
        | Request::X11
        | Request::Agent
        | Request::Env { .. }
        | Request::Shell
        | Request::Exec { .. }
        | Request::Subsystem { .. }
        | Request::WindowChange { .. }
        | Request::Signal { .. }
        | Request::Other { .. } => return None,
    };
    Some(RecordEvent::Exit { channel: number(channel), exit })
}

/// A remote forward, begun or cancelled; none for other requests.
pub(super) fn forward(request: GlobalRequest<'_>) -> Option<RecordEvent> {
    Some(match request {
        GlobalRequest::TcpipForward { listen, port } => {
            RecordEvent::RemoteForward { listen: listen.into(), port: Some(port) }
        }
        GlobalRequest::StreamlocalForward { path } => {
            RecordEvent::RemoteForward { listen: path.into(), port: None }
        }
        GlobalRequest::CancelTcpipForward { listen, port } => {
            RecordEvent::CancelRemoteForward { listen: listen.into(), port: Some(port) }
        }
        GlobalRequest::CancelStreamlocalForward { path } => {
            RecordEvent::CancelRemoteForward { listen: path.into(), port: None }
        }
        GlobalRequest::HostKeys { .. } | GlobalRequest::HostKeysProve | GlobalRequest::Other { .. } => {
            return None;
        }
    })
}

/// The end of a channel.
pub(super) const fn closed(channel: &Channel) -> RecordEvent {
    RecordEvent::ChannelClosed {
        channel: number(channel.id),
        client_bytes: channel.downstream_bytes,
        target_bytes: channel.upstream_bytes,
    }
}

/// SSH began on a guarded channel.
pub(super) const fn ssh_in_forward(channel: ChannelId) -> RecordEvent {
    RecordEvent::SshInForward { channel: number(channel) }
}

/// The end of a channel that the other side did not open.
pub(super) const fn never_opened(channel: ChannelId) -> RecordEvent {
    RecordEvent::ChannelClosed { channel: number(channel), client_bytes: 0, target_bytes: 0 }
}

/// What follows an event that the observer refuses: a channel that it has seen open is closed.
pub(super) fn closed_if_refused(event: &RecordEvent) -> Option<RecordEvent> {
    if let RecordEvent::ChannelOpen { channel, .. } = event {
        Some(never_opened(ChannelId(channel.0)))
    } else {
        None
    }
}

/// A channel that was refused, for people.
pub(super) fn describe(kind: &ChannelKind) -> String {
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
        ChannelKind::Other { channel_type } => format!("channel of type {}", endpoint(channel_type, None)),
    }
}

/// A remote forward that was refused, for people.
pub(super) fn describe_forward(request: GlobalRequest<'_>) -> String {
    match request {
        GlobalRequest::TcpipForward { listen, port } => {
            format!("remote forward of {}", endpoint(&listen.into(), Some(port)))
        }
        GlobalRequest::StreamlocalForward { path } => {
            format!("remote forward of {}", endpoint(&path.into(), None))
        }
        GlobalRequest::CancelTcpipForward { .. }
        | GlobalRequest::CancelStreamlocalForward { .. }
        | GlobalRequest::HostKeys { .. }
        | GlobalRequest::HostKeysProve
        | GlobalRequest::Other { .. } => String::from("global request"),
    }
}

fn endpoint(name: &Text, port: Option<u32>) -> String {
    let name = String::from_utf8_lossy(&name.0);
    match port {
        Some(port) => format!("{name}:{port}"),
        None => name.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use portreeve_ssh::relay::PtyRequest;

    use super::*;

    #[test]
    fn a_terminal_is_recorded_with_mode_names_in_order() {
        let modes = [53, 0, 0, 0, 1, 128, 0, 0, 0x96, 0, 0];
        let pty = PtyRequest { term: b"vt100", width: 80, height: 24, modes: &modes };
        let modes = vec![("ECHO".to_owned(), 1), ("TTY_OP_ISPEED".to_owned(), 38400)];
        let pty_event = Pty { term: "vt100".into(), width: 80, height: 24, modes };
        let expected = RecordEvent::Pty { channel: ChannelNumber(4), pty: pty_event };
        assert_eq!(asked(ChannelId(4), Request::Pty(pty)), Some(expected));
    }

    #[test]
    fn texts_that_are_not_utf8_are_kept_as_they_are() {
        let event = asked(ChannelId(0), Request::Env { name: b"A", value: b"\xff" });
        let value = Text(vec![0xff]);
        assert_eq!(event, Some(RecordEvent::Env { channel: ChannelNumber(0), name: "A".into(), value }));
    }

    #[test]
    fn only_a_channel_open_needs_a_close_when_it_is_refused() {
        let channel = ChannelNumber(2);
        let open = RecordEvent::ChannelOpen { channel, source: Source::Client, kind: ChannelKind::Session };
        assert_eq!(closed_if_refused(&open), Some(never_opened(ChannelId(2))));
        assert_eq!(closed_if_refused(&RecordEvent::Shell { channel }), None);
    }
}
