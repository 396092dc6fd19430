//! Single frames through the TC program, by `BPF_PROG_TEST_RUN`.
//!
//! There is no interface behind such a run, so the kernel refuses to assign a socket; what a
//! listener does with steered packets is for `steering` to show.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::{env, fs};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, SockMap};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use portreeve::datapath::Part;
use portreeve::datapath::plan::{MapContent, bits};
use portreeve::listener::socket::Listeners;
use portreeve_core::port::{PortRange, PortSet};
use portreeve_ebpf::names;
use portreeve_ebpf::stats::{COUNTERS, Reason, SEEN};
use portreeve_ebpf::targets::{ALL_PORTS, ANY_TARGET, PortBits, PortSetId, TargetKey};

use crate::frames::{
    ACK, AUTHENTICATION, CUSTOMER, DESTINATION_OPTIONS, HOP_BY_HOP, ICMPV6, MOBILITY, ROUTING, SERVICE, SYN,
    TCP, UDP, V4, datagram, ethernet, segment, tagged, tcp, udp, v6, v6_fragment,
};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("verdict_non_target_passes_untouched", non_target_passes_untouched),
    ("verdict_other_port_of_target_passes", other_port_of_target_passes),
    ("verdict_target_without_listener_is_dropped", target_without_listener_is_dropped),
    ("verdict_prefix_covers_its_addresses_only", prefix_covers_its_addresses_only),
    ("verdict_v4_fragments_to_target_are_dropped", v4_fragments_to_target_are_dropped),
    ("verdict_v6_fragments_to_target_are_dropped", v6_fragments_to_target_are_dropped),
    ("verdict_v4_options_hide_nothing", v4_options_hide_nothing),
    ("verdict_v6_extension_headers_hide_nothing", v6_extension_headers_hide_nothing),
    ("verdict_v6_unknown_chains_to_target_are_dropped", v6_unknown_chains_to_target_are_dropped),
    ("verdict_other_protocols_to_target_pass", other_protocols_to_target_pass),
    ("verdict_truncated_frames_to_target_never_pass", truncated_frames_to_target_never_pass),
    ("verdict_arp_and_foreign_ethertypes_pass", arp_and_foreign_ethertypes_pass),
    ("verdict_tags_in_the_frame_hide_nothing", tags_in_the_frame_hide_nothing),
    ("verdict_more_tags_than_are_walked_are_dropped", more_tags_than_are_walked_are_dropped),
    ("verdict_refused_assignment_is_dropped", refused_assignment_is_dropped),
    ("verdict_any_bytes_have_one_outcome", any_bytes_have_one_outcome),
    ("verdict_no_targets_pass_everything", no_targets_pass_everything),
];

const TARGET_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);
const OTHER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 3);
const TARGET_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 2, 0, 0, 0, 0, 0, 2);
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 2, 0, 0, 0, 0, 0, 3);
const PORT: u16 = 22;

const UNTOUCHED: i32 = -1;
const DROPPED: i32 = 2;

/// The loaded program, with maps of its own.
pub(crate) struct Bench {
    pub(crate) ebpf: Ebpf,
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    action: i32,
    pub(crate) reason: Reason,
}

impl Bench {
    pub(crate) fn new(targets: &[&str]) -> Self {
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global(names::MARK, &0x7072u32, true)
            .override_global(names::LOG_LEVEL, &0u8, true)
            // There is no interface for a source to be behind.
            .override_global(names::REVERSE_PATH, &0u8, true)
            .load(&object())
            .unwrap();
        let program: &mut SchedClassifier = ebpf.program_mut(names::TC_PROGRAM).unwrap().try_into().unwrap();
        program.load().unwrap();
        let mut bench = Self { ebpf };
        let steered = targets.iter().map(|text| target(text)).collect();
        bench.fill(&MapContent::of(&steered, &MapContent::default()).unwrap());
        bench
    }

    fn fill(&mut self, content: &MapContent) {
        let mut exact: HashMap<&mut MapData, TargetKey, PortSetId> =
            self.ebpf.map_mut(names::TARGETS).unwrap().try_into().unwrap();
        for (key, set) in &content.exact {
            exact.insert(key, set, 0).unwrap();
        }
        let mut prefixes: LpmTrie<&mut MapData, TargetKey, PortSetId> =
            self.ebpf.map_mut(names::PREFIXES).unwrap().try_into().unwrap();
        for (prefix, set) in &content.prefixes {
            prefixes.insert(&Key::new(prefix.bits, prefix.key), set, 0).unwrap();
        }
        let mut sets: Array<&mut MapData, PortBits> =
            self.ebpf.map_mut(names::PORT_SETS).unwrap().try_into().unwrap();
        for (id, ports) in &content.sets {
            sets.set(*id, bits(ports), 0).unwrap();
        }
        let mut all = bits(&content.all_ports);
        if content.entries() > 0 {
            all.insert(ANY_TARGET);
        }
        sets.set(ALL_PORTS, all, 0).unwrap();
    }

    /// Runs a frame; fails when it was changed, or when not exactly one counter moved by one.
    pub(crate) fn run(&self, frame: &[u8]) -> Verdict {
        let program: &SchedClassifier = self.ebpf.program(names::TC_PROGRAM).unwrap().try_into().unwrap();
        let before = self.counters();
        let mut out = vec![0; frame.len() + 64];
        let mut ctx = vec![0; 256];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_out: Some(&mut ctx),
                ..TestRunOptions::new()
            })
            .unwrap();
        out.truncate(result.data_size_out as usize);
        assert_eq!(out, frame, "the frame was changed");
        // `mark` is the third word of `struct __sk_buff`.
        assert_eq!(ctx[8..12], [0; 4], "a frame that is not steered was marked");
        let after = self.counters();
        let steps = after.iter().zip(&before).map(|(after, before)| after - before);
        let moved: Vec<_> = Reason::ALL.into_iter().zip(steps).filter(|(_, step)| *step != 0).collect();
        let [(reason, 1)] = moved[..] else { panic!("counters that moved: {moved:?}") };
        let seen = after[SEEN as usize] - before[SEEN as usize];
        assert_eq!(seen, u64::from(Part::of(reason).is_some()), "seen as a target's, and was {reason:?}");
        Verdict { action: result.return_value.cast_signed(), reason }
    }

    fn counters(&self) -> Vec<u64> {
        let stats: PerCpuArray<&MapData, u64> = self.ebpf.map(names::STATS).unwrap().try_into().unwrap();
        (0..COUNTERS).map(|index| stats.get(&index, 0).unwrap().iter().sum()).collect()
    }

    fn expect_pass(&self, frame: &[u8], what: &str) {
        let passed = Verdict { action: UNTOUCHED, reason: Reason::PassedNotTarget };
        assert_eq!(self.run(frame), passed, "{what}");
    }

    fn expect_drop(&self, frame: &[u8], reason: Reason, what: &str) {
        assert_eq!(self.run(frame), Verdict { action: DROPPED, reason }, "{what}");
    }
}

/// The object file that `cargo xtask build` made.
pub(crate) fn object() -> Vec<u8> {
    let path = env::var_os("PORTREEVE_DATAPATH_OBJECT").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/portreeve-datapath.o"),
        PathBuf::from,
    );
    let object = fs::read(&path).unwrap_or_default();
    assert!(!object.is_empty(), "no kernel programs in {}: run `cargo xtask build`", path.display());
    object
}

/// `ADDRESS/LENGTH@PORT,FIRST-LAST,..`.
pub(crate) fn target(text: &str) -> (IpNet, PortSet) {
    let (net, ports) = text.split_once('@').unwrap();
    let ports = ports.split(',').map(|range| range.parse::<PortRange>().unwrap()).collect();
    (net.parse().unwrap(), ports)
}

fn exact_targets() -> Bench {
    Bench::new(&["10.77.2.2/32@22", "fd77:2::2/128@22"])
}

fn both(v4: Ipv4Addr, v6: Ipv6Addr) -> [IpAddr; 2] {
    [v4.into(), v6.into()]
}

fn non_target_passes_untouched() -> Outcome {
    let bench = exact_targets();
    for dst in both(OTHER_V4, OTHER_V6) {
        for flags in [SYN, ACK, SYN | ACK] {
            bench.expect_pass(&segment(dst, PORT, flags), &format!("{dst}"));
        }
    }
    Ok(())
}

fn other_port_of_target_passes() -> Outcome {
    let bench = exact_targets();
    for dst in both(TARGET_V4, TARGET_V6) {
        for port in [0, 21, 23, 5632, u16::MAX] {
            bench.expect_pass(&segment(dst, port, SYN), &format!("{dst} port {port}"));
        }
    }
    Ok(())
}

fn target_without_listener_is_dropped() -> Outcome {
    let bench = exact_targets();
    for dst in both(TARGET_V4, TARGET_V6) {
        for flags in [SYN, ACK, SYN | ACK, 0, 0xff] {
            bench.expect_drop(
                &segment(dst, PORT, flags),
                Reason::DroppedNoListener,
                &format!("{dst} {flags}"),
            );
        }
    }
    Ok(())
}

fn prefix_covers_its_addresses_only() -> Outcome {
    let bench = Bench::new(&["10.77.2.0/25@22", "fd77:2::/64@22", "10.77.3.0/24@2222"]);
    for dst in ["10.77.2.0", "10.77.2.127", "fd77:2::1", "fd77:2::ffff:ffff"] {
        bench.expect_drop(&segment(dst.parse().unwrap(), 22, SYN), Reason::DroppedNoListener, dst);
    }
    for dst in ["10.77.2.128", "10.77.1.255", "10.77.3.1", "fd77:2:0:1::1", "fd77:1:ffff::1"] {
        bench.expect_pass(&segment(dst.parse().unwrap(), 22, SYN), dst);
    }
    bench.expect_drop(&segment("10.77.3.1".parse().unwrap(), 2222, SYN), Reason::DroppedNoListener, "2222");
    bench.expect_pass(&segment("10.77.2.1".parse().unwrap(), 2222, SYN), "port of another prefix");
    // Under the same first bits, IPv4 in the key must not be taken for IPv6.
    bench.expect_pass(
        &segment("a4d:200::1".parse().unwrap(), 22, SYN),
        "IPv6 that begins like the IPv4 prefix",
    );
    Ok(())
}

fn v4_fragments_to_target_are_dropped() -> Outcome {
    const MORE: u16 = 0x2000;
    const DONT: u16 = 0x4000;
    let fragment =
        |dst, protocol, fragment, payload: &[u8]| V4 { dst, protocol, options: &[], fragment }.frame(payload);
    let bench = exact_targets();
    // Every port of the address: only the first fragment has one, and it need not be this one.
    for word in [MORE, MORE | 1, 1, 0x1fff, 0x0100, MORE | DONT] {
        for port in [PORT, 80] {
            let frame = fragment(TARGET_V4, TCP, word, &tcp(port, SYN));
            bench.expect_drop(&frame, Reason::DroppedFragment, &format!("{word:#x}"));
        }
        bench.expect_pass(&fragment(OTHER_V4, TCP, word, &tcp(PORT, SYN)), "fragment to another");
        bench.expect_pass(&fragment(TARGET_V4, UDP, word, &udp(PORT)), "UDP fragment to a target");
    }
    let whole = fragment(TARGET_V4, TCP, DONT, &tcp(PORT, SYN));
    bench.expect_drop(&whole, Reason::DroppedNoListener, "don't fragment is no fragment");
    let prefix = Bench::new(&["10.77.2.0/24@22"]);
    prefix.expect_drop(&fragment(TARGET_V4, TCP, MORE, &[]), Reason::DroppedFragment, "in a prefix");
    Ok(())
}

fn v6_fragments_to_target_are_dropped() -> Outcome {
    let bench = exact_targets();
    let syn = tcp(PORT, SYN);
    for chain in [&[][..], &[DESTINATION_OPTIONS], &[HOP_BY_HOP, ROUTING]] {
        for word in [0x0001, 0x0009, 0x0008, 0x0000, 0xfff8] {
            let frame = v6_fragment(TARGET_V6, chain, word, TCP, &syn);
            bench.expect_drop(&frame, Reason::DroppedFragment, &format!("{chain:?} {word:#x}"));
            bench.expect_pass(&v6_fragment(OTHER_V6, chain, word, TCP, &syn), "fragment to another");
            bench.expect_pass(&v6_fragment(TARGET_V6, chain, word, UDP, &udp(PORT)), "UDP fragment");
        }
    }
    // TCP behind another header in the first fragment, and a later one that names that header.
    let mut behind = vec![TCP, 0, 1, 4, 0, 0, 0, 0];
    behind.extend(&syn);
    for word in [0x0001, 0x0008] {
        let frame = v6_fragment(TARGET_V6, &[], word, DESTINATION_OPTIONS, &behind);
        bench.expect_drop(&frame, Reason::DroppedFragment, &format!("options in fragment {word:#x}"));
    }
    Ok(())
}

fn v4_options_hide_nothing() -> Outcome {
    let bench = exact_targets();
    for words in 1..=10 {
        let options = vec![1; words * 4];
        let frame =
            |dst, port| V4 { dst, protocol: TCP, options: &options, fragment: 0 }.frame(&tcp(port, SYN));
        bench.expect_drop(&frame(TARGET_V4, PORT), Reason::DroppedNoListener, &format!("{words} words"));
        bench.expect_pass(&frame(TARGET_V4, 80), "another port");
        bench.expect_pass(&frame(OTHER_V4, PORT), "another address");
    }
    Ok(())
}

fn v6_extension_headers_hide_nothing() -> Outcome {
    let bench = exact_targets();
    let chains: [&[u8]; 7] = [
        &[HOP_BY_HOP],
        &[DESTINATION_OPTIONS],
        &[ROUTING],
        &[AUTHENTICATION],
        &[MOBILITY],
        &[HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING, AUTHENTICATION, DESTINATION_OPTIONS],
        &[DESTINATION_OPTIONS; 8],
    ];
    for chain in chains {
        let frame = |dst, port| v6(dst, chain, TCP, &tcp(port, SYN));
        bench.expect_drop(&frame(TARGET_V6, PORT), Reason::DroppedNoListener, &format!("{chain:?}"));
        bench.expect_pass(&frame(TARGET_V6, 80), &format!("{chain:?}, another port"));
        bench.expect_pass(&frame(OTHER_V6, PORT), &format!("{chain:?}, another address"));
    }
    Ok(())
}

fn v6_unknown_chains_to_target_are_dropped() -> Outcome {
    let bench = exact_targets();
    let syn = tcp(PORT, SYN);
    let long = [DESTINATION_OPTIONS; 9];
    bench.expect_drop(&v6(TARGET_V6, &long, TCP, &syn), Reason::DroppedUnparsable, "nine headers");
    bench.expect_pass(&v6(OTHER_V6, &long, TCP, &syn), "nine headers to another");
    const ESP: u8 = 50;
    for unknown in [ESP, 253, 254, 255, 200] {
        let frame = v6(TARGET_V6, &[], unknown, &syn);
        bench.expect_drop(&frame, Reason::DroppedUnparsable, &format!("next header {unknown}"));
        bench.expect_pass(&v6(OTHER_V6, &[], unknown, &syn), &format!("next header {unknown} to another"));
    }
    let beyond = v6(TARGET_V6, &[], DESTINATION_OPTIONS, &[TCP, 255, 0, 0, 0, 0, 0, 0]);
    bench.expect_drop(&beyond, Reason::DroppedUnparsable, "a header that is longer than the packet");
    Ok(())
}

fn other_protocols_to_target_pass() -> Outcome {
    let bench = exact_targets();
    for dst in both(TARGET_V4, TARGET_V6) {
        bench.expect_pass(&datagram(dst, PORT), &format!("UDP to {dst}"));
    }
    for protocol in [1, 2, 47, 50, 132] {
        let frame = V4 { dst: TARGET_V4, protocol, options: &[], fragment: 0 }.frame(&tcp(PORT, SYN));
        bench.expect_pass(&frame, &format!("IPv4 protocol {protocol}"));
    }
    for protocol in [ICMPV6, 47, 59, 132] {
        bench.expect_pass(
            &v6(TARGET_V6, &[], protocol, &tcp(PORT, SYN)),
            &format!("IPv6 protocol {protocol}"),
        );
    }
    bench.expect_pass(&v6(TARGET_V6, &[HOP_BY_HOP], ICMPV6, &[131, 0, 0, 0]), "multicast listener report");
    Ok(())
}

/// From the whole IP header on: the kernel runs no test on less, and no stack forwards less.
fn truncated_frames_to_target_never_pass() -> Outcome {
    let bench = exact_targets();
    for (dst, readable) in [(IpAddr::from(TARGET_V4), 14 + 20), (TARGET_V6.into(), 14 + 40)] {
        let frame = segment(dst, PORT, SYN);
        for len in readable..frame.len() {
            let verdict = bench.run(&frame[..len]);
            assert_eq!(verdict.action, DROPPED, "{dst} cut to {len}: {verdict:?}");
        }
    }
    let frame = v6(TARGET_V6, &[DESTINATION_OPTIONS, ROUTING], TCP, &tcp(PORT, SYN));
    for len in 54..frame.len() {
        let verdict = bench.run(&frame[..len]);
        assert_eq!(verdict.action, DROPPED, "chain cut to {len}: {verdict:?}");
    }
    Ok(())
}

fn arp_and_foreign_ethertypes_pass() -> Outcome {
    let bench = exact_targets();
    let packet = &segment(TARGET_V4.into(), PORT, SYN)[14..];
    for ethertype in [0x0806, 0x8847, 0x88cc, 0x0000, 0xffff] {
        bench.expect_pass(&ethernet(ethertype, packet), &format!("{ethertype:#06x}"));
    }
    Ok(())
}

/// A run sees all tags in the frame, as the programs of a device with `reorder_hdr off` do.
fn tags_in_the_frame_hide_nothing() -> Outcome {
    let bench = exact_targets();
    for ethertypes in [[CUSTOMER; 3], [SERVICE, CUSTOMER, CUSTOMER], [CUSTOMER, SERVICE, SERVICE]] {
        for vids in [[0, 0, 0], [0, 10, 0], [4095, 1, 4094]] {
            let tags: Vec<_> = ethertypes.into_iter().zip(vids).collect();
            for count in 1..=tags.len() {
                let under = |frame: &[u8]| tagged(frame, &tags[..count]);
                let what = format!("{:x?}", &tags[..count]);
                for (target, other) in both(TARGET_V4, TARGET_V6).into_iter().zip(both(OTHER_V4, OTHER_V6)) {
                    let segment = |dst, port| under(&segment(dst, port, SYN));
                    bench.expect_drop(&segment(target, PORT), Reason::DroppedNoListener, &what);
                    bench.expect_pass(&segment(target, 80), &what);
                    bench.expect_pass(&segment(other, PORT), &what);
                    bench.expect_pass(&under(&datagram(target, PORT)), &what);
                }
                let fragment = under(&v6_fragment(TARGET_V6, &[], 1, TCP, &tcp(PORT, SYN)));
                bench.expect_drop(&fragment, Reason::DroppedFragment, &what);
                let options = [1; 8];
                let packet = V4 { dst: TARGET_V4, protocol: TCP, options: &options, fragment: 0 };
                bench.expect_drop(&under(&packet.frame(&tcp(PORT, SYN))), Reason::DroppedNoListener, &what);
                let chain = under(&v6(TARGET_V6, &[DESTINATION_OPTIONS; 8], TCP, &tcp(PORT, SYN)));
                bench.expect_drop(&chain, Reason::DroppedNoListener, &what);
                bench.expect_pass(&under(&ethernet(0x0806, &[0; 28])), &what);
            }
        }
    }
    Ok(())
}

fn more_tags_than_are_walked_are_dropped() -> Outcome {
    let bench = exact_targets();
    let empty = Bench::new(&[]);
    for count in [4, 5, 20] {
        for dst in both(TARGET_V4, TARGET_V6).into_iter().chain(both(OTHER_V4, OTHER_V6)) {
            let frame = tagged(&segment(dst, PORT, SYN), &vec![(CUSTOMER, 0); count]);
            bench.expect_drop(&frame, Reason::DroppedUnparsable, &format!("{count} tags"));
            empty.expect_pass(&frame, "no targets");
        }
    }
    Ok(())
}

/// `BPF_PROG_TEST_RUN` is not at ingress, which is one of the ways in which the kernel refuses.
fn refused_assignment_is_dropped() -> Outcome {
    let mut bench = exact_targets();
    let listeners = Listeners::bind()?;
    let mut map: SockMap<&mut MapData> = bench.ebpf.map_mut(names::LISTENERS).unwrap().try_into()?;
    map.set(names::SLOT_V4, &listeners.fds().v4, 0)?;
    map.set(names::SLOT_V6, &listeners.fds().v6, 0)?;
    for dst in both(TARGET_V4, TARGET_V6) {
        bench.expect_drop(&segment(dst, PORT, SYN), Reason::DroppedAssignFailed, &format!("{dst}"));
    }
    drop(listeners);
    for dst in both(TARGET_V4, TARGET_V6) {
        bench.expect_drop(&segment(dst, PORT, SYN), Reason::DroppedNoListener, "closed listener");
    }
    Ok(())
}

/// Frames to targets with random bytes changed: one outcome each, and never steered.
fn any_bytes_have_one_outcome() -> Outcome {
    let bench = Bench::new(&["10.77.2.2/32@22", "fd77:2::2/128@22", "10.0.0.0/8@22", "fd00::/8@22"]);
    let seeds = [
        segment(TARGET_V4.into(), PORT, SYN),
        segment(TARGET_V6.into(), PORT, SYN),
        v6(TARGET_V6, &[HOP_BY_HOP, DESTINATION_OPTIONS, AUTHENTICATION], TCP, &tcp(PORT, SYN)),
        v6_fragment(TARGET_V6, &[ROUTING], 1, TCP, &tcp(PORT, SYN)),
        tagged(&segment(TARGET_V4.into(), PORT, SYN), &[(CUSTOMER, 0), (SERVICE, 7)]),
    ];
    let mut numbers = Random::new();
    let mut random = |below| numbers.below(below);
    for _ in 0..4000 {
        let mut frame = seeds[random(seeds.len())].clone();
        for _ in 0..=random(4) {
            let at = 12 + random(frame.len() - 12);
            frame[at] = u8::try_from(random(256)).unwrap();
        }
        frame.truncate(54 + random(frame.len() - 53));
        let verdict = bench.run(&frame);
        assert!([UNTOUCHED, DROPPED].contains(&verdict.action), "{verdict:?} for {frame:02x?}");
        assert_eq!(verdict.action == UNTOUCHED, verdict.reason == Reason::PassedNotTarget, "{frame:02x?}");
    }
    Ok(())
}

fn no_targets_pass_everything() -> Outcome {
    let bench = Bench::new(&[]);
    for dst in both(TARGET_V4, TARGET_V6) {
        bench.expect_pass(&segment(dst, PORT, SYN), &format!("{dst}"));
    }
    bench.expect_pass(&v6_fragment(TARGET_V6, &[], 1, TCP, &tcp(PORT, SYN)), "fragment");
    bench.expect_pass(&v6(TARGET_V6, &[], 253, &[]), "unknown next header");
    Ok(())
}

/// Numbers that are the same in every run (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0x7072_6565_7665_0001)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}
