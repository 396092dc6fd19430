//! Forged sources. The flow is intercepted or dropped, whoever it says it is from.
//!
//! Where the gateway answers a source behind its other interface, the answer, a SYN and ACK of its
//! own, reaches the server: it carries nothing of the client's, and the server answers with a reset.
//! Where the source is one of the gateway's own IPv6 addresses, it resets its own answer towards the
//! target; the kernel drops such sources of IPv4 as martians.

use std::net::IpAddr;

use portreeve_tests::frames::{self, RST, TCP, Tcp};
use portreeve_tests::topology::{CLIENT4, CLIENT6, STRANGER4, TARGET4, TARGET6};

use super::super::case::{Case, Family, Fate, Lan, MARK, marked};

/// Sources, whether a router forwards such packets, and what becomes of them. A strict reverse path
/// for targets makes every [`Fate::Reflected`] here [`Fate::Closed`].
const SOURCES: [(&str, bool, Fate); 24] = [
    ("10.1.1.77", true, Fate::Closed),
    ("10.1.1.1", false, Fate::Closed),
    ("10.1.2.1", false, Fate::Closed),
    ("10.1.2.3", true, Fate::Reflected),
    ("10.1.2.4", true, Fate::Reflected),
    ("10.1.2.77", true, Fate::Reflected),
    ("127.0.0.1", false, Fate::Closed),
    ("0.0.0.0", false, Fate::Closed),
    ("0.1.2.3", true, Fate::Closed),
    ("255.255.255.255", false, Fate::Closed),
    ("10.1.1.255", true, Fate::Closed),
    ("224.0.0.1", false, Fate::Closed),
    ("240.0.0.1", true, Fate::Closed),
    ("192.0.2.1", true, Fate::Closed),
    ("fd00:1:1::77", true, Fate::Closed),
    ("fd00:1:1::1", true, Fate::Reflected),
    ("fd00:1:2::1", true, Fate::Reflected),
    ("fd00:1:2::3", true, Fate::Reflected),
    ("fd00:1:2::4", true, Fate::Reflected),
    ("fe80::99", false, Fate::Closed),
    ("::1", false, Fate::Closed),
    ("::", false, Fate::Closed),
    ("ff02::1", false, Fate::Closed),
    ("::ffff:10.1.1.99", true, Fate::Closed),
];

pub(super) fn cases(lan: &Lan) -> Vec<Case> {
    let known = [IpAddr::V4(CLIENT4), STRANGER4.into(), CLIENT6.into()];
    let known = known.map(|src| (src, true, Fate::Closed));
    let parsed = |(src, forwarded, fate): &(&str, bool, Fate)| Some((src.parse().ok()?, *forwarded, *fate));
    let all = SOURCES.iter().filter_map(parsed).chain(known);
    all.map(|(src, forwarded, fate)| {
        let dst: IpAddr = if src.is_ipv4() { TARGET4.into() } else { TARGET6.into() };
        // The reset ends what the SYN may have begun, so that the gateway repeats no answer later.
        let reset = Tcp { sequence: marked(RST).sequence + 1, payload: MARK.to_vec(), ..marked(RST) };
        let reset = frames::packet(src, dst, TCP, &reset.bytes(src, dst));
        let sent = lan.frames(&[Family::syn_between(src, dst), reset]);
        Case { forwarded, ..Case::closed(format!("SYN from {src}"), sent).with_fate(fate) }
    })
    .collect()
}
