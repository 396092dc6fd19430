//! What can be wrong with a peer.

use std::io;

use portreeve_core::transfer::sftp::SftpFault;
use portreeve_ssh::host_key::HostKeyError;
use portreeve_ssh::packet::PacketError;
use portreeve_ssh::relay::RelayError;
use portreeve_ssh::transport::TransportError;
use portreeve_ssh::userauth::client::ClientAuthError;
use portreeve_ssh::userauth::server::AuthError;
use portreeve_ssh::wire::{PayloadTooLong, WireError};
use thiserror::Error;

/// A violation of the protocol, or a failure below it.
#[derive(Debug, Error)]
pub enum ProtocolFault {
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The transport layer (RFC 4253).
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Authentication in the server role (RFC 4252).
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Authentication in the client role (RFC 4252).
    #[error(transparent)]
    ClientAuth(#[from] ClientAuthError),
    /// A key of ours cannot be used.
    #[error(transparent)]
    Key(#[from] HostKeyError),
    /// A message of a session that does not fit (RFC 4254).
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// Data of an sftp channel that cannot be judged.
    #[error(transparent)]
    Sftp(#[from] SftpFault),
    /// A message that cannot be read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A message that cannot be written.
    #[error(transparent)]
    TooLong(#[from] PayloadTooLong),
    /// Something else came where the keys of the connection are due.
    #[error("the key exchange ended without a host key")]
    NoHostKey,
}

impl From<PacketError> for ProtocolFault {
    fn from(error: PacketError) -> Self {
        Self::Transport(error.into())
    }
}
