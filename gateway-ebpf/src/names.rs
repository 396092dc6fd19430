//! Names in the object file: programs, maps, globals, and the slots of the listener map.

/// TC classifier on the ingress of every matched interface.
pub const TC_PROGRAM: &str = "portreeve_tc";
/// Socket lookup of the network namespace, for connection attempts that meet a TIME_WAIT socket.
pub const SK_LOOKUP_PROGRAM: &str = "portreeve_sk";

/// Hash: [`TargetKey`](crate::targets::TargetKey) to [`PortSetId`](crate::targets::PortSetId).
pub const TARGETS: &str = "TARGETS";
/// LPM trie: [`PrefixKey`](crate::targets::PrefixKey) to [`PortSetId`](crate::targets::PortSetId).
pub const PREFIXES: &str = "PREFIXES";
/// Array: [`PortSetId`](crate::targets::PortSetId) to [`PortBits`](crate::targets::PortBits).
pub const PORT_SETS: &str = "PORT_SETS";
/// Socket map: [`SLOT_V4`] and [`SLOT_V6`] to the listening sockets.
pub const LISTENERS: &str = "LISTENERS";
/// Per-CPU array: index of a [`Reason`](crate::stats::Reason) to a packet count.
pub const STATS: &str = "STATS";

/// Maps that are pinned, so that they outlive the daemon.
pub const PINNED_MAPS: [&str; 5] = [TARGETS, PREFIXES, PORT_SETS, LISTENERS, STATS];

/// Global, `u32`: firewall mark of steered packets.
pub const MARK: &str = "MARK";
/// Global, `u8`: 0 lets packets to targets come in on any interface.
pub const REVERSE_PATH: &str = "REVERSE_PATH";
/// Global, `u8`, defined by aya-log: 0 removes all logging when the program is verified.
pub const LOG_LEVEL: &str = "AYA_LOG_LEVEL";

/// Slot of the IPv4 listener.
pub const SLOT_V4: u32 = 0;
/// Slot of the IPv6 listener.
pub const SLOT_V6: u32 = 1;
