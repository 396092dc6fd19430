//! The ends of the wire, and the judge between them.
//!
//! Frames go out at the client's end in the name of a ghost, an address that no stack answers for.
//! The judge is a capture at the server's interface. After each case comes a control packet for an
//! address that is no target: it must arrive, and comes behind whatever the case let through. The
//! server's own stack is a second judge: what it took for TCP to a target it answers from there.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::frames::{
    self, ACK, ETHERNET, IPV4, IPV4_HEADER, IPV6, IPV6_HEADER, Mac, TCP, Tcp, octets,
};
use portreeve_tests::netns::Netns;
use portreeve_tests::topology::{
    GATEWAY_WAN4, GATEWAY_WAN6, GATEWAY4, OPEN4, OPEN6, SSH_PORT, TARGET4, TARGET6, Topology,
};
use portreeve_tests::wire::{Deferred, Seen, Wire, hardware_address};
use portreeve_tests::{Testbed, run};

use super::case::{Case, Fate, Lan, MARK};
use crate::ssh::LIMIT;

/// The ghost's hardware address.
pub(super) const GHOST: Mac = [2, 0, 0, 0, 0, 0x99];
/// The ghost's address.
pub(super) const GHOST4: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 99);
/// The ghost's IPv6 address.
pub(super) const GHOST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 1, 0, 0, 0, 0, 0x99);

/// Frames up to this long fit on the client's link, and are too long for the server's.
const LAN_MTU: u16 = 4000;
const ARP: [u8; 2] = [0x08, 0x06];
const ICMP: u8 = 1;
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;

/// Both ends of a testbed.
pub(super) struct Scene {
    client: Wire,
    server: Wire,
    pub(super) lan: Lan,
    controls: Cell<u32>,
    sent: Cell<u64>,
}

impl Scene {
    /// Opens both ends of a testbed that nobody else uses.
    pub(super) fn open(bed: &Testbed) -> Result<Self> {
        let Topology { client, gateway, server } = bed.topology();
        let lan =
            Lan { gateway: hardware_address(gateway, "lan0")?, server: hardware_address(server, "eth0")? };
        ip(client, &format!("link set eth0 mtu {LAN_MTU}"))?;
        ip(gateway, &format!("link set lan0 mtu {LAN_MTU}"))?;
        // As between virtual machines: the sender leaves sums and segments to others, and the last
        // device on the way, as one of metal would, sees to them.
        command(client.command("ethtool"), "-K eth0 tx on tso on")?;
        command(gateway.command("ethtool"), "-K wan0 tx off")?;
        // Nobody waits for ARP or ND, so that what comes first arrives first.
        for ghost in [IpAddr::from(GHOST4), GHOST6.into()] {
            neighbour(gateway, ghost, GHOST, "lan0")?;
        }
        for address in [IpAddr::from(TARGET4), TARGET6.into(), OPEN4.into(), OPEN6.into()] {
            neighbour(gateway, address, lan.server, "wan0")?;
        }
        Ok(Self {
            client: Wire::open(client, "eth0")?,
            server: Wire::open(server, "eth0")?,
            lan,
            controls: Cell::new(1),
            sent: Cell::new(0),
        })
    }

    /// Frames that the client sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Sends the frames of a case, and tells what of it, and of its answer, the server's end saw.
    fn observe(&self, case: &Case) -> Result<Vec<Seen>> {
        for frame in &case.frames {
            self.send(frame, case.deferred).with_context(|| case.name.clone())?;
        }
        self.until_control().with_context(|| case.name.clone())
    }

    /// Sends one frame at the client's end.
    pub(super) fn send(&self, frame: &[u8], deferred: Option<Deferred>) -> Result<()> {
        self.sent.set(self.sent.get() + 1);
        match deferred {
            Some(deferred) => self.client.send_deferred(frame, deferred),
            None => self.client.send(frame),
        }
    }

    /// What crosses the server's interface until a new control packet arrives there.
    pub(super) fn until_control(&self) -> Result<Vec<Seen>> {
        let number = self.controls.replace(self.controls.get() + 1);
        let control = Tcp { sequence: number, ..Tcp::new(50_000, SSH_PORT, ACK) };
        let (src, dst) = (GHOST4.into(), OPEN4.into());
        self.send(&self.lan.frame(&frames::packet(src, dst, TCP, &control.bytes(src, dst))), None)?;
        let between = [octets(src), octets(dst)].concat();
        let is_control = |seen: &Seen| {
            let packet = seen.frame.get(ETHERNET..).unwrap_or_default();
            packet.get(12..20) == Some(&between[..])
                && packet.get(IPV4_HEADER + 4..IPV4_HEADER + 8) == Some(&number.to_be_bytes()[..])
        };
        let mut all = Vec::new();
        until("the control packet at the server: is the capture alive?", LIMIT, || {
            while let Some(seen) = self.server.receive()? {
                if is_control(&seen) {
                    return Ok(Some(()));
                }
                all.push(seen);
            }
            Ok(None)
        })?;
        Ok(all)
    }

    /// Judges the cases with the gateway in between.
    ///
    /// # Errors
    /// Every case of which something passed, with what passed.
    pub(super) fn judge(&self, cases: &[Case]) -> Result<()> {
        let mut report = String::new();
        for case in cases {
            for seen in self.observe(case)?.iter().filter(|seen| is_bypass(seen, case.fate)) {
                write!(report, "\n{}: {}", case.name, shown(seen))?;
            }
        }
        // What is late has no case any more.
        for seen in self.until_control()?.iter().filter(|seen| is_bypass(seen, Fate::NotTcp)) {
            write!(report, "\none of the last cases: {}", shown(seen))?;
        }
        ensure!(report.is_empty(), "passed:{report}");
        Ok(())
    }

    /// Judges the cases where the gateway is a bridge: the control packet too is for the server.
    ///
    /// # Errors
    /// As [`Scene::judge`].
    pub(super) fn judge_bridged(self, cases: &[Case]) -> Result<()> {
        let lan = Lan { gateway: self.lan.server, ..self.lan };
        Self { lan, ..self }.judge(cases)
    }

    /// Sends the cases with only a router in between, and compares what arrives with what should.
    ///
    /// # Errors
    /// Every case of which that is not so.
    pub(super) fn prove(&self, cases: &[Case]) -> Result<()> {
        let mut report = String::new();
        for case in cases {
            let seen = self.observe(case)?;
            let arrived = seen.iter().any(|seen| !seen.outgoing && !is_noise(&seen.frame));
            if arrived != case.forwarded {
                let what = if arrived { "arrives" } else { "does not arrive" };
                write!(report, "\n{}: {what} without a gateway", case.name)?;
            }
        }
        if !report.is_empty() {
            bail!("the corpus is not what it says:{report}");
        }
        Ok(())
    }
}

fn is_bypass(seen: &Seen, fate: Fate) -> bool {
    if seen.outgoing {
        return is_answer(&seen.frame);
    }
    if is_noise(&seen.frame) {
        return false;
    }
    match fate {
        Fate::Closed => true,
        Fate::NotTcp => is_tcp_to_target(&seen.frame),
    }
}

/// What hosts and routers say by themselves: ARP, neighbour discovery, IGMP, multicast, and the gateway's
/// errors about answers of its own. What has the mark is none of it.
fn is_noise(frame: &[u8]) -> bool {
    const NEIGHBOURS: std::ops::RangeInclusive<u8> = 133..=137;
    if has_mark(frame) {
        return false;
    }
    let packet = frame.get(ETHERNET..).unwrap_or_default();
    if is_family(frame, IPV4) {
        let gateway = [GATEWAY4, GATEWAY_WAN4].map(|address| octets(address.into()));
        let own = packet.get(12..16).is_some_and(|src| gateway.contains(&src.to_vec()));
        return packet.get(9) == Some(&IGMP) || packet.get(9) == Some(&ICMP) && own;
    }
    let multicast = packet.get(24) == Some(&0xff);
    let from_gateway = packet.get(8..24) == Some(&octets(GATEWAY_WAN6.into()));
    let discovery = packet.get(IPV6_HEADER).is_some_and(|kind| NEIGHBOURS.contains(kind));
    let icmp = packet.get(6) == Some(&ICMPV6) && (from_gateway || discovery);
    frame.get(12..ETHERNET) == Some(&ARP) || is_family(frame, IPV6) && (multicast || icmp)
}

fn has_mark(frame: &[u8]) -> bool {
    frame.windows(MARK.len()).any(|window| window == MARK)
}

fn is_family(frame: &[u8], ethertype: u16) -> bool {
    frame.get(12..ETHERNET) == Some(&ethertype.to_be_bytes())
}

/// Whether the server's stack would take a frame for TCP, or a part of it, to a target's address. It
/// takes nothing out of tunnels.
fn is_tcp_to_target(frame: &[u8]) -> bool {
    let packet = frame.get(ETHERNET..).unwrap_or_default();
    if is_family(frame, IPV4) {
        return packet.get(9) == Some(&TCP) && packet.get(16..20) == Some(&octets(TARGET4.into()));
    }
    is_family(frame, IPV6)
        && packet.get(24..40) == Some(&octets(TARGET6.into()))
        && packet
            .get(6)
            .is_some_and(|next| leads_to_tcp(*next, packet.get(IPV6_HEADER..).unwrap_or_default()))
}

/// Whether a chain of extension headers leads to TCP; one that cannot be followed may.
fn leads_to_tcp(next: u8, headers: &[u8]) -> bool {
    let length = match (next, headers.get(1)) {
        (TCP, _) => return true,
        (frames::FRAGMENT, _) => 8,
        (frames::AUTHENTICATION, Some(words)) => (usize::from(*words) + 2) * 4,
        (frames::HOP_BY_HOP | frames::ROUTING | frames::DESTINATION_OPTIONS, Some(words)) => {
            (usize::from(*words) + 1) * 8
        }
        _ => return false,
    };
    match (headers.first(), headers.get(length..)) {
        (Some(next), Some(rest)) => leads_to_tcp(*next, rest),
        _ => true,
    }
}

/// Whether the server answers somebody but the gateway from a target's port.
fn is_answer(frame: &[u8]) -> bool {
    let packet = frame.get(ETHERNET..).unwrap_or_default();
    let from = SSH_PORT.to_be_bytes();
    let is_from = |at: usize, target: IpAddr, gateway: IpAddr, header: usize| {
        let (target, gateway) = (octets(target), octets(gateway));
        let end = at + target.len();
        packet.get(at..end) == Some(&target)
            && packet.get(end..end + gateway.len()) != Some(&gateway)
            && packet.get(header..header + 2) == Some(&from)
    };
    (is_family(frame, IPV4)
        && packet.get(9) == Some(&TCP)
        && is_from(12, TARGET4.into(), GATEWAY_WAN4.into(), IPV4_HEADER))
        || (is_family(frame, IPV6)
            && packet.get(6) == Some(&TCP)
            && is_from(8, TARGET6.into(), GATEWAY_WAN6.into(), IPV6_HEADER))
}

/// A captured frame, for people.
pub(super) fn shown(seen: &Seen) -> String {
    let mut text = String::from(if seen.outgoing { "the server answers " } else { "" });
    for byte in &seen.frame {
        write!(text, "{byte:02x}").ok();
    }
    text
}

fn neighbour(netns: &Netns, address: IpAddr, mac: Mac, device: &str) -> Result<()> {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    ip(netns, &format!("neigh replace {address} lladdr {mac} dev {device} nud permanent"))
}

/// Runs `ip WORDS` in a namespace.
pub(super) fn ip(netns: &Netns, words: &str) -> Result<()> {
    command(netns.command("ip"), words)
}

/// Runs a command with words to its end.
pub(super) fn command(mut command: Command, words: &str) -> Result<()> {
    run(command.args(words.split(' ')), b"", LIMIT)?.success().with_context(|| words.to_owned())?;
    Ok(())
}
