//! Names in the object file: programs, maps, globals, and the slots of the listener map.

/// TC classifier on the ingress of every matched interface with Ethernet frames.
pub const TC_PROGRAM: &str = "portreeve_tc";
/// The same for interfaces whose packets begin with the IP header.
pub const TC_BARE_PROGRAM: &str = "portreeve_bare";
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

/// LRU hash: source, as a [`TargetKey`](crate::targets::TargetKey), to the time at which its bucket is empty.
pub const SOURCES: &str = "SOURCES";
/// Array of one: the same time for all sources.
pub const ALL_SOURCES: &str = "ALL_SOURCES";
/// Array: bank * [`MAX_RULES`](crate::rules::MAX_RULES) + index to [`Rule`](crate::rules::Rule).
pub const RULES: &str = "RULES";
/// Array of one: [`BankHeader`](crate::rules::BankHeader).
pub const RULES_IN_FORCE: &str = "RULES_IN_FORCE";
/// Per-CPU array: bank * [`MAX_RULES`](crate::rules::MAX_RULES) + policy to a packet count.
pub const POLICY_STATS: &str = "POLICY_STATS";
/// Ring buffer of [`BlockedFlow`](crate::rules::BlockedFlow); not pinned, since it has one reader.
pub const BLOCKED_FLOWS: &str = "BLOCKED_FLOWS";

/// Maps that are pinned, so that they outlive the daemon.
pub const PINNED_MAPS: [&str; 8] =
    [TARGETS, PREFIXES, PORT_SETS, LISTENERS, STATS, RULES, RULES_IN_FORCE, POLICY_STATS];

/// Global, `u32`: firewall mark of steered packets.
pub const MARK: &str = "MARK";
/// Global, `u8`: 0 lets packets to targets come in on any interface.
pub const REVERSE_PATH: &str = "REVERSE_PATH";
/// Global, `[u64; 2]`: nanoseconds between two new flows of all sources, and of a burst; 0 is no limit.
pub const RATE_OF_ALL: &str = "RATE_OF_ALL";
/// Global, `[u64; 2]`: the same for each source.
pub const RATE_OF_SOURCE: &str = "RATE_OF_SOURCE";
/// Global, `[u32; 5]`: bytes from the start of the kernel's `sk_buff` to its [members](SK_BUFF_MEMBERS).
pub const SK_BUFF: &str = "SK_BUFF";
/// The members that the programs read, in the order of [`SK_BUFF`].
pub const SK_BUFF_MEMBERS: [&str; 5] = ["head", "data", "csum_start", "csum_offset", "network_header"];
/// Global, `u8`, defined by aya-log: 0 removes all logging when the program is verified.
pub const LOG_LEVEL: &str = "AYA_LOG_LEVEL";

/// Slot of the IPv4 listener.
pub const SLOT_V4: u32 = 0;
/// Slot of the IPv6 listener.
pub const SLOT_V6: u32 = 1;

/// XDP program of the fast path.
pub const XDP_PROGRAM: &str = "portreeve_xdp";
/// Array: [`slot`](crate::fast_path::slot) of an interface to its [`FastInterface`](crate::fast_path::FastInterface).
pub const FAST_SLOTS: &str = "FAST_SLOTS";
/// Hash of devices: [egress key](crate::fast_path::FastInterface::egress_key) to the interface.
pub const FAST_EGRESSES: &str = "FAST_EGRESSES";
/// Hash: [`Vlan`](crate::fast_path::Vlan) to the [`FastInterface`](crate::fast_path::FastInterface) of its device.
pub const FAST_VLANS: &str = "FAST_VLANS";
/// Hash: index of a VLAN device to its [`Vlan`](crate::fast_path::Vlan).
pub const FAST_TAGS: &str = "FAST_TAGS";
/// Per-CPU array: index of a [`FastPathReason`](crate::fast_path::FastPathReason) to a frame count.
pub const FAST_STATS: &str = "FAST_STATS";
/// Array: [`Routing`](crate::fast_path::Routing) to the time (`CLOCK_MONOTONIC`, nanoseconds) until which the main
/// table decides for all that is not in the two maps that follow.
pub const FAST_MAIN_UNTIL: &str = "FAST_MAIN_UNTIL";
/// Hash: IPv4 addresses, as they are in memory, that the local table has.
pub const FAST_LOCAL_V4: &str = "FAST_LOCAL_V4";
/// Hash: the same for IPv6.
pub const FAST_LOCAL_V6: &str = "FAST_LOCAL_V6";

/// Maps of the fast path, which are pinned too.
pub const FAST_PATH_MAPS: [&str; 8] = [
    FAST_SLOTS,
    FAST_EGRESSES,
    FAST_VLANS,
    FAST_TAGS,
    FAST_STATS,
    FAST_MAIN_UNTIL,
    FAST_LOCAL_V4,
    FAST_LOCAL_V6,
];
