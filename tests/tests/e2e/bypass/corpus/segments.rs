//! What TCP says of itself: flags, options, lengths, checksums. No router looks at it.

use portreeve_tests::frames::{ACK, FIN, IPV4_HEADER, IPV6_HEADER, PSH, RST, SYN, Tcp, URG};

use super::super::case::{Case, FAMILIES, Family, Lan, MARK, marked};

const FLAGS: [(&str, u8); 20] = [
    ("SYN", SYN),
    ("SYN and ACK", SYN | ACK),
    ("ACK of nothing", ACK),
    ("FIN", FIN),
    ("FIN and ACK", FIN | ACK),
    ("RST", RST),
    ("RST and ACK", RST | ACK),
    ("PSH and ACK", PSH | ACK),
    ("URG", URG),
    ("no flag", 0),
    ("FIN, PSH and URG", FIN | PSH | URG),
    ("SYN and FIN", SYN | FIN),
    ("SYN and RST", SYN | RST),
    ("SYN and PSH", SYN | PSH),
    ("SYN and URG", SYN | URG),
    ("SYN, ECE and CWR", SYN | 0xc0),
    ("SYN, FIN, RST and ACK", SYN | FIN | RST | ACK),
    ("ECE alone", 0x40),
    ("CWR alone", 0x80),
    ("all flags", 0xff),
];

/// Kind and what it is; lengths may lie.
const OPTIONS: [(&str, &[u8]); 16] = [
    ("maximum segment size", &[2, 4, 5, 0xb4]),
    ("window scale and SACK permitted", &[1, 3, 3, 7, 4, 2, 0, 0]),
    ("time stamps", &[8, 10, 0, 0, 0, 1, 0, 0, 0, 0]),
    ("Fast Open without a cookie", &[34, 2]),
    ("Fast Open with a cookie", &[34, 10, 1, 2, 3, 4, 5, 6, 7, 8]),
    ("Fast Open, experimental kind", &[254, 12, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8]),
    ("Multipath TCP: capable", &[30, 4, 0x01, 0x81]),
    ("Multipath TCP: capable, with a key", &[30, 12, 0x00, 0x81, 1, 2, 3, 4, 5, 6, 7, 8]),
    ("Multipath TCP: join", &[30, 12, 0x10, 1, 1, 2, 3, 4, 5, 6, 7, 8]),
    ("MD5 signature", &[19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    ("authentication option", &[29, 16, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ("user timeout", &[28, 4, 0x80, 1]),
    ("an option of length 0", &[8, 0, 0, 0]),
    ("an option of length 1", &[8, 1, 0, 0]),
    ("an option longer than the header", &[8, 40, 0, 0]),
    ("forty bytes of nothing", &[1; 40]),
];

pub(super) fn cases(lan: &Lan) -> Vec<Case> {
    FAMILIES.iter().flat_map(|family| of_family(lan, family)).collect()
}

fn of_family(lan: &Lan, family: &Family) -> Vec<Case> {
    let case = |name: &str, segment: &Tcp| {
        Case::closed(format!("{}: {name}", family.name), vec![lan.frame(&family.packet(segment))])
    };
    let mut cases: Vec<_> = FLAGS.iter().map(|(name, flags)| case(name, &marked(*flags))).collect();
    for (name, options) in OPTIONS {
        cases.push(case(name, &Tcp { options: options.to_vec(), ..marked(SYN) }));
    }
    for (name, flags) in [("SYN with a payload", SYN), ("data of no connection", PSH | ACK)] {
        cases.push(case(name, &Tcp { payload: b"SSH-2.0-x\r\n".to_vec(), ..marked(flags) }));
    }
    let long = Tcp { payload: [MARK; 350].concat(), ..marked(SYN) };
    cases.push(case("SYN with as much as fits", &long));
    for port in [0, 22, 1, 9470, u16::MAX] {
        cases.push(case(&format!("from port {port}"), &Tcp { src_port: port, ..marked(SYN) }));
    }
    cases.extend(bytes_changed(lan, family));
    cases
}

/// Fields that lie.
fn bytes_changed(lan: &Lan, family: &Family) -> Vec<Case> {
    let header = if family.src.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
    let changes: [(&str, usize, &[u8]); 8] = [
        ("data offset 0", 12, &[0]),
        ("data offset 4", 12, &[0x40]),
        ("data offset beyond the segment", 12, &[0xf0]),
        ("reserved bits", 12, &[0x5f]),
        ("a wrong checksum", 16, &[0x12, 0x34]),
        ("a checksum of zero", 16, &[0, 0]),
        ("a window of zero", 14, &[0, 0]),
        ("an urgent pointer without its flag", 18, &[0xff, 0xff]),
    ];
    let change = |(name, at, bytes): (&str, usize, &[u8])| {
        let mut packet = family.syn();
        packet[header + at..header + at + bytes.len()].copy_from_slice(bytes);
        Case::closed(format!("{}: {name}", family.name), vec![lan.frame(&packet)])
    };
    changes.into_iter().map(change).collect()
}
