//! Which channels are forwards.

use super::ChannelKind;
use crate::infrastructure::forwarding::{Forward, ForwardKind};

impl ChannelKind {
    /// The forward that the channel is, if it leads from the user to the target's side.
    pub fn forward(&self) -> Option<Forward<'_>> {
        match self {
            Self::DirectTcpip { destination, destination_port, .. } => Some(Forward {
                kind: ForwardKind::Local,
                destination: &destination.0,
                port: *destination_port,
            }),
            Self::DirectStreamlocal { path } => {
                Some(Forward { kind: ForwardKind::LocalSocket, destination: &path.0, port: 0 })
            }
            Self::Session
            | Self::ForwardedTcpip { .. }
            | Self::ForwardedStreamlocal { .. }
            | Self::Agent
            | Self::X11 { .. }
            | Self::Other { .. } => None,
        }
    }
}
