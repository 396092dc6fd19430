//! Segments in pieces, such as the server's stack puts together.

use portreeve_tests::frames::{
    DESTINATION_OPTIONS, Extension, FRAGMENT, Ipv4, Ipv6, SYN, TCP, Tcp, UDP, extension, fragment_extension,
    udp,
};

use super::super::case::{Case, FAMILIES, Fate, Lan, MARK, header4, header6, marked, segment4, segment6};

const MORE4: u16 = 0x2000;
const MORE6: u16 = 1;

/// A piece: offset in units of eight bytes, whether more follow, and its bytes.
type Piece<'a> = (u16, bool, &'a [u8]);

pub(super) fn cases(lan: &Lan) -> Vec<Case> {
    let payload = MARK.repeat(8);
    let (whole4, whole6) = (segment4(SYN, &payload), segment6(SYN, &payload));
    let mut cases = Vec::new();
    for (number, (name, pieces)) in (1..).zip(sets(&whole4)) {
        let packets: Vec<_> = pieces.iter().map(|piece| v4(number, TCP, piece)).collect();
        cases.push(Case::closed(format!("IPv4 fragments: {name}"), lan.frames(&packets)));
        let options = |piece| Ipv4 { options: vec![1; 8], ..piece_header4(number, TCP, piece) };
        let packets: Vec<_> = pieces.iter().map(|piece| options(piece).packet(piece.2)).collect();
        cases.push(Case::closed(format!("IPv4 fragments with options: {name}"), lan.frames(&packets)));
    }
    for (number, (name, pieces)) in (1..).zip(sets(&whole6)) {
        for (kind, chain) in [("", vec![]), (" behind options", vec![extension(DESTINATION_OPTIONS)])] {
            let packets: Vec<_> = pieces.iter().map(|piece| v6(number, &chain, TCP, piece)).collect();
            cases.push(Case::closed(format!("IPv6 fragments{kind}: {name}"), lan.frames(&packets)));
        }
    }
    cases.extend(odd4(lan));
    cases.extend(odd6(lan));
    cases.extend(too_long(lan));
    cases
}

/// Ways to cut a segment of 52 bytes.
fn sets(whole: &[u8]) -> Vec<(&'static str, Vec<Piece<'_>>)> {
    vec![
        ("a tiny first", vec![(0, true, &whole[..8]), (1, false, &whole[8..])]),
        (
            "the flags in the second",
            vec![(0, true, &whole[..8]), (1, true, &whole[8..16]), (2, false, &whole[16..])],
        ),
        ("the header in the first", vec![(0, true, &whole[..24]), (3, false, &whole[24..])]),
        ("last first", vec![(3, false, &whole[24..]), (0, true, &whole[..24])]),
        ("the first alone", vec![(0, true, &whole[..24])]),
        ("the last alone", vec![(3, false, &whole[24..])]),
        ("twice the first", vec![(0, true, &whole[..24]), (0, true, &whole[..24]), (3, false, &whole[24..])]),
        ("overlapping by eight bytes", vec![(0, true, &whole[..24]), (2, false, &whole[16..])]),
        ("the second over the first", vec![(0, true, &whole[..24]), (0, false, whole)]),
        ("an empty second", vec![(0, true, &whole[..24]), (3, true, &[]), (3, false, &whole[24..])]),
        ("a hole", vec![(0, true, &whole[..24]), (4, false, &whole[32..])]),
        (
            "pieces of eight bytes",
            (0u16..).zip(whole.chunks(8)).map(|(at, piece)| (at, at < 6, piece)).collect(),
        ),
        ("the greatest offset", vec![(0x1fff, false, &whole[..7])]),
    ]
}

fn piece_header4(id: u16, protocol: u8, (offset, more, _): &Piece<'_>) -> Ipv4 {
    Ipv4 { id, fragment: offset | if *more { MORE4 } else { 0 }, ..header4(protocol) }
}

fn v4(id: u16, protocol: u8, piece: &Piece<'_>) -> Vec<u8> {
    piece_header4(id, protocol, piece).packet(piece.2)
}

fn v6(id: u32, chain: &[Extension], last: u8, (offset, more, bytes): &Piece<'_>) -> Vec<u8> {
    let mut chain = chain.to_vec();
    chain.push(fragment_extension(offset << 3 | if *more { MORE6 } else { 0 }, id));
    Ipv6 { chain, ..header6(last) }.packet(bytes)
}

/// A benign first piece, and one over it that is not; flags that no packet has.
fn odd4(lan: &Lan) -> Vec<Case> {
    let whole = segment4(SYN, &MARK.repeat(8));
    let benign = Tcp { dst_port: 7, payload: MARK.repeat(8), ..marked(SYN) };
    let benign = benign.bytes(FAMILIES[0].src, FAMILIES[0].target);
    let three = |id, [first, over, last]: [&[u8]; 3]| {
        lan.frames(&[
            v4(id, TCP, &(0, true, first)),
            v4(id, TCP, &(0, true, over)),
            v4(id, TCP, &(3, false, last)),
        ])
    };
    let over = three(100, [&benign[..24], &whole[..24], &whole[24..]]);
    let under = three(101, [&whole[..24], &benign[..24], &whole[24..]]);
    let reserved = Ipv4 { fragment: 0x8000, ..header4(TCP) }.packet(&whole);
    let contrary = Ipv4 { fragment: MORE4 | 0x4000, ..header4(TCP) }.packet(&whole[..24]);
    let mixed = [v4(102, UDP, &(0, true, &whole[..24])), v4(102, TCP, &(3, false, &whole[24..]))];
    vec![
        Case::closed("IPv4 fragments: the port rewritten by an overlap", over),
        Case::closed("IPv4 fragments: an overlap with another port", under),
        Case::closed("IPv4: the reserved flag", lan.frames(&[reserved])),
        Case::closed("IPv4: more fragments, but do not fragment", lan.frames(&[contrary])),
        // Pieces of two protocols are never one packet (RFC 791, section 3.2).
        Case::closed("IPv4 fragments: UDP first, then TCP", lan.frames(&mixed)).with_fate(Fate::NotTcp),
    ]
}

fn odd6(lan: &Lan) -> Vec<Case> {
    let whole = segment6(SYN, &MARK.repeat(8));
    let atomic = |chain: &[Extension]| v6(200, chain, TCP, &(0, false, &whole));
    let options = extension(DESTINATION_OPTIONS);
    let mut inside = options.1.clone();
    inside[0] = TCP;
    let hidden = [&inside[..], &whole].concat();
    let nested = [fragment_extension(0, 201), fragment_extension(0, 202)];
    let nested = Ipv6 { chain: nested.to_vec(), ..header6(TCP) }.packet(&whole);
    let mut reserved = atomic(&[]);
    reserved[41] = 0xff;
    reserved[43] |= 6;
    let datagram = udp(FAMILIES[1].src, FAMILIES[1].target, 22, &MARK);
    let another = [v6(205, &[], TCP, &(0, true, &whole[..24])), v6(205, &[], UDP, &(3, false, &whole[24..]))];
    let first_lies = [v6(206, &[], UDP, &(0, true, &datagram[..8])), v6(206, &[], TCP, &(1, false, &whole))];
    let mut self_named = atomic(&[]);
    self_named[40] = FRAGMENT;
    let first = v6(203, &[], DESTINATION_OPTIONS, &(0, true, &hidden[..8]));
    let second = v6(203, &[], DESTINATION_OPTIONS, &(1, false, &hidden[8..]));
    let tail = v6(204, &[], DESTINATION_OPTIONS, &(1, false, &hidden[8..]));
    vec![
        Case::closed("IPv6: an atomic fragment", lan.frames(&[atomic(&[])])),
        Case::closed("IPv6: an atomic fragment behind options", lan.frames(&[atomic(&[options])])),
        Case::closed("IPv6: an atomic fragment in another", lan.frames(&[nested])),
        Case::closed("IPv6: reserved bits of a fragment header", lan.frames(&[reserved])),
        Case::closed("IPv6 fragments: options in the first, TCP in the second", lan.frames(&[first, second])),
        Case::closed("IPv6 fragments: the second alone, which names options", lan.frames(&[tail])),
        Case::closed("IPv6: a fragment header that names itself", lan.frames(&[self_named])),
        // The first piece says what the whole is (RFC 8200, section 4.5).
        Case::closed("IPv6 fragments: the second names UDP", lan.frames(&another)).with_fate(Fate::NotTcp),
        Case::closed("IPv6 fragments: the first names UDP", lan.frames(&first_lies)).with_fate(Fate::NotTcp),
    ]
}

/// Longer than the way to the server: a router cuts IPv4 itself, and refuses IPv6.
fn too_long(lan: &Lan) -> Vec<Case> {
    let cases = FAMILIES.map(|family| {
        let segment = Tcp { payload: MARK.repeat(750), ..marked(SYN) };
        let name = format!("{}: longer than the way to the server", family.name);
        let case = Case::closed(name, vec![lan.frame(&family.packet(&segment))]);
        Case { forwarded: family.src.is_ipv4(), ..case }
    });
    cases.to_vec()
}
