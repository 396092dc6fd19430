//! Whether the main routing table decides about what crosses the host, and what it does not know.
//!
//! It does when the kernel's own rules are the only ones that a packet without a mark can meet (ip-rule(8)),
//! and the local table has nothing but single addresses. Steering's own rule wants a mark. Routes of the main
//! table themselves are not looked at: the program asks for them.

use std::collections::BTreeSet;
use std::io;

use nix::libc;
use portreeve_ebpf::fast_path::{MAX_LOCAL, Routing};
use portreeve_ebpf::targets::Words;
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::super::netlink::{ask, attribute, find, kinds, number};

/// Bytes of `struct fib_rule_hdr` and of `struct rtmsg`, in both of which the family is the first.
const HEADER: usize = 12;
const LOCAL: u64 = 255;
const MAIN: u64 = 254;
const DEFAULT: u64 = 253;

/// The addresses of the local table, as the program has them, when everything else is for the main table
/// to decide; `None` when rules or the local table have more to say.
///
/// # Errors
/// When the kernel does not tell, for example because it has no such family.
pub(super) fn only_main(routing: Routing) -> io::Result<Option<BTreeSet<Words>>> {
    let family = match routing {
        Routing::V4 => libc::AF_INET,
        Routing::V6 => libc::AF_INET6,
    };
    let mut header = [0; HEADER];
    if let Some(first) = header.first_mut() {
        *first = u8::try_from(family).map_err(io::Error::other)?;
    }
    if !are_plain(&ask(NETLINK_ROUTE, libc::RTM_GETRULE, NLM_F_DUMP, &header)?) {
        return Ok(None);
    }
    let table = u32::try_from(LOCAL).map_err(io::Error::other)?;
    let request = [&header[..], &attribute(libc::RTA_TABLE, &table.to_ne_bytes())].concat();
    let routes = ask(NETLINK_ROUTE, libc::RTM_GETROUTE, NLM_F_DUMP, &request)?;
    let mut found = BTreeSet::new();
    for route in routes.iter().filter(|route| table_of(route, libc::RTA_TABLE) == Some(LOCAL)) {
        match destination(routing, route) {
            Destination::One(address) => found.insert(address),
            Destination::NeverForwarded => continue,
            Destination::Many => return Ok(None),
        };
    }
    Ok(usize::try_from(MAX_LOCAL).is_ok_and(|most| found.len() <= most).then_some(found))
}

/// Whether packets without a mark meet the local table, the main one, and at most the default one after
/// it, and nothing else; the kernel lists rules in the order in which it asks them.
fn are_plain(rules: &[Vec<u8>]) -> bool {
    let tables: Option<Vec<u64>> =
        rules.iter().filter(|rule| !wants_mark(rule)).map(|rule| plain(rule)).collect();
    tables.is_some_and(|tables| tables == [LOCAL, MAIN, DEFAULT] || tables == [LOCAL, MAIN])
}

/// Whether a rule is only for packets with a mark (`FRA_FWMARK`, `FRA_FWMASK`).
fn wants_mark(rule: &[u8]) -> bool {
    const MARK: u16 = 10;
    const MASK: u16 = 16;
    let value = |kind| find(rule.get(HEADER..).unwrap_or_default(), kind).and_then(number);
    !is_inverted(rule) && value(MARK).unwrap_or(0) & value(MASK).unwrap_or(u64::from(u32::MAX)) != 0
}

fn is_inverted(rule: &[u8]) -> bool {
    const INVERT: u32 = 2;
    let flags = rule.get(8..HEADER).and_then(number).and_then(|flags| u32::try_from(flags).ok());
    flags.is_none_or(|flags| flags & INVERT != 0)
}

/// The table that a rule sends all packets to; `None` when it asks or does anything else.
fn plain(rule: &[u8]) -> Option<u64> {
    /// `FRA_PRIORITY`, `FRA_SUPPRESS_PREFIXLEN` (which is said when it is none, too), `FRA_TABLE`,
    /// `FRA_PROTOCOL`.
    const TABLE: u16 = 15;
    const SUPPRESS: u16 = 14;
    const HARMLESS: [u16; 4] = [6, SUPPRESS, TABLE, 21];
    /// Lengths of destination and source, type of service, then `FR_ACT_TO_TBL`.
    const TO_TABLE: u8 = 1;
    let [_, 0, 0, 0, _, _, _, TO_TABLE, ..] = rule else { return None };
    let attributes = rule.get(HEADER..)?;
    let all_harmless = kinds(attributes).iter().all(|kind| HARMLESS.contains(kind));
    let suppresses = find(attributes, SUPPRESS).is_some_and(|length| length != [0xff; 4]);
    (all_harmless && !suppresses && !is_inverted(rule)).then(|| table_of(rule, TABLE)).flatten()
}

/// The table of a rule or route: an attribute, or when it is small the fifth byte.
fn table_of(message: &[u8], kind: u16) -> Option<u64> {
    find(message.get(HEADER..)?, kind).and_then(number).or_else(|| message.get(4).copied().map(u64::from))
}

/// What a route of the local table leads to.
#[derive(Debug, PartialEq, Eq)]
enum Destination {
    One(Words),
    /// Loopback, link-local or multicast, which the program leaves to the stack by itself.
    NeverForwarded,
    Many,
}

fn destination(routing: Routing, route: &[u8]) -> Destination {
    let attributes = route.get(HEADER..).unwrap_or_default();
    let address = find(attributes, libc::RTA_DST).unwrap_or_default();
    let length = route.get(1).copied().map_or(0, usize::from);
    match (routing, address) {
        (Routing::V4, [127 | 224..=255, ..]) | (Routing::V6, [0xfe..=0xff, ..]) if length >= 8 => {
            Destination::NeverForwarded
        }
        _ if !address.is_empty() && length == 8 * address.len() => {
            let mut words = Words::default();
            for (word, bytes) in words.iter_mut().zip(address.as_chunks().0) {
                *word = u32::from_ne_bytes(*bytes);
            }
            Destination::One(words)
        }
        _ => Destination::Many,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule to a table with more attributes.
    fn rule(table: u32, more: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        let suppress = (14, &[0xff; 4][..]);
        for (kind, value) in [(15, &table.to_ne_bytes()[..]), suppress].iter().chain(more) {
            bytes.extend(attribute(*kind, value));
        }
        bytes
    }

    fn with(mut rule: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
        rule[at] = value;
        rule
    }

    #[test]
    fn the_kernels_own_rules_are_plain() {
        let (local, main, default) = (rule(255, &[]), rule(254, &[(6, &[0; 4])]), rule(253, &[(21, &[2])]));
        let marked = rule(99, &[(10, &1_u32.to_ne_bytes()), (16, &[0xff; 4])]);
        assert!(are_plain(&[local.clone(), main.clone(), default.clone()]));
        assert!(are_plain(&[local.clone(), main.clone()]));
        assert!(are_plain(&[local.clone(), marked.clone(), main.clone(), marked.clone()]));
        for others in [
            vec![],
            vec![local.clone()],
            vec![main.clone(), local.clone()],
            vec![local.clone(), rule(99, &[]), main.clone()],
            vec![local.clone(), main.clone(), rule(99, &[])],
            // A source, an interface, the whole of a mark's opposite, a mask of nothing, a prohibition.
            vec![local.clone(), with(rule(99, &[(2, &[10, 0, 0, 0])]), 2, 8), main.clone()],
            vec![local.clone(), rule(99, &[(3, b"lan0\0")]), main.clone()],
            vec![local.clone(), with(marked.clone(), 8, 2), main.clone()],
            vec![local.clone(), rule(99, &[(10, &1_u32.to_ne_bytes()), (16, &[0; 4])]), main.clone()],
            vec![local.clone(), with(rule(0, &[]), 7, 8), main.clone()],
            // The main table without its default route.
            vec![local.clone(), with(rule(254, &[]), 16 + 8, 0), default.clone()],
            vec![local.clone(), with(rule(254, &[]), 20 + 4, 0), default],
            vec![local, with(main, 3, 0x10)],
        ] {
            assert!(!are_plain(&others), "{others:?}");
        }
    }

    #[test]
    fn local_destinations_are_single_addresses_or_never_forwarded() {
        let route = |length: u8, address: &[u8]| {
            let bytes = [2, length, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0];
            [&bytes[..], &attribute(libc::RTA_DST, address)].concat()
        };
        let one = Words::from([u32::from_ne_bytes([10, 0, 0, 1]), 0, 0, 0]);
        assert_eq!(destination(Routing::V4, &route(32, &[10, 0, 0, 1])), Destination::One(one));
        assert_eq!(destination(Routing::V4, &route(8, &[127, 0, 0, 0])), Destination::NeverForwarded);
        assert_eq!(destination(Routing::V4, &route(24, &[10, 0, 0, 0])), Destination::Many);
        assert_eq!(destination(Routing::V4, &route(1, &[128, 0, 0, 0])), Destination::Many);
        assert_eq!(destination(Routing::V4, &route(0, &[])[..HEADER]), Destination::Many);
        let mut address = [0; 16];
        address[..2].copy_from_slice(&[0xfd, 1]);
        let one = Words::from([u32::from_ne_bytes([0xfd, 1, 0, 0]), 0, 0, 0]);
        assert_eq!(destination(Routing::V6, &route(128, &address)), Destination::One(one));
        assert_eq!(destination(Routing::V6, &route(64, &address)), Destination::Many);
        address[..2].copy_from_slice(&[0xff, 0]);
        assert_eq!(destination(Routing::V6, &route(8, &address)), Destination::NeverForwarded);
    }
}
