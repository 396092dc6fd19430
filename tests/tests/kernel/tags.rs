//! Tagged frames from the client's end of the wire, each a packet that a stack may take in.
//!
//! The client is a ghost: an address and a hardware address that no stack answers for, so every
//! segment is the test's own. This kernel need not have VLAN devices; without one, a frame with a
//! VID other than 0 is nobody's.

use std::net::IpAddr;

use portreeve_tests::wire::{Wire, hardware_address};

use crate::frames::{
    ACK, CUSTOMER, ETHERNET, SERVICE, SYN, Tag, is_between, segment, tagged, with_checksums,
};
use crate::network::{APPLY, Network, OPEN, TARGETS, frames_until};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("tags_of_vid_0_hide_no_target", tags_of_vid_0_hide_no_target),
    ("tags_of_vid_0_hide_no_target_from_clsact", tags_of_vid_0_hide_no_target_from_clsact),
    ("tags_leave_targets_closed_without_gateway", leave_targets_closed_without_gateway),
    ("tags_of_other_vids_lead_to_nobody", of_other_vids_lead_to_nobody),
    ("tags_leave_other_traffic_alone", leave_other_traffic_alone),
    ("tags_beyond_the_bound_lead_to_nobody", beyond_the_bound_lead_to_nobody),
];

const GHOSTS: [&str; 2] = ["10.77.1.99", "fd77:1::99"];
const GHOST_HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
/// Frames start with a hardware address of the gateway, then the sender's.
const SOURCE: usize = 6;

/// Priority 5, VID 0.
const PRIORITY: u16 = 5 << 13;
/// Tags that the stack takes off without a VLAN device, the most first: one before the program
/// runs, the others behind it.
const STRIPPED: [&[Tag]; 9] = [
    &[],
    &[(CUSTOMER, 0)],
    &[(SERVICE, 0)],
    &[(CUSTOMER, PRIORITY), (CUSTOMER, 0)],
    &[(SERVICE, 0), (CUSTOMER, 0)],
    &[(CUSTOMER, 0), (SERVICE, PRIORITY)],
    &[(SERVICE, 0), (SERVICE, 0)],
    &[(CUSTOMER, 0); 3],
    &[(CUSTOMER, 0), (SERVICE, 0), (CUSTOMER, 0), (CUSTOMER, 0)],
];

/// The ghost, the wires of client and server, and what lies between.
struct Scene {
    network: Network,
    client: Wire,
    server: Wire,
    gateway: [u8; 6],
}

/// One connection of the ghost to port 22 of an address.
#[derive(Clone, Copy)]
struct Flow {
    src: IpAddr,
    dst: IpAddr,
    port: u16,
}

impl Scene {
    fn new() -> Self {
        let network = Network::new();
        for ghost in GHOSTS {
            network.ip("g", &format!("neigh replace {ghost} lladdr 02:00:00:00:00:99 dev lan.10"));
        }
        let client = Wire::open(&network.side("c"), "eth0").unwrap();
        let server = Wire::open(&network.side("s"), "eth0").unwrap();
        let gateway = hardware_address(&network.side("g"), "lan.10").unwrap();
        Self { network, client, server, gateway }
    }

    fn send(&self, flow: Flow, flags: u8, numbers: [u32; 2], tags: &[Tag]) {
        self.client.send(&tagged(&flow.segment(self.gateway, flags, numbers), tags)).unwrap();
    }

    /// Asserts that a connection under tags is intercepted, to the greeting.
    fn assert_intercepted(&self, flow: Flow, tags: &[Tag]) -> Outcome {
        self.send(flow, SYN, [1000, 0], tags);
        let answer = self.answer(flow, tags, |header, _| header[13] == SYN | ACK)?;
        let number = u32::from_be_bytes([answer[4], answer[5], answer[6], answer[7]]);
        self.send(flow, ACK, [1001, number + 1], tags);
        let greeting = self.answer(flow, tags, |_, payload| !payload.is_empty())?;
        let greeting = String::from_utf8_lossy(&greeting[usize::from(greeting[12] >> 4) * 4..]).into_owned();
        let expected = format!("intercepted {} {}\n", flow.to(), flow.from());
        assert_eq!(greeting, expected, "{tags:x?}");
        Ok(())
    }

    /// The first TCP segment back to the ghost that `wanted` holds for, header and payload.
    fn answer(
        &self,
        flow: Flow,
        tags: &[Tag],
        wanted: impl Fn(&[u8], &[u8]) -> bool,
    ) -> anyhow::Result<Vec<u8>> {
        let segment = |frame: &[u8]| {
            let (header, length) = if flow.src.is_ipv4() {
                (20, usize::from(u16::from_be_bytes([frame[ETHERNET + 2], frame[ETHERNET + 3]])))
            } else {
                (40, 40 + usize::from(u16::from_be_bytes([frame[ETHERNET + 4], frame[ETHERNET + 5]])))
            };
            frame[ETHERNET + header..ETHERNET + length].to_vec()
        };
        let is_it = |frame: &[u8]| {
            is_between(frame, flow.dst, flow.src) && {
                let segment = segment(frame);
                segment[2..4] == flow.port.to_be_bytes()
                    && wanted(&segment, &segment[usize::from(segment[12] >> 4) * 4..])
            }
        };
        let seen = frames_until(&self.client, &format!("answer to {} under {tags:x?}", flow.to()), is_it)?;
        Ok(segment(&seen[seen.len() - 1]))
    }

    /// Asserts that of everything sent before, nothing from the ghost reached these addresses: a
    /// frame that does reach the server comes behind it.
    fn assert_server_saw_nothing(&self, of: &[Flow]) -> Outcome {
        let last = Flow { port: 50_000, ..flow(GHOSTS[0], OPEN[0]) };
        self.send(last, SYN, [1, 0], &[]);
        let is_last =
            |frame: &[u8]| is_between(frame, last.src, last.dst) && frame[34..36] == last.port.to_be_bytes();
        let seen = frames_until(&self.server, "frame to the open address", is_last)?;
        for flow in of {
            let passed = seen.iter().find(|frame| is_between(frame, flow.src, flow.dst) && !is_last(frame));
            assert_eq!(passed, None, "a frame to {} passed", flow.to());
        }
        Ok(())
    }

    fn assert_server_sees(&self, flow: Flow, what: &str) -> Outcome {
        frames_until(&self.server, what, |frame| is_between(frame, flow.src, flow.dst))?;
        Ok(())
    }
}

impl Flow {
    fn to(self) -> String {
        std::net::SocketAddr::new(self.dst, 22).to_string()
    }

    fn from(self) -> String {
        std::net::SocketAddr::new(self.src, self.port).to_string()
    }

    /// A segment with sequence and acknowledgement numbers, ready for a real stack.
    fn segment(self, gateway: [u8; 6], flags: u8, [sequence, acknowledgement]: [u32; 2]) -> Vec<u8> {
        let mut frame = segment(self.dst, 22, flags);
        frame[..SOURCE].copy_from_slice(&gateway);
        frame[SOURCE..SOURCE + 6].copy_from_slice(&GHOST_HARDWARE);
        let tcp = match self.src {
            IpAddr::V4(src) => {
                frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&src.octets());
                ETHERNET + 20
            }
            IpAddr::V6(src) => {
                frame[ETHERNET + 8..ETHERNET + 24].copy_from_slice(&src.octets());
                ETHERNET + 40
            }
        };
        frame[tcp..tcp + 2].copy_from_slice(&self.port.to_be_bytes());
        frame[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
        frame[tcp + 8..tcp + 12].copy_from_slice(&acknowledgement.to_be_bytes());
        frame[tcp + 14..tcp + 16].copy_from_slice(&u16::MAX.to_be_bytes());
        with_checksums(frame)
    }
}

fn flow(src: &str, dst: &str) -> Flow {
    Flow { src: src.parse().unwrap(), dst: dst.parse().unwrap(), port: 40_000 }
}

/// From the ghost to each of two addresses.
fn flows(to: [&str; 2]) -> [Flow; 2] {
    [flow(GHOSTS[0], to[0]), flow(GHOSTS[1], to[1])]
}

fn tags_of_vid_0_hide_no_target() -> Outcome {
    intercepts_under_stripped_tags("tcx")
}

fn tags_of_vid_0_hide_no_target_from_clsact() -> Outcome {
    intercepts_under_stripped_tags("clsact")
}

fn intercepts_under_stripped_tags(mode: &str) -> Outcome {
    let scene = Scene::new();
    let mut gateway = scene.network.gateway("lan.10,wan0", mode)?;
    gateway.command(APPLY)?;
    for (port, tags) in (40_000..).zip(STRIPPED) {
        for flow in flows(TARGETS) {
            scene.assert_intercepted(Flow { port, ..flow }, tags)?;
        }
    }
    assert_eq!(gateway.counter("steered_new"), 2 * STRIPPED.len() as u64);
    assert_eq!(gateway.counter("dropped_assign_failed"), 0);
    scene.assert_server_saw_nothing(&flows(TARGETS))
}

fn leave_targets_closed_without_gateway() -> Outcome {
    let scene = Scene::new();
    let mut gateway = scene.network.gateway("lan.10,wan0", "tcx")?;
    gateway.command(APPLY)?;
    gateway.kill();
    for tags in STRIPPED {
        for flow in flows(TARGETS) {
            scene.send(flow, SYN, [1, 0], tags);
        }
    }
    scene.assert_server_saw_nothing(&flows(TARGETS))
}

fn of_other_vids_lead_to_nobody() -> Outcome {
    let scene = Scene::new();
    let mut gateway = scene.network.gateway("lan.10,wan0", "tcx")?;
    gateway.command(APPLY)?;
    let sets: [&[Tag]; 5] = [
        &[(CUSTOMER, 10)],
        &[(SERVICE, 10)],
        &[(CUSTOMER, 0), (CUSTOMER, 10)],
        &[(SERVICE, 10), (CUSTOMER, 20)],
        &[(CUSTOMER, 10), (CUSTOMER, 0)],
    ];
    for tags in sets {
        for flow in flows(TARGETS).into_iter().chain(flows(OPEN)) {
            scene.send(flow, SYN, [1, 0], tags);
        }
    }
    scene.assert_server_saw_nothing(&flows(TARGETS))?;
    scene.network.assert_targets_intercepted();
    Ok(())
}

fn leave_other_traffic_alone() -> Outcome {
    let scene = Scene::new();
    let mut gateway = scene.network.gateway("lan.10,wan0", "tcx")?;
    gateway.command(APPLY)?;
    for tags in STRIPPED {
        for flow in flows(OPEN) {
            scene.send(flow, SYN, [1, 0], tags);
            scene.assert_server_sees(flow, &format!("frame to {} under {tags:x?}", flow.to()))?;
        }
    }
    Ok(())
}

/// Nobody sends five tags; what may be behind them is not asked, unless there is nothing to protect.
fn beyond_the_bound_lead_to_nobody() -> Outcome {
    let scene = Scene::new();
    let mut gateway = scene.network.gateway("lan.10,wan0", "tcx")?;
    let many = [(CUSTOMER, 0); 5];
    for flow in flows(TARGETS) {
        scene.send(flow, SYN, [1, 0], &many);
        scene.assert_server_sees(flow, "frame under many tags while there are no targets")?;
    }
    gateway.command(APPLY)?;
    for tags in [&many[..], &[(SERVICE, 0); 9]] {
        for flow in flows(TARGETS).into_iter().chain(flows(OPEN)) {
            scene.send(flow, SYN, [1, 0], tags);
        }
    }
    let all: Vec<Flow> = flows(TARGETS).into_iter().chain(flows(OPEN)).collect();
    scene.assert_server_saw_nothing(&all)?;
    assert_eq!(gateway.counter("dropped_unparsable"), 8);
    Ok(())
}
