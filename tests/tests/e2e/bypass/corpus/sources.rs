//! Forged sources. What is to a target is intercepted where its source is behind the interface, and else
//! dropped, whoever it says it is from.
//!
//! Not even an answer of the gateway's own reaches the networks that are forged.

use std::net::IpAddr;

use portreeve_tests::frames::{self, RST, TCP, Tcp};
use portreeve_tests::topology::{CLIENT4, CLIENT6, STRANGER4, TARGET4, TARGET6};

use super::super::case::{Case, Family, Lan, MARK, marked};

/// Sources, and whether a router forwards such packets.
const SOURCES: [(&str, bool); 24] = [
    ("10.1.1.77", true),
    ("10.1.1.1", false),
    ("10.1.2.1", false),
    ("10.1.2.3", true),
    ("10.1.2.4", true),
    ("10.1.2.77", true),
    ("127.0.0.1", false),
    ("0.0.0.0", false),
    ("0.1.2.3", true),
    ("255.255.255.255", false),
    ("10.1.1.255", true),
    ("224.0.0.1", false),
    ("240.0.0.1", true),
    ("192.0.2.1", true),
    ("fd00:1:1::77", true),
    ("fd00:1:1::1", true),
    ("fd00:1:2::1", true),
    ("fd00:1:2::3", true),
    ("fd00:1:2::4", true),
    ("fe80::99", false),
    ("::1", false),
    ("::", false),
    ("ff02::1", false),
    ("::ffff:10.1.1.99", true),
];

pub(super) fn cases(lan: &Lan) -> Vec<Case> {
    let known = [IpAddr::V4(CLIENT4), STRANGER4.into(), CLIENT6.into()].map(|src| (src, true));
    let parsed = |(src, forwarded): &(&str, bool)| Some((src.parse().ok()?, *forwarded));
    let all = SOURCES.iter().filter_map(parsed).chain(known);
    all.map(|(src, forwarded)| {
        let dst: IpAddr = if src.is_ipv4() { TARGET4.into() } else { TARGET6.into() };
        // The reset ends what the SYN may have begun, so that the gateway repeats no answer later.
        let reset = Tcp { sequence: marked(RST).sequence + 1, payload: MARK.to_vec(), ..marked(RST) };
        let reset = frames::packet(src, dst, TCP, &reset.bytes(src, dst));
        let sent = lan.frames(&[Family::syn_between(src, dst), reset]);
        Case { forwarded, ..Case::closed(format!("SYN from {src}"), sent) }
    })
    .collect()
}
