//! What stands before the packet: hardware addresses, EtherTypes, tags, other framings.

use portreeve_tests::frames::{CUSTOMER, IPV4, IPV6, Mac, SERVICE, Tag, ethernet, tagged};

use super::super::case::{Case, FAMILIES, Family, Lan, ethertype};
use super::super::scene::GHOST;

/// Priority 5, VID 0.
const PRIORITY: u16 = 5 << 13;

/// Tags, and whether the stack takes them off without a VLAN device.
const TAGS: [(&[Tag], bool); 18] = [
    (&[(CUSTOMER, 0)], true),
    (&[(CUSTOMER, PRIORITY)], true),
    (&[(SERVICE, 0)], true),
    (&[(CUSTOMER, 0), (CUSTOMER, 0)], true),
    (&[(SERVICE, 0), (CUSTOMER, 0)], true),
    (&[(CUSTOMER, 0), (SERVICE, PRIORITY)], true),
    (&[(CUSTOMER, 0), (SERVICE, 0), (CUSTOMER, 0)], true),
    (&[(CUSTOMER, 0); 4], true),
    (&[(CUSTOMER, 0); 5], true),
    (&[(SERVICE, 0); 9], true),
    (&[(CUSTOMER, 1)], false),
    (&[(CUSTOMER, 10)], false),
    (&[(CUSTOMER, 0xfff)], false),
    (&[(SERVICE, 10)], false),
    (&[(CUSTOMER, 0), (CUSTOMER, 10)], false),
    (&[(SERVICE, 10), (CUSTOMER, 20)], false),
    (&[(0x9100, 0)], false),
    (&[(0x9200, 0), (CUSTOMER, 0)], false),
];

pub(super) fn cases(lan: &Lan) -> Vec<Case> {
    FAMILIES.iter().flat_map(|family| of_family(lan, family)).collect()
}

fn of_family(lan: &Lan, family: &Family) -> Vec<Case> {
    let plain = lan.frame(&family.syn());
    let mut cases = Vec::new();
    for (tags, forwarded) in TAGS {
        let case = Case::closed(format!("{}: tags {tags:x?}", family.name), vec![tagged(&plain, tags)]);
        cases.push(Case { forwarded, ..case });
    }
    cases.extend(addresses(lan, family));
    cases.extend(framings(lan, family));
    cases
}

fn addresses(lan: &Lan, family: &Family) -> Vec<Case> {
    let packet = family.syn();
    let frame = |dst, src| vec![ethernet(dst, src, ethertype(&packet), &packet)];
    let to: [(&str, Mac); 7] = [
        ("the server's hardware address", lan.server),
        ("somebody's hardware address", [2, 0, 0, 0, 0, 0x42]),
        ("broadcast", [0xff; 6]),
        ("IPv4 multicast", [1, 0, 0x5e, 0, 0, 1]),
        ("IPv6 multicast", [0x33, 0x33, 0, 0, 0, 1]),
        ("the bridges' address", [1, 0x80, 0xc2, 0, 0, 0]),
        ("no hardware address", [0; 6]),
    ];
    let from: [(&str, Mac); 5] = [
        ("somebody", [2, 0, 0, 0, 0, 0x42]),
        ("the server", lan.server),
        ("the gateway", lan.gateway),
        ("broadcast", [0xff; 6]),
        ("nobody", [0; 6]),
    ];
    let to = to.map(|(name, mac)| {
        Case::closed(format!("{}: to {name}", family.name), frame(mac, GHOST)).for_nobody()
    });
    let from = from
        .map(|(name, mac)| Case::closed(format!("{}: from {name}", family.name), frame(lan.gateway, mac)));
    to.into_iter().chain(from).collect()
}

/// The packet under another name, or behind what a router may know how to take off.
fn framings(lan: &Lan, family: &Family) -> Vec<Case> {
    let packet = family.syn();
    let [high, low] = ethertype(&packet).to_be_bytes();
    let snap = [0xaa, 0xaa, 3, 0, 0, 0, high, low];
    let point_to_point = if high == 8 { 0x21 } else { 0x57 };
    let inner = lan.frame(&packet);
    let framings: [(&str, u16, &[u8]); 17] = [
        ("the other family", if high == 8 { IPV6 } else { IPV4 }, &[]),
        ("IEEE 802.3 with LLC and SNAP", 48, &snap),
        ("IEEE 802.3 with LLC", 48, &[6, 6, 3]),
        ("IEEE 802.3, raw", 48, &[0xff, 0xff]),
        ("EtherType 0", 0, &[]),
        ("EtherType 0x05ff", 0x05ff, &[]),
        ("ARP", 0x0806, &[]),
        ("MPLS, one label", 0x8847, &[0, 1, 1, 64]),
        ("MPLS, explicit null", 0x8847, &[0, 0, if high == 8 { 1 } else { 0x21 }, 64]),
        ("MPLS multicast", 0x8848, &[0, 1, 1, 64]),
        ("PPPoE", 0x8864, &[0x11, 0, 0, 1, 0, 62, 0, point_to_point]),
        ("MACsec", 0x88e5, &[0x0c, 0, 0, 0, 0, 1]),
        ("loopback", 0x9000, &[0, 0, 1, 0]),
        ("HSR", 0x892f, &[0x10, 0x48, 0, 1, high, low]),
        ("TRILL", 0x22f3, &[0, 0x40, 0, 1, 0, 2]),
        ("Ethernet in Ethernet", 0x6558, &inner[..14]),
        ("a backbone tag", 0x88e7, &[&[0, 0, 0, 1][..], &inner[..14]].concat()),
    ];
    framings
        .into_iter()
        .map(|(name, ethertype, before)| {
            let frame = ethernet(lan.gateway, GHOST, ethertype, &[before, &packet].concat());
            Case::closed(format!("{}: as {name}", family.name), vec![frame]).for_nobody()
        })
        .collect()
}
