//! Frames that a virtual machine leaves to others to finish: segments to cut, and sums to write.
//!
//! Such a frame comes with a `struct virtio_net_hdr`, and keeps what it says on its way over virtual
//! interfaces (veth, tap, virtio) up to a device that does the work.

use portreeve_tests::frames::{
    ETHERNET, IPV4_HEADER, IPV6_HEADER, Ipv4, Ipv6, PSH, SYN, TCP, TCP_HEADER, Tcp, UDP, checksum,
};
use portreeve_tests::topology::{OPEN6, SSH_PORT, TARGET4, TARGET6};
use portreeve_tests::wire::Deferred;

use super::case::{Case, FAMILIES, Lan, MARK, marked};
use super::scene::{GHOST4, GHOST6};

/// Offset of the checksum in a TCP header.
const TCP_SUM: u16 = 16;

/// Segments to the target that are cut on their way.
pub(super) fn segments(lan: &Lan) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in &FAMILIES {
        let (kind, header) = if family.src.is_ipv4() { (1, IPV4_HEADER) } else { (4, IPV6_HEADER) };
        for (name, flags) in [("SYN", SYN), ("data", PSH)] {
            let segment = Tcp { payload: MARK.repeat(700), ..marked(flags) };
            let frame = lan.frame(&family.packet(&segment));
            let start = length(ETHERNET + header);
            let deferred = Deferred {
                checksum: Some((start, TCP_SUM)),
                segments: Some((kind, start + length(TCP_HEADER), 1000)),
            };
            let case = Case::closed(format!("{}: {name} to be cut into segments", family.name), vec![frame]);
            cases.push(Case { deferred: Some(deferred), ..case });
        }
    }
    cases
}

/// Frames that are not for a target, until their sum is written where the port, the address or the protocol is.
pub(super) fn rewritten(lan: &Lan) -> Vec<Case> {
    let port =
        rewritten_port(lan).map(|(frame, sum)| ("IPv4: the port is written by the device", frame, sum));
    let address =
        rewritten_address(lan).map(|(frame, sum)| ("IPv6: the address is written by the device", frame, sum));
    let protocol = rewritten_protocol(lan)
        .map(|(frame, sum)| ("IPv6: the protocol is written by the device", frame, sum));
    [port, address, protocol]
        .into_iter()
        .flatten()
        .map(|(name, frame, sum)| {
            let deferred = Deferred { checksum: Some(sum), segments: None };
            Case { deferred: Some(deferred), ..Case::closed(name, vec![frame]) }
        })
        .collect()
}

type Rewritten = (Vec<u8>, (u16, u16));

/// To port 7 of the target. The identification is chosen for the sum: summing begins behind it, and
/// the header's checksum, which is summed, depends on it.
fn rewritten_port(lan: &Lan) -> Option<Rewritten> {
    const START: usize = ETHERNET + 6;
    const PORT: usize = ETHERNET + IPV4_HEADER + 2;
    let mut segment = marked(SYN).bytes(GHOST4.into(), TARGET4.into());
    segment[2..4].copy_from_slice(&7u16.to_be_bytes());
    let frame = |id| lan.frame(&Ipv4 { id, ..Ipv4::new(GHOST4, TARGET4, TCP) }.packet(&segment));
    let frame = (0..=u16::MAX).map(frame).find(|frame| checksum(&frame[START..]) == SSH_PORT)?;
    Some((frame, (length(START), length(PORT - START))))
}

/// To the address that is no target. The source is chosen for the sum: it is summed by TCP alone.
fn rewritten_address(lan: &Lan) -> Option<Rewritten> {
    const START: usize = ETHERNET + IPV6_HEADER - 2;
    let [.., wanted] = TARGET6.segments();
    let frame = |host: u16| {
        let mut src = GHOST6.segments();
        src[7] = host;
        let src = src.into();
        let segment = marked(SYN).bytes(std::net::IpAddr::V6(src), TARGET6.into());
        lan.frame(&Ipv6::new(src, OPEN6, TCP).packet(&segment))
    };
    let frame = (1..=u16::MAX).map(frame).find(|frame| checksum(&frame[START..]) == wanted)?;
    Some((frame, (length(START), 0)))
}

/// UDP to the target, in whose place TCP is named. The source is chosen for the sum, which has the hop limit as the
/// gateway leaves it.
fn rewritten_protocol(lan: &Lan) -> Option<Rewritten> {
    const START: usize = ETHERNET + 6;
    const HOP_LIMIT: usize = START + 1;
    let frame = |host: u16| {
        let mut src = GHOST6.segments();
        src[7] = host;
        let src = src.into();
        let segment = marked(SYN).bytes(std::net::IpAddr::V6(src), TARGET6.into());
        lan.frame(&Ipv6::new(src, TARGET6, UDP).packet(&segment))
    };
    let becomes_tcp = |frame: &Vec<u8>| {
        let mut sent = frame.clone();
        sent[HOP_LIMIT] -= 1;
        let [protocol, hops] = checksum(&sent[START..]).to_be_bytes();
        protocol == TCP && hops > 0
    };
    Some(((1..=u16::MAX).map(frame).find(becomes_tcp)?, (length(START), 0)))
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}
