//! From the start of a frame to its network header, behind whatever tags.
//!
//! Before ingress the kernel takes one tag (802.1Q or 802.1ad) off a frame and keeps it beside the
//! packet; the frame then looks untagged to the programs. What it does behind them
//! (`__netif_receive_skb_core`): to the VLAN device of that tag if there is one, where the next tag
//! is taken off and the programs of that device run; else, if the VID is 0, the next tag is taken
//! off, as many as there are (`check_vlan_id`); else the packet is nobody's. So a packet that the
//! stack takes in may have any number of tags in the frame, and only the stack knows which VIDs
//! lead somewhere. Therefore no VID is asked: what is a target's is steered under any tags. The
//! socket and the mark stay with the packet while its tags are taken off, so where the stack takes
//! it in, it gets to our socket, and nowhere else.
//!
//! | tags on the wire | what the stack does | what we do |
//! |---|---|---|
//! | none | takes it in | match it |
//! | one, VID 0 | takes it off before us, takes the packet in on this interface | match it |
//! | one, VID with a device | gives it to the device | match it here, and, where the device is configured too, there again |
//! | one, VID without a device | drops it | match it; a packet that we steer is dropped all the same |
//! | two to four, all VID 0 | takes in what is inside | match what is inside |
//! | two to four, other VIDs | device by device; drops it where one is missing | match what is inside, at each configured device |
//! | 802.1ad (0x88a8), outside or inside | as 802.1Q | as 802.1Q |
//! | a device's own, `reorder_hdr off` | shows it in the frame of the device | match what is inside |
//! | five and more | as two to four | drop it, whatever it carries, if there are targets at all |
//!
//! So an interface that is configured is closed for targets with all VLANs on it, and an address
//! that is a target's is one in each of these VLANs. Tags of other EtherTypes (0x9100) are none to
//! the kernel, and what is behind them is no packet to it.

use aya_ebpf::programs::TcContext;

/// After both hardware addresses.
const ETHERTYPE_OFFSET: usize = 12;
const ETHERTYPE_LENGTH: usize = 2;
/// Priority and VID, and the EtherType of what follows.
const TAG_LENGTH: usize = 4;
/// Tags in the frame that are walked, behind the one that the kernel has taken off.
const MAX_TAGS: usize = 3;

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const CUSTOMER_TAG: [u8; 2] = [0x81, 0x00];
const SERVICE_TAG: [u8; 2] = [0x88, 0xa8];

/// What a frame carries, and at which offset.
pub(crate) enum Network {
    /// An IPv4 packet.
    V4(usize),
    /// An IPv6 packet.
    V6(usize),
    /// Neither.
    Other,
    /// More tags than are walked, and whatever is behind them.
    TooManyTags,
}

impl Network {
    /// Walks the tags of a frame.
    #[inline(always)]
    pub(crate) fn find(ctx: &TcContext) -> Self {
        let mut offset = ETHERTYPE_OFFSET;
        for _ in 0..=MAX_TAGS {
            match ctx.load::<[u8; ETHERTYPE_LENGTH]>(offset) {
                Ok(IPV4) => return Self::V4(offset + ETHERTYPE_LENGTH),
                Ok(IPV6) => return Self::V6(offset + ETHERTYPE_LENGTH),
                Ok(CUSTOMER_TAG | SERVICE_TAG) => offset += TAG_LENGTH,
                Ok(_) | Err(_) => return Self::Other,
            }
        }
        Self::TooManyTags
    }
}
