//! What became of a packet: index of the counters.

/// The outcome of one packet; every packet that the TC program sees counts for exactly one.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Untouched: not for a target.
    PassedNotTarget = 0,
    /// To a target, given to the socket of a known connection.
    SteeredEstablished = 1,
    /// To a target, given to a socket that is in TIME_WAIT, or to the listener in its place.
    SteeredTimeWait = 2,
    /// To a target, given to the listener.
    SteeredNew = 3,
    /// From a target, given to the socket that dialled it.
    SteeredReturn = 4,
    /// An ICMP error about a packet of ours, delivered here.
    SteeredError = 5,
    /// Dropped: nobody listens for targets.
    DroppedNoListener = 6,
    /// Dropped: fragment of a TCP segment to a target's address.
    DroppedFragment = 7,
    /// Dropped: to a target's address, and the chain of headers could not be read up to TCP; or under
    /// so many tags that nobody can say for whom.
    DroppedUnparsable = 8,
    /// Dropped: to a target, from a source that is not behind the interface.
    DroppedReversePath = 9,
    /// Dropped: a device would write a checksum into its headers.
    DroppedSum = 10,
    /// Dropped: a new flow to a target, above what all sources may begin.
    DroppedRate = 11,
    /// Dropped: a new flow to a target, above what its source may begin.
    DroppedSourceRate = 12,
    /// Dropped: a new flow to a target, which a network policy blocks by its addresses and ports. Where it
    /// is a SYN, the sender gets a reset.
    DroppedPolicy = 13,
    /// Dropped: the kernel refused the socket.
    DroppedAssignFailed = 14,
}

impl Reason {
    /// All reasons, in the order of their index.
    pub const ALL: [Self; 15] = [
        Self::PassedNotTarget,
        Self::SteeredEstablished,
        Self::SteeredTimeWait,
        Self::SteeredNew,
        Self::SteeredReturn,
        Self::SteeredError,
        Self::DroppedNoListener,
        Self::DroppedFragment,
        Self::DroppedUnparsable,
        Self::DroppedReversePath,
        Self::DroppedSum,
        Self::DroppedRate,
        Self::DroppedSourceRate,
        Self::DroppedPolicy,
        Self::DroppedAssignFailed,
    ];

    /// Index of the counter.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Name for people and metrics.
    #[inline(always)]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PassedNotTarget => "passed_not_target",
            Self::SteeredEstablished => "steered_established",
            Self::SteeredTimeWait => "steered_time_wait",
            Self::SteeredNew => "steered_new",
            Self::SteeredReturn => "steered_return",
            Self::SteeredError => "steered_error",
            Self::DroppedNoListener => "dropped_no_listener",
            Self::DroppedFragment => "dropped_fragment",
            Self::DroppedUnparsable => "dropped_unparsable",
            Self::DroppedReversePath => "dropped_reverse_path",
            Self::DroppedSum => "dropped_sum",
            Self::DroppedRate => "dropped_rate",
            Self::DroppedSourceRate => "dropped_source_rate",
            Self::DroppedPolicy => "dropped_policy",
            Self::DroppedAssignFailed => "dropped_assign_failed",
        }
    }
}

/// Number of reasons.
pub const REASONS: u32 = 15;
const _: () = assert!(Reason::ALL.len() == REASONS as usize);

/// Index of the counter of frames for targets, counted where they are found to be so and before anything is
/// decided about them: segments to targets, and what may be a part of one. Those that the kernel refused to
/// give to the socket that dialled are among them, since [`Reason::DroppedAssignFailed`] does not say which.
pub const SEEN: u32 = REASONS;
/// Index of the counter of connection attempts: SYNs that were given to the listener, or to a socket in
/// TIME_WAIT. An attempt that is repeated while its first SYN waits to be accepted is one of a connection.
pub const ATTEMPTS: u32 = REASONS + 1;
/// Number of counters.
pub const COUNTERS: u32 = REASONS + 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_index_order() {
        for (index, reason) in (0..).zip(Reason::ALL) {
            assert_eq!(reason.index(), index, "{}", reason.name());
        }
    }
}
