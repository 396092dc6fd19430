//! Frames with 802.1Q tags on the fast path.
//!
//! This kernel need not have VLAN devices: veth devices have their routes and neighbours, and the test writes into
//! the maps what the gateway would of such devices. What it reads of them is for the unit tests of
//! `datapath/fast_path/vlan.rs`; the whole is for `devices`, in virtual machines.

use std::net::IpAddr;
use std::path::Path;

use aya::EbpfLoader;
use aya::maps::{HashMap, Map, MapData};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use nix::net::if_::if_nametoindex;
use portreeve_ebpf::fast_path::{CHECKED_SOURCE, FORWARD, FastInterface, GENERIC, STRICT_SOURCE, Vlan};
use portreeve_ebpf::{ABI_VERSION, names};
use portreeve_tests::wire::{Wire, hardware_address};

use super::switching::value;
use super::{GENERIC as BOTH_GENERIC, NATIVE, network};
use crate::Outcome;
use crate::frames::{
    CUSTOMER, ETHERNET, SERVICE, SYN, Tag, datagram, ethernet, is_between, segment, tagged,
    with_header_checksum,
};
use crate::network::{APPLY, CLIENTS, Network, OPEN, TARGETS, frames_until, wait_for};
use crate::steering::status;
use crate::verdicts::object;

/// A device for a VLAN: its name, the interface, the VID, and a host behind it in each family.
type Stand = (&'static str, &'static str, u16, [&'static str; 2]);

const FIVE: Stand = ("van5", "lan.10", 5, ["10.55.0.2", "fd55::2"]);
const SIX: Stand = ("van6", "lan.10", 6, ["10.56.0.2", "fd56::2"]);
const SEVEN: Stand = ("van7", "wan0", 7, ["10.57.0.2", "fd57::2"]);
/// Of this one the maps say nothing.
const EIGHT: Stand = ("van8", "wan0", 8, ["10.58.0.2", "fd58::2"]);

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0x55];
const REDIRECTED: u32 = 4;
const PASSED: u32 = 2;

/// Where a frame must come out: an interface and a tag.
type Out = (&'static str, Option<u16>);

/// What must become of a frame.
enum Expected {
    /// As it is but for one hop less, filled up or not, to the host of that hardware address.
    Sent(Out, [u8; 6]),
    /// To the stack, untouched; counted so.
    Left(&'static str),
}

/// The network with these devices, and the fast path of a gateway that is gone: nothing looks at the maps.
fn scene(interfaces: &str, flags: u16) -> Result<Network, String> {
    let network = network();
    let server = hardware_address(&network.side("s"), "eth0").unwrap();
    for (device, on, vid, hosts) in [FIVE, SIX, SEVEN, EIGHT] {
        let mac = text(hardware_address(&network.side("g"), on).unwrap());
        let host = text(if on == "wan0" { server } else { HOST });
        network.ip("g", &format!("link add {device} address {mac} mtu 1280 type veth peer far{vid}"));
        for end in [device, &format!("far{vid}")] {
            network.ip("g", &format!("link set {end} up"));
        }
        for (at, length) in hosts.into_iter().zip([24, 64]) {
            let own = format!("{}1", at.strip_suffix('2').unwrap());
            network.ip("g", &format!("addr add {own}/{length} dev {device} nodad"));
            network.ip("g", &format!("neigh replace {at} lladdr {host} dev {device}"));
        }
    }
    let mut gateway = network.gateway(interfaces, "tcx")?;
    gateway.command(APPLY)?;
    network.assert_rest_open();
    gateway.kill();
    fill(&network, flags);
    Ok(network)
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Writes what the gateway would write of VLAN devices.
fn fill(network: &Network, flags: u16) {
    let pin_dir = network.pin_dir();
    let mac = |device| hardware_address(&network.side("g"), device).unwrap();
    let macs = [FIVE, SIX, SEVEN].map(|(device, ..)| mac(device));
    network.inside("g", move || {
        let map = |name| Map::from_map_data(MapData::from_pin(pin(&pin_dir, name)).unwrap()).unwrap();
        let mut vlans: HashMap<_, Vlan, FastInterface> = map(names::FAST_VLANS).try_into().unwrap();
        let mut tags: HashMap<_, u32, Vlan> = map(names::FAST_TAGS).try_into().unwrap();
        for ((device, on, vid, _), mac) in [FIVE, SIX, SEVEN].into_iter().zip(macs) {
            let vlan = Vlan { on: if_nametoindex(on).unwrap(), vid: vid.into() };
            let index = if_nametoindex(device).unwrap();
            let [a, b, c, d, e, f] = mac;
            let mac = [[a, b], [c, d], [e, f]].map(u16::from_ne_bytes);
            vlans.insert(vlan, FastInterface { index, mac, flags }, 0).unwrap();
            tags.insert(index, vlan, 0).unwrap();
        }
    });
}

fn pin(pin_dir: &Path, name: &str) -> std::path::PathBuf {
    pin_dir.join(format!("v{ABI_VERSION}/maps/{name}"))
}

fn to(stand: Stand, family: usize) -> Vec<u8> {
    datagram(stand.3[family].parse().unwrap(), 7)
}

fn under(frame: &[u8], tag: u16) -> Vec<u8> {
    tagged(frame, &[(CUSTOMER, tag)])
}

fn padded(mut frame: Vec<u8>, length: usize, with: u8) -> Vec<u8> {
    frame.resize(length.max(frame.len()), with);
    frame
}

fn long(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
    frame.resize(ETHERNET + length, 0);
    frame[16..18].copy_from_slice(&[high, low]);
    frame
}

/// Each frame by the interface of the client, byte by byte.
pub(super) fn takes_tags_off_and_puts_them_on() -> Outcome {
    let network = scene(NATIVE, FORWARD)?;
    let macs = |side: &str, device: &str| hardware_address(&network.side(side), device).unwrap();
    let (lan, wan, server) = (macs("g", "lan.10"), macs("g", "wan0"), macs("s", "eth0"));
    let addressed = |mut frame: Vec<u8>| {
        frame[..6].copy_from_slice(&lan);
        frame[6..12].copy_from_slice(&HOST);
        with_header_checksum(frame)
    };
    let mut cases = Vec::new();
    for (family, open) in OPEN.into_iter().enumerate() {
        let open = addressed(datagram(open.parse().unwrap(), 7));
        let target: IpAddr = TARGETS[family].parse().unwrap();
        let sent = |frame: &Vec<u8>, tags: &[Tag], out, host| {
            (tagged(frame, tags), frame.clone(), Expected::Sent(out, host))
        };
        let left = |frame: Vec<u8>, reason| (frame, Vec::new(), Expected::Left(reason));
        let [six, seven, eight, hairpin] =
            [SIX, SEVEN, EIGHT, FIVE].map(|stand| addressed(to(stand, family)));
        cases.extend([
            sent(&open, &[], ("wan0", None), server),
            sent(&open, &[(CUSTOMER, 5)], ("wan0", None), server),
            sent(&open, &[(CUSTOMER, 0xf005)], ("wan0", None), server),
            sent(&padded(open.clone(), 60, 0x55), &[(CUSTOMER, 5)], ("wan0", None), server),
            sent(&seven, &[], ("wan0", Some(7)), server),
            sent(&padded(seven.clone(), 60, 0x55), &[], ("wan0", Some(7)), server),
            sent(&seven, &[(CUSTOMER, 5)], ("wan0", Some(7)), server),
            sent(&six, &[], ("lan.10", Some(6)), HOST),
            sent(&six, &[(CUSTOMER, 0x2005)], ("lan.10", Some(6)), HOST),
            left(under(&hairpin, 5), "passed_egress"),
            left(under(&eight, 5), "passed_egress"),
            left(eight, "passed_egress"),
            left(under(&open, 0), "passed_frame"),
            left(under(&open, 9), "passed_frame"),
            left(under(&open, 7), "passed_frame"),
            left(tagged(&open, &[(SERVICE, 5)]), "passed_frame"),
            left(tagged(&open, &[(CUSTOMER, 5), (CUSTOMER, 5)]), "passed_frame"),
            left(tagged(&open, &[(CUSTOMER, 5), (SERVICE, 6)]), "passed_frame"),
            left(under(&addressed(segment(target, 22, SYN)), 5), "passed_target"),
            left(padded(under(&open, 5), 90, 0), "passed_header"),
        ]);
        let mut foreign = under(&open, 5);
        foreign[0] ^= 4;
        cases.push(left(foreign, "passed_frame"));
    }
    let open = datagram(OPEN[0].parse().unwrap(), 7);
    let mut last_hop = open.clone();
    last_hop[ETHERNET + 8] = 1;
    let whole = |length| addressed(long(to(SEVEN, 0), length));
    cases.extend([
        (under(&whole(1280), 5), whole(1280), Expected::Sent(("wan0", Some(7)), server)),
        (whole(1280), whole(1280), Expected::Sent(("wan0", Some(7)), server)),
        (under(&whole(1281), 5), Vec::new(), Expected::Left("passed_too_big")),
        (whole(1281), Vec::new(), Expected::Left("passed_too_big")),
        (under(&addressed(last_hop), 5), Vec::new(), Expected::Left("passed_hop_limit")),
        (under(&addressed(ethernet(0x0806, &[0; 28])), 5), Vec::new(), Expected::Left("passed_frame")),
    ]);
    for (frame, packet, expected) in cases {
        let counters = || status(&network).unwrap().fast_path_counters;
        let reason = if let Expected::Left(reason) = expected { reason } else { "forwarded" };
        let before = counters();
        let found = run(&network, &frame);
        let after = counters();
        // Hosts send frames of their own now and then.
        let grown = value(&after, reason) - value(&before, reason);
        assert!(grown > 0, "not {reason}: {frame:02x?}; before {before:?}, after {after:?}");
        let expected = match expected {
            Expected::Left(_) => (PASSED, frame.clone()),
            Expected::Sent((device, tag), host) => {
                let own = if device == "wan0" { wan } else { lan };
                (REDIRECTED, one_hop_on(&frame, packet, tag, [host, own]))
            }
        };
        assert_eq!(found, expected, "{frame:02x?}");
    }
    Ok(())
}

/// The packet as it leaves, with the filling that it came with, or must get.
fn one_hop_on(came: &[u8], mut packet: Vec<u8>, tag: Option<u16>, [to, from]: [[u8; 6]; 2]) -> Vec<u8> {
    let hops = if packet[12] == 8 { 8 } else { 7 };
    packet[ETHERNET + hops] -= 1;
    packet[..6].copy_from_slice(&to);
    packet[6..12].copy_from_slice(&from);
    let packet = with_header_checksum(packet);
    let took_off = tag.is_none() && came[12..14] == CUSTOMER.to_be_bytes();
    let filled = if took_off { packet.len().max(60) } else { packet.len() };
    tag.map_or_else(|| padded(packet.clone(), filled, 0), |tag| under(&packet, tag))
}

/// What the program does with a frame that comes in on the client's interface.
fn run(network: &Network, frame: &[u8]) -> (u32, Vec<u8>) {
    let (pin_dir, frame) = (network.pin_dir(), frame.to_vec());
    network.inside("g", move || {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for name in names::PINNED_MAPS.into_iter().chain(names::FAST_PATH_MAPS) {
            loader.map_pin_path(name, pin(&pin_dir, name));
        }
        let mut ebpf = loader.load(&object()).unwrap();
        let program: &mut Xdp = ebpf.program_mut(names::XDP_PROGRAM).unwrap().try_into().unwrap();
        program.load().unwrap();
        let length = u32::try_from(frame.len()).unwrap();
        let ingress = if_nametoindex("lan.10").unwrap();
        // `struct xdp_md`.
        let context = [0, length, 0, ingress, 0, 0].map(u32::to_ne_bytes);
        let mut out = vec![0; frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(&frame),
            data_out: Some(&mut out),
            ctx_in: Some(context.as_flattened()),
            ..TestRunOptions::new()
        };
        let result = program.test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    })
}

/// `rp_filter` is that of the VLAN device, and asks whether the source is behind it.
pub(super) fn asks_for_sources_behind_the_vlan() -> Outcome {
    let network = scene(NATIVE, FORWARD | CHECKED_SOURCE | STRICT_SOURCE)?;
    let lan = hardware_address(&network.side("g"), "lan.10")?;
    for (source, action) in [([10, 55, 0, 2], REDIRECTED), ([10, 77, 1, 2], PASSED), ([10, 56, 0, 2], PASSED)]
    {
        let mut frame = datagram(OPEN[0].parse()?, 7);
        frame[..6].copy_from_slice(&lan);
        frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&source);
        assert_eq!(run(&network, &under(&with_header_checksum(frame), 5)).0, action, "{source:?}");
    }
    Ok(())
}

pub(super) fn carries_tagged_frames() -> Outcome {
    carries(NATIVE, FORWARD)
}

pub(super) fn generic_carries_tagged_frames() -> Outcome {
    carries(BOTH_GENERIC, FORWARD | GENERIC)
}

/// Over wires, between the interfaces and back on the same.
fn carries(interfaces: &str, flags: u16) -> Outcome {
    let network = scene(interfaces, flags)?;
    for (side, vid) in [("c", 6), ("s", 7)] {
        let chain = "chain netdev tags in { type filter hook ingress device eth0 priority 0; }";
        let rule = format!("rule netdev tags in vlan id {vid} udp dport 7 counter");
        let rule6 = format!("rule netdev tags in vlan id {vid} ip6 nexthdr udp udp dport 7 counter");
        network.shell(side, &format!("nft 'add table netdev tags; add {chain}; add {rule}; add {rule6}'"));
    }
    let wires = ["c", "s"].map(|side| Wire::open(&network.side(side), "eth0").unwrap());
    let lan = hardware_address(&network.side("g"), "lan.10")?;
    let open = OPEN.map(|open| datagram(open.parse().unwrap(), 7));
    let [[six, six6], [seven, seven6]] = [SIX, SEVEN].map(|stand| [to(stand, 0), to(stand, 1)]);
    let [open, open6] = open;
    for (frame, tag, arrives_at) in [
        (&open, Some(5), 1),
        (&open6, Some(5), 1),
        (&seven, None, 1),
        (&seven6, None, 1),
        (&seven, Some(5), 1),
        (&seven6, Some(5), 1),
        (&six, Some(5), 0),
        (&six6, Some(5), 0),
        (&six, None, 0),
    ] {
        let mut frame = with_header_checksum(frame.clone());
        frame[..6].copy_from_slice(&lan);
        // A sender that no stack answers for.
        frame[6..12].copy_from_slice(&HOST);
        let sent = tag.map_or_else(|| frame.clone(), |tag| under(&frame, tag));
        wires[0].send(&sent)?;
        let (src, dst) = if frame[12] == 8 { (26, 30) } else { (22, 38) };
        let address = |at: usize, length: usize| frame[at..at + length].to_vec();
        let length = dst - src;
        let addresses = [address(src, length), address(dst, length)].concat();
        let came = |seen: &[u8]| {
            seen.get(src..src + 2 * length) == Some(&addresses[..]) && seen.get(..6) != Some(&lan[..])
        };
        frames_until(&wires[arrives_at], &format!("{tag:?} {frame:02x?}"), came)?;
    }
    for (side, expected) in [("c", 3), ("s", 4)] {
        let seen = || {
            let listing = network.shell(side, "nft list ruleset");
            let counts = listing
                .split("packets ")
                .skip(1)
                .map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap());
            counts.sum::<u64>()
        };
        wait_for(|| seen() >= expected, &format!("{expected} frames with the tag at {side}"));
    }
    // The stack has no device for the tag, so what did not take the fast path would not be there.
    let mut target = with_header_checksum(segment(TARGETS[0].parse()?, 22, SYN));
    target[..6].copy_from_slice(&lan);
    wires[0].send(&under(&target, 5))?;
    let mut last = with_header_checksum(open);
    last[..6].copy_from_slice(&lan);
    last[ETHERNET + 8] = 44;
    wires[0].send(&with_header_checksum(last))?;
    let (client, target) = (CLIENTS[0].parse()?, TARGETS[0].parse()?);
    let seen = frames_until(&wires[1], "the last frame", |seen| seen.get(22) == Some(&43))?;
    assert!(!seen.iter().any(|frame| is_between(frame, client, target)), "a tagged frame to a target passed");
    Ok(())
}

/// A bridge hands the tag of a frame to its port beside it, and a veth to its other end, unless that is switched
/// off: then the program sees it.
pub(super) fn wants_a_veth_to_leave_tags_in_its_frames() -> Outcome {
    for (interfaces, switch, passed) in [(NATIVE, "on", 2), (NATIVE, "off", 0), (BOTH_GENERIC, "off", 0)] {
        let network = network();
        network.gateway(interfaces, "tcx")?.kill();
        for words in [
            "link add br0 type bridge forward_delay 0",
            "link set br0 up",
            "link add inner type veth peer outer",
            "link set inner up",
            "link set outer up master br0",
            "link set eth0 master br0",
        ] {
            network.ip("c", words);
        }
        let off = format!("ethtool -K eth0 txvlan {switch} tx-vlan-stag-hw-insert {switch}");
        network.shell("c", &off);
        let (inner, server) =
            (Wire::open(&network.side("c"), "inner")?, Wire::open(&network.side("s"), "eth0")?);
        let mut frame = datagram(OPEN[0].parse()?, 7);
        frame[..6].copy_from_slice(&hardware_address(&network.side("g"), "lan.10")?);
        frame[6..12].copy_from_slice(&HOST);
        let last = with_header_checksum(frame.clone());
        frame[ETHERNET + 8] = 44;
        let frame = with_header_checksum(frame);
        // A port of a bridge forwards a moment after it is up.
        wait_for(
            || {
                inner.send(&last).unwrap();
                server.receive().unwrap().is_some_and(|seen| seen.frame.get(22) == Some(&63))
            },
            "the bridge to forward",
        );
        inner.send(&under(&frame, 9))?;
        inner.send(&tagged(&frame, &[(SERVICE, 9)]))?;
        let mut end = last.clone();
        end[ETHERNET + 8] = 33;
        inner.send(&with_header_checksum(end))?;
        let seen = frames_until(&server, "the last frame", |seen| seen.get(22) == Some(&32))?;
        let tagged = seen.iter().filter(|frame| frame.get(22) == Some(&43)).count();
        assert_eq!(tagged, passed, "{interfaces}, {off}");
    }
    Ok(())
}
