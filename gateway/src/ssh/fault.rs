//! What the SSH library reports when a connection goes wrong.
//!
//! Keeps russh's error type inside `ssh`: callers see text and source chain only.

use std::io::ErrorKind;

use thiserror::Error;

/// A violation of the protocol or a failure below it.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct ProtocolFault(#[from] russh::Error);

/// How a handshake failed, the same for both sides.
#[derive(Debug)]
pub(super) enum HandshakeFault {
    /// The connection ended.
    Closed,
    /// What answers is no SSH.
    NotSsh,
    /// Nothing in common; the kind of algorithm and what the peer has.
    NoCommonAlgorithm { kind: &'static str, theirs: String },
    /// Anything else.
    Protocol(ProtocolFault),
}

impl From<russh::Error> for HandshakeFault {
    fn from(error: russh::Error) -> Self {
        use russh::Error as E;
        if let E::NoCommonAlgo { kind, theirs, .. } = &error {
            return Self::NoCommonAlgorithm { kind: kind_name(kind), theirs: theirs.join(",") };
        }
        if matches!(error, E::Version) {
            return Self::NotSsh;
        }
        let lost = |kind| {
            matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        };
        let closed =
            matches!(&error, E::Disconnect | E::HUP) || matches!(&error, E::IO(io) if lost(io.kind()));
        if closed { Self::Closed } else { Self::Protocol(error.into()) }
    }
}

fn kind_name(kind: &russh::AlgorithmKind) -> &'static str {
    match kind {
        russh::AlgorithmKind::Kex => "key exchange",
        russh::AlgorithmKind::Key => "host key",
        russh::AlgorithmKind::Cipher => "cipher",
        russh::AlgorithmKind::Compression => "compression",
        russh::AlgorithmKind::Mac => "MAC",
    }
}
