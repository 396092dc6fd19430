//! What network policies and limits do to the first packet of a flow.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aya::maps::{Array, MapData};
use portreeve::datapath::rules::kernel_rule;
use portreeve_core::net::flow_box::{Family, FlowBox, Span};
use portreeve_core::net::{ClientAddr, FlowTuple, OriginalDst};
use portreeve_core::network_policy::address_rules::{AddressRule, AddressRules, AddressVerdict};
use portreeve_ebpf::names;
use portreeve_ebpf::rules::{BankHeader, MAX_RULES, Rule};
use portreeve_ebpf::stats::Reason;
use portreeve_tests::wire::{Wire, hardware_address};

use crate::frames::{ACK, ETHERNET, SYN, segment, with_checksums};
use crate::network::{APPLY, Network, TARGETS, first_line, wait_for};
use crate::steering::BOTH;
use crate::verdicts::{Bench, Random};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("rules_decide_in_the_kernel_as_in_user_space", decide_as_in_user_space),
    ("all_rules_that_fit_are_asked", all_that_fit_are_asked),
    ("flood_of_new_connections_is_cut_and_the_rest_goes_on", flood_is_cut_and_the_rest_goes_on),
];

const V4: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 2, 0, 0, 0, 0, 0, 2);

fn set(bench: &mut Bench, bank: u32, rules: &[Rule]) {
    let mut map: Array<&mut MapData, Rule> = bench.ebpf.map_mut(names::RULES).unwrap().try_into().unwrap();
    for (index, rule) in (bank * MAX_RULES..).zip(rules) {
        map.set(index, rule, 0).unwrap();
    }
    let header = BankHeader { bank, rules: u32::try_from(rules.len()).unwrap() };
    let mut map: Array<&mut MapData, BankHeader> =
        bench.ebpf.map_mut(names::RULES_IN_FORCE).unwrap().try_into().unwrap();
    map.set(0, header, 0).unwrap();
}

/// A segment of a flow to a target, which belongs to no connection.
fn frame(src: IpAddr, src_port: u16, dst: IpAddr, dst_port: u16, flags: u8) -> Vec<u8> {
    let mut frame = segment(dst, dst_port, flags);
    let ports = match src {
        IpAddr::V4(src) => {
            frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&src.octets());
            ETHERNET + 20
        }
        IpAddr::V6(src) => {
            frame[ETHERNET + 8..ETHERNET + 24].copy_from_slice(&src.octets());
            ETHERNET + 40
        }
    };
    frame[ports..ports + 2].copy_from_slice(&src_port.to_be_bytes());
    frame
}

fn flow(src: IpAddr, src_port: u16, dst: IpAddr, dst_port: u16) -> FlowTuple {
    FlowTuple {
        client: ClientAddr::new(SocketAddr::new(src, src_port)),
        original_dst: OriginalDst::new(SocketAddr::new(dst, dst_port)),
    }
}

/// Random rules whose edges are near the random flows, in either half of IPv6 addresses too.
fn decide_as_in_user_space() -> Outcome {
    let mut bench = Bench::new(&["10.0.0.0/8@20-30", "fd00::/8@20-30"]);
    let mut random = Random::new();
    let mut blocked = 0;
    for round in 0..200u32 {
        let rules = AddressRules {
            rules: (0..random.below(6)).map(|_| rule(&mut random)).collect(),
            policies: (0..4).map(|n| format!("p{n}").into()).collect(),
            stopped: None,
        };
        set(&mut bench, round % 2, &rules.rules.iter().map(kernel_rule).collect::<Vec<_>>());
        for _ in 0..20 {
            let v4 = random.below(2) == 0;
            let (src, dst) = (address(&mut random, v4), address(&mut random, v4));
            let (src_port, dst_port) = (port(&mut random), port(&mut random));
            let verdict = bench.run(&frame(src, src_port, dst, dst_port, ACK));
            let blocks = rules.blocks(flow(src, src_port, dst, dst_port)).is_some();
            let expected = if blocks { Reason::DroppedPolicy } else { Reason::DroppedNoListener };
            assert_eq!(verdict.reason, expected, "{src}:{src_port} to {dst}:{dst_port} by {rules:?}");
            blocked += u32::from(blocks);
        }
    }
    assert!((400..3600).contains(&blocked), "{blocked} of 4000 are blocked: the flows test nothing");
    Ok(())
}

fn rule(random: &mut Random) -> AddressRule {
    let family = [None, Some(Family::V4), Some(Family::V6)][random.below(3)];
    let addresses = |random: &mut Random| match family {
        None => Span { first: 0, last: u128::MAX },
        Some(family) => {
            let mut number = || match address(random, family == Family::V4) {
                IpAddr::V4(addr) => u128::from(u32::from(addr)),
                IpAddr::V6(addr) => u128::from(addr),
            };
            span(number(), number())
        }
    };
    let flows = FlowBox {
        family,
        src: addresses(random),
        dst: addresses(random),
        src_port: span(port(random), port(random)),
        dst_port: span(port(random), port(random)),
    };
    let verdict = if random.below(3) == 0 { AddressVerdict::UserSpace } else { AddressVerdict::Block };
    AddressRule { flows, verdict, policy: random.below(4) }
}

fn span<T: Ord + Copy>(one: T, other: T) -> Span<T> {
    Span { first: one.min(other), last: one.max(other) }
}

fn port(random: &mut Random) -> u16 {
    20 + u16::try_from(random.below(10)).unwrap()
}

fn address(random: &mut Random, v4: bool) -> IpAddr {
    let mut byte = || u8::try_from(random.below(4)).unwrap();
    if v4 {
        return Ipv4Addr::new(10, byte(), 0, byte()).into();
    }
    let (high, low) = (u16::from(byte()), u16::from(byte()));
    Ipv6Addr::new(0xfd77, high, 0, 0, 0, 0, 0, low).into()
}

fn all_that_fit_are_asked() -> Outcome {
    let mut bench = Bench::new(&["10.77.2.2/32@1-65535", "fd77:2::2/128@1-65535"]);
    let rules: Vec<Rule> = (0..MAX_RULES)
        .map(|n| {
            let port = u16::try_from(n).unwrap() + 1;
            let all = Span { first: 0, last: u128::MAX };
            let (src_port, dst_port) = (Span { first: 0, last: u16::MAX }, Span { first: port, last: port });
            let flows = FlowBox { family: None, src: all, dst: all, src_port, dst_port };
            kernel_rule(&AddressRule { flows, verdict: AddressVerdict::Block, policy: 0 })
        })
        .collect();
    set(&mut bench, 1, &rules);
    for dst in [IpAddr::from(V4), V6.into()] {
        for (port, expected) in
            [(1, Reason::DroppedPolicy), (256, Reason::DroppedPolicy), (257, Reason::DroppedNoListener)]
        {
            assert_eq!(bench.run(&segment(dst, port, ACK)).reason, expected, "{dst} {port}");
        }
    }
    Ok(())
}

/// 20 in a second of one source, 40 of all.
fn flood_is_cut_and_the_rest_goes_on() -> Outcome {
    let network = Network::new();
    let mut gateway = network.gateway(BOTH, "limited")?;
    gateway.command(APPLY)?;
    let mut session = network.connect("c", TARGETS[0], 22)?;
    first_line(&session)?;
    let wire = Wire::open(&network.side("c"), "eth0")?;
    let router = hardware_address(&network.side("g"), "lan.10")?;
    let mut sent = 0;
    let mut syn = |src: Ipv4Addr, port: u16| {
        let mut frame = frame(src.into(), port, V4.into(), 22, SYN);
        frame[..6].copy_from_slice(&router);
        sent += 1;
        wire.send(&with_checksums(frame))
    };
    // No host has these addresses, so that nobody answers the gateway.
    for port in 0..500 {
        syn(Ipv4Addr::new(10, 77, 1, 50), 1000 + port)?;
    }
    wait_for(|| gateway.counter("dropped_source_rate") > 400, "flows above the rate of a source");
    assert_eq!(gateway.counter("dropped_rate"), 0, "what one source has too much is not of all");
    for host in 100..200 {
        for port in 0..3 {
            syn(Ipv4Addr::new(10, 77, 1, host), 1000 + port)?;
        }
    }
    wait_for(|| gateway.counter("dropped_rate") > 100, "flows above the rate of all");
    writeln!(session, "on")?;
    assert_eq!(first_line(&session)?, "on", "a session goes on");
    network.assert_rest_open();
    let counted = |gateway: &mut crate::network::Gateway| -> u64 {
        ["steered_new", "dropped_rate", "dropped_source_rate"].map(|name| gateway.counter(name)).iter().sum()
    };
    wait_for(|| counted(&mut gateway) > sent, "every flow counts for one reason");
    std::thread::sleep(Duration::from_secs(2));
    network.assert_targets_intercepted();
    Ok(())
}
