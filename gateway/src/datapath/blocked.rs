//! The flows that network policies blocked in the kernel, one by one, for the access log.
//!
//! Flows that come faster than they are read are counted by the kernel, and not told here.

use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use nix::net::if_::if_indextoname;
use portreeve_core::net::interface::InterfaceName;
use portreeve_core::net::{ClientAddr, FlowTuple, OriginalDst};
use portreeve_ebpf::names;
use portreeve_ebpf::rules::BlockedFlow;
use portreeve_ebpf::targets::FAMILY_V4;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::DatapathError;
use super::maps::failed;

const READ_EVERY: Duration = Duration::from_millis(50);

/// Reader of the blocked flows.
pub struct BlockedFlows {
    ring: RingBuf<MapData>,
    ticks: Interval,
}

impl BlockedFlows {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let name = names::BLOCKED_FLOWS;
        let map = ebpf.take_map(name).ok_or(DatapathError::MissingInObject { name })?;
        let ring = RingBuf::try_from(map).map_err(failed(name))?;
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { ring, ticks })
    }

    /// The next flow, and the interface that it came in on; dropping the future loses nothing.
    pub async fn next(&mut self) -> (FlowTuple, Option<InterfaceName>) {
        loop {
            while let Some(entry) = self.ring.next() {
                if let Some(flow) = read(&entry) {
                    return flow;
                }
            }
            self.ticks.tick().await;
        }
    }
}

impl std::fmt::Debug for BlockedFlows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockedFlows(..)")
    }
}

/// Reads an entry word by word; `None` when it is too short, which only another build would write.
fn read(entry: &[u8]) -> Option<(FlowTuple, Option<InterfaceName>)> {
    const WORDS: usize = size_of::<BlockedFlow>() / 4;
    let words: Vec<[u8; 4]> = entry.as_chunks().0.iter().copied().take(WORDS).collect();
    let [a, b, c, d, e, f, g, h, ports, family, interface, ..] = *words.as_slice() else { return None };
    let family = u32::from_ne_bytes(family);
    let addr = |words: [[u8; 4]; 4]| match family == u32::from(FAMILY_V4) {
        true => {
            let [first, ..] = words;
            IpAddr::from(Ipv4Addr::from(first))
        }
        false => {
            let mut octets = [0; 16];
            octets.as_chunks_mut().0.copy_from_slice(&words);
            IpAddr::from(Ipv6Addr::from(octets))
        }
    };
    let [low, high, other_low, other_high] = ports;
    let (src_port, dst_port) = (u16::from_ne_bytes([low, high]), u16::from_ne_bytes([other_low, other_high]));
    let flow = FlowTuple {
        client: ClientAddr::new(SocketAddr::new(addr([a, b, c, d]), src_port)),
        original_dst: OriginalDst::new(SocketAddr::new(addr([e, f, g, h]), dst_port)),
    };
    let name = if_indextoname(u32::from_ne_bytes(interface)).ok();
    let name = name.and_then(|name| InterfaceName::new(name.to_str().ok()?).ok());
    Some((flow, name))
}
