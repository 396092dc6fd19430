//! What may cross, and what is told about it. Pure.
//!
//! Permissions are those of the grant. What is refused stays in the order of replies: a refused request
//! goes on under a name that the other side does not know, so that it refuses by itself. Requests count
//! for the side that can make them: a target cannot put a command into the recording, a client no exit
//! status.

use portreeve_core::infrastructure::SshPermissions;
use portreeve_core::record::{ChannelNumber, RecordEvent};
use portreeve_core::transfer::Program;
use portreeve_ssh::relay::{ChannelId, GlobalRequest, OpenKind, Request, Seen, Side};

use super::events::{self, source};
use crate::ssh::observe::Decision;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It crosses as it is.
    Forward,
    /// A channel that its sender is refused.
    RefuseOpen,
    /// A request that its receiver is made to refuse.
    RefuseRequest,
    /// A request for this program, which its receiver is made to refuse; the user is told so.
    RefuseProgram(&'static str),
    /// A request that its receiver does not see, unless a reply is due.
    Conceal,
    /// A reply to us.
    Keep,
    /// The reply to such a program, on this channel.
    Dismiss(ChannelId),
    /// Data in whose place the user is told that the channel carries no SSH.
    CutSsh,
}

/// A decision and what the observer is told of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// What becomes of the message unless the observer refuses it.
    pub(super) fate: Fate,
    /// What becomes of it then; the same where the observer is only told.
    pub(super) if_refused: Fate,
    pub(super) event: Option<RecordEvent>,
}

impl Judged {
    /// What becomes of the message now that the observer has decided.
    pub(super) const fn after(&self, decision: &Decision) -> Fate {
        match decision {
            Decision::Forward | Decision::ForwardUnlessSsh => self.fate,
            // What becomes of a channel that can be inspected is not decided here.
            Decision::Inspect(_) | Decision::Refuse { .. } => self.if_refused,
        }
    }

    /// Whether it is a channel that is permitted and that the observer can refuse.
    pub(super) const fn is_wanted_open(&self) -> bool {
        matches!((self.fate, self.if_refused), (Fate::Forward, Fate::RefuseOpen))
    }
}

/// Decides about a message that changes more than a byte count.
pub(super) fn judge(from: Side, seen: Seen<'_>, permissions: SshPermissions) -> Judged {
    match seen {
        Seen::Open { channel, kind } => open(from, channel, kind, permissions),
        Seen::OpenFailed { channel } => tell(Some(events::never_opened(channel))),
        Seen::Dismissed { channel } => {
            let fate = Fate::Dismiss(channel);
            Judged { fate, if_refused: fate, event: None }
        }
        Seen::Request { channel, in_session, request } => match from {
            Side::Downstream => match misplaced(request).filter(|_| !in_session) {
                Some(what) => refused(Fate::RefuseRequest, Some(channel), what),
                None => asked_of_target(channel, request, permissions),
            },
            Side::Upstream => tell(events::exit(channel, request)),
        },
        Seen::Global(request) => global(from, request, permissions),
        Seen::OwnReply { .. } => Judged { fate: Fate::Keep, if_refused: Fate::Keep, event: None },
        Seen::Closed { channel } => tell(Some(events::closed(&channel))),
        Seen::Data { .. } | Seen::Window { .. } | Seen::Stray | Seen::Other => tell(None),
    }
}

/// Forwards in any case.
const fn tell(event: Option<RecordEvent>) -> Judged {
    Judged { fate: Fate::Forward, if_refused: Fate::Forward, event }
}

/// Forwards unless the observer refuses, which looks like `if_refused`.
const fn ask(if_refused: Fate, event: Option<RecordEvent>) -> Judged {
    Judged { fate: Fate::Forward, if_refused, event }
}

fn refused(fate: Fate, channel: Option<ChannelId>, what: impl Into<String>) -> Judged {
    let channel = channel.map(|channel| ChannelNumber(channel.0));
    Judged { fate, if_refused: fate, event: Some(RecordEvent::Refused { channel, what: what.into() }) }
}

fn open(from: Side, channel: ChannelId, kind: OpenKind<'_>, permissions: SshPermissions) -> Judged {
    let permitted = match kind {
        // RFC 4254 section 6.1: clients should refuse these; each would cost a file here.
        OpenKind::Session => from == Side::Downstream,
        // What is not known may be a tunnel, as `tun@openssh.com` is.
        OpenKind::DirectTcpip { .. }
        | OpenKind::ForwardedTcpip { .. }
        | OpenKind::DirectStreamlocal { .. }
        | OpenKind::ForwardedStreamlocal { .. }
        | OpenKind::Other { .. } => permissions.port_forwarding,
        OpenKind::Agent => permissions.agent_forwarding,
        OpenKind::X11 { .. } => permissions.x11_forwarding,
    };
    let kind = events::channel_kind(kind);
    if !permitted {
        return refused(Fate::RefuseOpen, None, events::describe(&kind));
    }
    let channel = ChannelNumber(channel.0);
    ask(Fate::RefuseOpen, Some(RecordEvent::ChannelOpen { channel, source: source(from), kind }))
}

/// What belongs into a session channel alone (RFC 4254 section 6), the only kind whose streams are recorded: a
/// target may run it elsewhere too.
const fn misplaced(request: Request<'_>) -> Option<&'static str> {
    match request {
        Request::Pty(_) => Some("terminal outside a session channel"),
        Request::Shell => Some("shell outside a session channel"),
        Request::Exec { .. } => Some("command outside a session channel"),
        Request::Subsystem { .. } => Some("subsystem outside a session channel"),
        Request::X11
        | Request::Agent
        | Request::Env { .. }
        | Request::WindowChange { .. }
        | Request::Signal { .. }
        | Request::ExitStatus { .. }
        | Request::ExitSignal { .. }
        | Request::Other { .. } => None,
    }
}

fn asked_of_target(channel: ChannelId, request: Request<'_>, permissions: SshPermissions) -> Judged {
    let withheld = match request {
        Request::Pty(_) => (!permissions.pty).then_some("terminal"),
        Request::X11 => (!permissions.x11_forwarding).then_some("X11 forwarding"),
        Request::Agent => (!permissions.agent_forwarding).then_some("agent forwarding"),
        Request::Exec { command } => Program::of_exec(command)
            .filter(|program| !permissions.file_transfer.cover(program.needed()))
            .map(|program| program.describe()),
        Request::Env { .. }
        | Request::Shell
        | Request::Subsystem { .. }
        | Request::WindowChange { .. }
        | Request::Signal { .. }
        | Request::ExitStatus { .. }
        | Request::ExitSignal { .. }
        | Request::Other { .. } => None,
    };
    match withheld {
        Some(what) => {
            let program = matches!(request, Request::Exec { .. });
            let fate = if program { Fate::RefuseProgram(what) } else { Fate::RefuseRequest };
            refused(fate, Some(channel), what)
        }
        None => ask(Fate::RefuseRequest, events::asked(channel, request)),
    }
}

fn global(from: Side, request: GlobalRequest<'_>, permissions: SshPermissions) -> Judged {
    match (from, request) {
        // The user knows the target by derived keys, never by its own.
        (_, GlobalRequest::HostKeys { .. } | GlobalRequest::HostKeysProve) => {
            Judged { fate: Fate::Conceal, if_refused: Fate::Conceal, event: None }
        }
        (Side::Downstream, GlobalRequest::TcpipForward { .. } | GlobalRequest::StreamlocalForward { .. })
            if !permissions.port_forwarding =>
        {
            refused(Fate::RefuseRequest, None, events::describe_forward(request))
        }
        (Side::Downstream, request) => ask(Fate::RefuseRequest, events::forward(request)),
        (Side::Upstream, _) => tell(None),
    }
}

#[cfg(test)]
mod tests {
    use portreeve_core::infrastructure::TransferRights;
    use portreeve_core::record::ChannelKind;
    use portreeve_ssh::relay::PtyRequest;

    use super::*;

    const CHANNEL: ChannelId = ChannelId(3);
    const ALL: SshPermissions = SshPermissions::ALL;
    const NONE: SshPermissions = SshPermissions::NONE;

    fn request(from: Side, request: Request<'_>, permissions: SshPermissions) -> Judged {
        judge(from, Seen::Request { channel: CHANNEL, in_session: true, request }, permissions)
    }

    fn opened(from: Side, kind: OpenKind<'_>, permissions: SshPermissions) -> Judged {
        judge(from, Seen::Open { channel: CHANNEL, kind }, permissions)
    }

    #[test]
    fn each_permission_governs_its_own_requests() {
        let pty = Request::Pty(PtyRequest { term: b"vt100", width: 80, height: 24, modes: b"" });
        let table = [
            (pty, SshPermissions { pty: true, ..NONE }),
            (Request::X11, SshPermissions { x11_forwarding: true, ..NONE }),
            (Request::Agent, SshPermissions { agent_forwarding: true, ..NONE }),
        ];
        for (asked, needed) in table {
            assert_eq!(request(Side::Downstream, asked, NONE).fate, Fate::RefuseRequest, "{asked:?}");
            assert_eq!(request(Side::Downstream, asked, needed).fate, Fate::Forward, "{asked:?}");
        }
        let exec = Request::Exec { command: b"id" };
        assert_eq!(request(Side::Downstream, exec, NONE).fate, Fate::Forward);
    }

    #[test]
    fn programs_that_move_files_need_the_right_of_their_direction() {
        let upload = TransferRights { upload: true, download: false };
        let granted = SshPermissions { file_transfer: upload, ..NONE };
        for (command, fate) in [
            (&b"scp -t x"[..], Fate::Forward),
            (b"scp -f x", Fate::RefuseProgram("download by scp")),
            (b"rsync --server . x", Fate::Forward),
            (b"rsync --server --sender . x", Fate::RefuseProgram("download by rsync")),
            (b"/usr/lib/sftp-server", Fate::Forward),
            (b"cat x", Fate::Forward),
        ] {
            let asked = request(Side::Downstream, Request::Exec { command }, granted);
            assert_eq!(asked.fate, fate, "{}", command.escape_ascii());
        }
        let refused = request(Side::Downstream, Request::Exec { command: b"scp -f x" }, granted).event;
        let what = String::from("download by scp");
        assert_eq!(refused, Some(RecordEvent::Refused { channel: Some(ChannelNumber(3)), what }));
    }

    #[test]
    fn programs_and_their_terminals_belong_into_session_channels() {
        let pty = Request::Pty(PtyRequest { term: b"vt100", width: 80, height: 24, modes: b"" });
        let elsewhere = |request| {
            judge(Side::Downstream, Seen::Request { channel: CHANNEL, in_session: false, request }, ALL).fate
        };
        for asked in
            [pty, Request::Shell, Request::Exec { command: b"id" }, Request::Subsystem { name: b"sftp" }]
        {
            assert_eq!(elsewhere(asked), Fate::RefuseRequest, "{asked:?}");
            assert_eq!(request(Side::Downstream, asked, ALL).fate, Fate::Forward, "{asked:?}");
        }
        assert_eq!(elsewhere(Request::Other { name: b"keepalive@openssh.com" }), Fate::Forward);
    }

    #[test]
    fn each_permission_governs_its_own_channels() {
        let tcp = OpenKind::DirectTcpip {
            destination: b"db",
            destination_port: 5432,
            originator: b"",
            originator_port: 0,
        };
        let tunnel = OpenKind::Other { channel_type: b"tun@openssh.com" };
        for kind in [tcp, tunnel, OpenKind::ForwardedStreamlocal { path: b"/x" }] {
            let needed = SshPermissions { port_forwarding: true, ..NONE };
            assert_eq!(opened(Side::Downstream, kind, NONE).fate, Fate::RefuseOpen);
            assert_eq!(opened(Side::Downstream, kind, needed).fate, Fate::Forward);
        }
        let what = String::from("forward to db:5432");
        assert_eq!(
            opened(Side::Downstream, tcp, NONE).event,
            Some(RecordEvent::Refused { channel: None, what })
        );
        let needed = SshPermissions { agent_forwarding: true, ..NONE };
        assert_eq!(opened(Side::Upstream, OpenKind::Agent, needed).fate, Fate::Forward);
        assert_eq!(opened(Side::Upstream, OpenKind::Agent, NONE).fate, Fate::RefuseOpen);
        let session = opened(Side::Downstream, OpenKind::Session, NONE);
        let channel = ChannelNumber(3);
        let event = RecordEvent::ChannelOpen {
            channel,
            source: source(Side::Downstream),
            kind: ChannelKind::Session,
        };
        assert_eq!(session, ask(Fate::RefuseOpen, Some(event)));
    }

    #[test]
    fn forwards_need_the_permission_and_their_end_does_not() {
        let begin = GlobalRequest::TcpipForward { listen: b"", port: 80 };
        let refused = judge(Side::Downstream, Seen::Global(begin), NONE);
        let what = String::from("remote forward of :80");
        let event = Some(RecordEvent::Refused { channel: None, what });
        assert_eq!((refused.fate, refused.event), (Fate::RefuseRequest, event));
        assert_eq!(judge(Side::Downstream, Seen::Global(begin), ALL).fate, Fate::Forward);
        let cancel = GlobalRequest::CancelTcpipForward { listen: b"", port: 80 };
        assert_eq!(judge(Side::Downstream, Seen::Global(cancel), NONE).fate, Fate::Forward);
    }

    #[test]
    fn a_target_cannot_put_words_into_the_users_mouth() {
        let silent = |judged: Judged| judged.fate == Fate::Forward && judged.event.is_none();
        for asked in [Request::Exec { command: b"rm" }, Request::Shell, Request::Agent] {
            assert!(silent(request(Side::Upstream, asked, NONE)), "{asked:?}");
        }
        let status = Request::ExitStatus { status: 0 };
        assert!(silent(request(Side::Downstream, status, ALL)));
        assert!(request(Side::Upstream, status, ALL).event.is_some());
        let forwarded = GlobalRequest::TcpipForward { listen: b"", port: 80 };
        assert!(silent(judge(Side::Upstream, Seen::Global(forwarded), NONE)));
    }

    #[test]
    fn the_observer_can_refuse_what_is_asked_and_not_what_is_told() {
        let exec = request(Side::Downstream, Request::Exec { command: b"id" }, ALL);
        let refuse = Decision::Refuse { text: "no".into() };
        assert_eq!(exec.after(&Decision::Forward), Fate::Forward);
        assert_eq!(exec.after(&refuse), Fate::RefuseRequest);
        let session = opened(Side::Downstream, OpenKind::Session, ALL);
        assert_eq!(session.after(&refuse), Fate::RefuseOpen);
        let exit = request(Side::Upstream, Request::ExitStatus { status: 0 }, ALL);
        assert_eq!(exit.after(&refuse), Fate::Forward);
    }

    #[test]
    fn host_keys_of_the_target_stay_hidden() {
        for request in [GlobalRequest::HostKeys { keys: b"" }, GlobalRequest::HostKeysProve] {
            for side in [Side::Upstream, Side::Downstream] {
                assert_eq!(judge(side, Seen::Global(request), ALL).fate, Fate::Conceal);
            }
        }
    }
}
