//! Requests and channel types, read as far as policy and recording need them.
//!
//! Texts are bytes (RFC 4251 section 5). What is not known is kept by name and crosses all the same.

use crate::wire::{Reader, WireError};

/// What a channel is asked for (RFC 4254 sections 6.1, 6.3.2, 7.2; OpenSSH's PROTOCOL file).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the RFC, by name")]
pub enum OpenKind<'a> {
    /// `session`.
    Session,
    /// `direct-tcpip`.
    DirectTcpip { destination: &'a [u8], destination_port: u32, originator: &'a [u8], originator_port: u32 },
    /// `forwarded-tcpip`.
    ForwardedTcpip { listen: &'a [u8], listen_port: u32, originator: &'a [u8], originator_port: u32 },
    /// `direct-streamlocal@openssh.com`.
    DirectStreamlocal { path: &'a [u8] },
    /// `forwarded-streamlocal@openssh.com`.
    ForwardedStreamlocal { path: &'a [u8] },
    /// `auth-agent@openssh.com`, or `auth-agent` of older clients.
    Agent,
    /// `x11`.
    X11 { originator: &'a [u8], originator_port: u32 },
    /// Any other type.
    Other { channel_type: &'a [u8] },
}

/// A terminal that is asked for (RFC 4254 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PtyRequest<'a> {
    /// The TERM value.
    pub term: &'a [u8],
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Encoded terminal modes (RFC 4254 section 8).
    pub modes: &'a [u8],
}

/// A request on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the RFC, by name")]
pub enum Request<'a> {
    /// `pty-req`.
    Pty(PtyRequest<'a>),
    /// `x11-req`.
    X11,
    /// `auth-agent-req@openssh.com`.
    Agent,
    /// `env`.
    Env { name: &'a [u8], value: &'a [u8] },
    /// `shell`.
    Shell,
    /// `exec`.
    Exec { command: &'a [u8] },
    /// `subsystem`.
    Subsystem { name: &'a [u8] },
    /// `window-change`.
    WindowChange { width: u32, height: u32 },
    /// `signal`.
    Signal { name: &'a [u8] },
    /// `exit-status`.
    ExitStatus { status: u32 },
    /// `exit-signal`.
    ExitSignal { signal: &'a [u8], core_dumped: bool, error_msg: &'a [u8] },
    /// Any other request.
    Other { name: &'a [u8] },
}

/// A request of the whole connection (RFC 4254 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the RFC, by name")]
pub enum GlobalRequest<'a> {
    /// `tcpip-forward`.
    TcpipForward { listen: &'a [u8], port: u32 },
    /// `cancel-tcpip-forward`.
    CancelTcpipForward { listen: &'a [u8], port: u32 },
    /// `streamlocal-forward@openssh.com`.
    StreamlocalForward { path: &'a [u8] },
    /// `cancel-streamlocal-forward@openssh.com`.
    CancelStreamlocalForward { path: &'a [u8] },
    /// `hostkeys-00@openssh.com`: all host keys of a server, as blobs.
    HostKeys { keys: &'a [u8] },
    /// `hostkeys-prove-00@openssh.com`.
    HostKeysProve,
    /// Any other request.
    Other { name: &'a [u8] },
}

impl<'a> OpenKind<'a> {
    /// Reads what follows the fields that every CHANNEL_OPEN has.
    pub(super) fn read(channel_type: &'a [u8], mut rest: Reader<'a>) -> Result<Self, WireError> {
        Ok(match channel_type {
            b"session" => Self::Session,
            b"direct-tcpip" => Self::DirectTcpip {
                destination: rest.string()?,
                destination_port: rest.u32()?,
                originator: rest.string()?,
                originator_port: rest.u32()?,
            },
            b"forwarded-tcpip" => Self::ForwardedTcpip {
                listen: rest.string()?,
                listen_port: rest.u32()?,
                originator: rest.string()?,
                originator_port: rest.u32()?,
            },
            b"direct-streamlocal@openssh.com" => Self::DirectStreamlocal { path: rest.string()? },
            b"forwarded-streamlocal@openssh.com" => Self::ForwardedStreamlocal { path: rest.string()? },
            b"auth-agent@openssh.com" | b"auth-agent" => Self::Agent,
            b"x11" => Self::X11 { originator: rest.string()?, originator_port: rest.u32()? },
            _ => Self::Other { channel_type },
        })
    }
}

impl<'a> Request<'a> {
    /// Reads what follows the recipient of a CHANNEL_REQUEST.
    pub(super) fn read(mut rest: Reader<'a>) -> Result<Self, WireError> {
        let name = rest.name()?;
        rest.boolean()?;
        Ok(match name {
            b"pty-req" => {
                let term = rest.string()?;
                let (width, height) = (rest.u32()?, rest.u32()?);
                rest.u32()?;
                rest.u32()?;
                Self::Pty(PtyRequest { term, width, height, modes: rest.string()? })
            }
            b"x11-req" => Self::X11,
            b"auth-agent-req@openssh.com" | b"auth-agent-req" => Self::Agent,
            b"env" => Self::Env { name: rest.string()?, value: rest.string()? },
            b"shell" => Self::Shell,
            b"exec" => Self::Exec { command: rest.string()? },
            b"subsystem" => Self::Subsystem { name: rest.string()? },
            b"window-change" => Self::WindowChange { width: rest.u32()?, height: rest.u32()? },
            b"signal" => Self::Signal { name: rest.string()? },
            b"exit-status" => Self::ExitStatus { status: rest.u32()? },
            b"exit-signal" => Self::ExitSignal {
                signal: rest.string()?,
                core_dumped: rest.boolean()?,
                error_msg: rest.string()?,
            },
            _ => Self::Other { name },
        })
    }
}

impl<'a> GlobalRequest<'a> {
    /// Reads what follows the number of a GLOBAL_REQUEST.
    pub(super) fn read(mut rest: Reader<'a>) -> Result<Self, WireError> {
        let name = rest.name()?;
        rest.boolean()?;
        Ok(match name {
            b"tcpip-forward" => Self::TcpipForward { listen: rest.string()?, port: rest.u32()? },
            b"cancel-tcpip-forward" => Self::CancelTcpipForward { listen: rest.string()?, port: rest.u32()? },
            b"streamlocal-forward@openssh.com" => Self::StreamlocalForward { path: rest.string()? },
            b"cancel-streamlocal-forward@openssh.com" => {
                Self::CancelStreamlocalForward { path: rest.string()? }
            }
            b"hostkeys-00@openssh.com" => Self::HostKeys { keys: rest.rest() },
            b"hostkeys-prove-00@openssh.com" => Self::HostKeysProve,
            _ => Self::Other { name },
        })
    }
}
