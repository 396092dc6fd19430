//! VLANs on the fast path: which device a frame comes in by, and what it looks like when it leaves.
//!
//! The stack takes an 802.1Q tag off a frame and gives it to the VLAN device of that VID, whose routes, settings
//! and hardware address then count; what leaves by such a device gets the tag of its VID, with priority 0.
//! User space says which VLAN devices do no more than that. A frame that names none of them, or has a
//! further tag, is the stack's, as is a priority tag (VID 0).
//!
//! The network header begins four bytes later under a tag, so its alignment is the same.

use portreeve_ebpf::fast_path::{FastInterface, FastPathReason as Reason, Vlan};

use super::fib::Route;
use super::frame::Frame;
use super::xdp_maps;

/// After both hardware addresses and the EtherType.
pub(crate) const UNTAGGED: usize = 14;
/// The same behind one tag.
const TAGGED: usize = UNTAGGED + TAG_LENGTH as usize;
/// EtherType of the tag, then priority and VID.
const TAG_LENGTH: i32 = 4;
/// EtherType of 802.1Q as it is in memory.
pub(crate) const CUSTOMER_TAG: u16 = 0x8100_u16.to_be();
const VID: u16 = 0x0fff;
/// Shorter frames are filled up on the wire (IEEE 802.3, without the check sequence).
const SHORTEST_FRAME: usize = 60;

/// How a frame came in.
pub(crate) struct Arrival {
    /// The interface, or the VLAN device that its tag names.
    pub(crate) interface: FastInterface,
    /// Where its network header begins.
    pub(crate) network: usize,
}

impl Arrival {
    /// Of a frame with a tag, on an interface that takes part; and the EtherType behind the tag.
    #[inline(always)]
    pub(crate) fn tagged(frame: &Frame<'_>, on: u32) -> Result<(Self, u16), Reason> {
        let [tag, ethertype] = frame.read::<[u16; 2]>(UNTAGGED).ok_or(Reason::PassedFrame)?;
        let vlan = Vlan { on, vid: (u16::from_be(tag) & VID) as u32 };
        let interface = xdp_maps::vlan_device(&vlan).ok_or(Reason::PassedFrame)?;
        Ok((Self { interface, network: TAGGED }, ethertype))
    }

    /// Length up to which a frame may have been filled: before its tag was put on, or after.
    #[inline(always)]
    pub(crate) fn shortest(&self) -> usize {
        SHORTEST_FRAME + self.network - UNTAGGED
    }
}

/// Says that the frame leaves by a device, or by the interface under a VLAN device; its tag, 0 for none.
#[inline(always)]
pub(crate) fn redirect(arrival: &Arrival, egress: u32) -> Result<u16, Reason> {
    if xdp_maps::redirect(arrival.interface.egress_key(egress)) {
        return Ok(0);
    }
    let vlan = xdp_maps::tag_of(egress).ok_or(Reason::PassedEgress)?;
    if xdp_maps::redirect(arrival.interface.egress_key(vlan.on)) {
        Ok(vlan.vid as u16)
    } else {
        Err(Reason::PassedEgress)
    }
}

/// Puts a tag on the frame, takes its tag off, changes or leaves it, so that `tag` is what it has; writes the
/// addresses of the next hop, and `word` at `offset` of the network header.
#[inline(always)]
pub(crate) fn rewrite(
    frame: &Frame<'_>,
    arrival: &Arrival,
    (tag, route): (u16, &Route),
    (offset, word): (usize, u32),
) -> Result<(), Reason> {
    let [a, b, c, d, e, f] = route.addresses;
    let written = if tag == 0 {
        if arrival.network == TAGGED && !take_off(frame) {
            return Err(Reason::PassedFrame);
        }
        frame.write(UNTAGGED + offset, word) && frame.write(0, route.addresses)
    } else {
        if arrival.network == UNTAGGED && !frame.move_start(-TAG_LENGTH) {
            return Err(Reason::PassedFrame);
        }
        frame.write(TAGGED + offset, word) && frame.write(0, [a, b, c, d, e, f, CUSTOMER_TAG, tag.to_be()])
    };
    // Both places were read, so they are there.
    if written { Ok(()) } else { Err(Reason::PassedFrame) }
}

/// Takes the bytes of a tag off; what would be too short then is filled before.
#[inline(always)]
fn take_off(frame: &Frame<'_>) -> bool {
    let left = frame.length() as i32 - TAG_LENGTH;
    let missing = SHORTEST_FRAME as i32 - left;
    (missing <= 0 || frame.lengthen(missing)) && frame.move_start(TAG_LENGTH)
}
