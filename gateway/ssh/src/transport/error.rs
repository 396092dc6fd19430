//! Why a connection is unusable, as its transport sees it.

use thiserror::Error;

use super::IdentificationError;
use crate::host_key::HostKeyError;
use crate::kex::KexError;
use crate::negotiation::NegotiationError;
use crate::packet::PacketError;
use crate::wire::WireError;

/// Why a connection is unusable.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The peer is no SSH 2 peer.
    #[error(transparent)]
    Identification(#[from] IdentificationError),
    /// A packet is malformed or was altered.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A message is malformed.
    #[error("the peer sent a malformed message {number}")]
    Message {
        /// Its number.
        number: u8,
        /// What is wrong with it.
        source: WireError,
    },
    /// No common algorithm.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The key exchange failed.
    #[error(transparent)]
    Kex(#[from] KexError),
    /// The host key or its signature is bad.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The host key of a later exchange is not that of the first.
    #[error("the server changed its host key within a connection")]
    HostKeyChanged,
    /// A message that is not allowed at this point.
    #[error("the peer sent message {0} where it is not allowed")]
    Unexpected(u8),
    /// The budget of an unauthenticated peer is used up.
    #[error("the peer sent too much before it was authenticated")]
    UnauthenticatedBudget,
    /// Too much is held back during a key exchange.
    #[error("too much is waiting for a key exchange to end")]
    Held,
    /// The random number generator failed.
    #[error("there is no randomness")]
    Random,
}
