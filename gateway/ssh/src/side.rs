//! The two sides of a connection and what goes between them.
//!
//! Vocabulary only: RFC 4253 calls the side that dialled the client, whoever of us that is.

/// Who we are on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that dialled.
    Client,
    /// The side that shows a host key.
    Server,
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// What the client sends.
    ClientToServer,
    /// What the server sends.
    ServerToClient,
}
