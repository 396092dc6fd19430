//! ICMP: errors about flows to the target, and redirects. They may pass, as ICMP.

use std::net::IpAddr;

use portreeve_tests::frames::{self, checksum, octets};

use super::super::case::{Case, FAMILIES, Family, Fate, Lan};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Type and code of IPv4's errors: unreachable, source quench, redirect, time exceeded, parameters.
const ERRORS4: [(u8, u8); 12] =
    [(3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 13), (4, 0), (5, 0), (5, 1), (11, 0), (11, 1), (12, 0)];
/// Type and code of IPv6's: unreachable, too big, time exceeded, parameters, and an unknown one.
const ERRORS6: [(u8, u8); 8] = [(1, 0), (1, 1), (1, 4), (2, 0), (3, 0), (4, 0), (4, 1), (100, 0)];

pub(super) fn cases(lan: &Lan) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in &FAMILIES {
        let kinds: &[_] = if family.src.is_ipv4() { &ERRORS4 } else { &ERRORS6 };
        for &(kind, code) in kinds {
            for (about, embedded) in [("to", family.syn()), ("from", answered(family))] {
                let error = message(family.src, family.target, [kind, code], &embedded);
                let name = format!("{}: error {kind}.{code} about a flow {about} the target", family.name);
                cases.push(Case::closed(name, vec![lan.frame(&error)]).with_fate(Fate::NotTcp));
            }
        }
    }
    cases.extend(redirects(lan));
    cases
}

/// What the target would send back.
fn answered(family: &Family) -> Vec<u8> {
    Family::syn_between(family.target, family.src)
}

/// An ICMP message of either family; a packet too big says 1280 (RFC 1191, RFC 8201).
fn message(src: IpAddr, dst: IpAddr, [kind, code]: [u8; 2], embedded: &[u8]) -> Vec<u8> {
    let protocol = if src.is_ipv4() { ICMP } else { ICMPV6 };
    body(src, dst, &[&[kind, code, 0, 0, 0, 0, 5, 0][..], embedded].concat(), protocol)
}

fn body(src: IpAddr, dst: IpAddr, bytes: &[u8], protocol: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let length = u16::try_from(bytes.len()).unwrap_or_default().to_be_bytes();
    let pseudo = match src {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(_) => [octets(src), octets(dst), length.to_vec(), vec![0, protocol]].concat(),
    };
    let sum = checksum(&[pseudo, bytes.clone()].concat());
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    frames::packet(src, dst, protocol, &bytes)
}

/// Redirects that send the target's packets elsewhere, to whoever may believe them; and a SYN after.
fn redirects(lan: &Lan) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in &FAMILIES {
        for (to, dst) in [("the gateway", family.gateway), ("the target", family.target)] {
            let redirect = match family.src {
                IpAddr::V4(_) => {
                    let head = [&[5, 1, 0, 0][..], &octets(family.src)].concat();
                    body(family.src, dst, &[head, family.syn()].concat(), ICMP)
                }
                // RFC 4861, section 4.5: the target's next hop is the ghost.
                IpAddr::V6(_) => {
                    let addresses = [octets(family.src), octets(family.target)].concat();
                    body(family.src, dst, &[&[137, 0, 0, 0, 0, 0, 0, 0][..], &addresses].concat(), ICMPV6)
                }
            };
            let name = format!("{}: a redirect to {to}", family.name);
            let forwarded = dst == family.target && family.src.is_ipv4();
            let case = Case::closed(name.clone(), vec![lan.frame(&redirect)]).with_fate(Fate::NotTcp);
            cases.push(Case { forwarded, ..case });
            cases.push(Case::closed(format!("{name}, then a SYN"), vec![lan.frame(&family.syn())]));
        }
    }
    cases
}
