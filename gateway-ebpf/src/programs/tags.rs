//! From the start of a frame to its network header, behind whatever tags.
//!
//! Packets without a header of the link ([`super::link`]) are frames here too: the stack takes tags off them as well.
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

use super::frame::load;
use super::link::Link;

/// Priority and VID, and the EtherType of what follows.
const TAG_LENGTH: usize = 4;
/// Tags in the frame that are walked, behind the one that the kernel has taken off.
const MAX_TAGS: usize = 3;

// EtherTypes as they are in memory.
const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
const CUSTOMER_TAG: u16 = 0x8100_u16.to_be();
const SERVICE_TAG: u16 = 0x88a8_u16.to_be();

/// What is behind the tags of a frame.
pub(crate) struct Tags {
    /// What follows them.
    pub(crate) network: Network,
    /// Where that begins.
    pub(crate) offset: usize,
    /// Whether any tag names a VLAN, the one that the kernel has taken off included.
    pub(crate) in_vlan: bool,
}

/// What a frame carries.
pub(crate) enum Network {
    /// An IPv4 packet.
    V4,
    /// An IPv6 packet.
    V6,
    /// Neither.
    Other,
    /// Whatever: behind more tags than are walked, or behind another header than the link's.
    Anything,
}

impl Tags {
    /// Walks the tags of a frame.
    #[inline(always)]
    pub(crate) fn walk(ctx: &TcContext, link: Link) -> Self {
        let (mut ethertype, mut offset) = (link.ethertype(ctx), link.length());
        let mut in_vlan = names_a_vlan(taken_off(ctx));
        if !link.is_in_front(ctx) {
            return Self { network: Network::Anything, offset, in_vlan };
        }
        for _ in 0..=MAX_TAGS {
            let network = match ethertype {
                Some(IPV4) => Network::V4,
                Some(IPV6) => Network::V6,
                Some(CUSTOMER_TAG | SERVICE_TAG) => match load::<[u16; 2]>(ctx, offset) {
                    Some([tag, inner]) => {
                        in_vlan |= names_a_vlan(u16::from_be(tag));
                        ethertype = Some(inner);
                        offset += TAG_LENGTH;
                        continue;
                    }
                    None => Network::Other,
                },
                Some(_) | None => Network::Other,
            };
            return Self { network, offset, in_vlan };
        }
        Self { network: Network::Anything, offset, in_vlan }
    }
}

/// The tag that the kernel has taken off; zero where there was none.
///
/// Up to Linux 6.1 the tag stays there when its VLAN device has the packet, and only no longer counts as present.
#[inline(always)]
#[expect(unsafe_code, reason = "the context is a kernel structure behind a pointer")]
fn taken_off(ctx: &TcContext) -> u16 {
    // SAFETY: the verifier translates the accesses to fields of the context.
    let (present, tag) = unsafe { ((*ctx.skb.skb).vlan_present, (*ctx.skb.skb).vlan_tci as u16) };
    if present != 0 { tag } else { 0 }
}

/// Whether the VID of a tag is another than 0, which only gives a priority.
#[inline(always)]
fn names_a_vlan(tag: u16) -> bool {
    tag & 0x0fff != 0
}
