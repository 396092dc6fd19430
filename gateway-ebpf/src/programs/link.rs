//! What the packets of a device begin with, so where the stack of IP will begin to read.
//!
//! Interfaces of WireGuard and TUN have no header of a link: the first byte is that of the IP header, and which
//! protocol it is stands beside the packet. There are drivers that leave an outer header in front all the
//! same; the kernel knows where the network header begins, and a packet that does not begin with it is
//! one that was not read.

#![expect(unsafe_code, reason = "the context is a kernel structure behind a pointer, and raw kernel helpers")]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::programs::TcContext;

use super::frame::load;
use super::maps::sk_buff;

/// After both hardware addresses.
const ETHERTYPE: usize = 12;
const ETHERNET_HEADER: usize = 14;

/// The header of a link. Each kind has a program of its own, so to the compiler it is a constant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// An Ethernet header.
    Ethernet,
    /// None: IP comes first.
    Bare,
}

impl Link {
    /// The EtherType of what follows, as it is in memory; `None` when the frame ends before.
    #[inline(always)]
    pub(crate) fn ethertype(self, ctx: &TcContext) -> Option<u16> {
        match self {
            Self::Ethernet => load(ctx, ETHERTYPE),
            // SAFETY: the verifier translates the access to a field of the context.
            Self::Bare => Some(unsafe { (*ctx.skb.skb).protocol } as u16),
        }
    }

    /// Bytes of it.
    #[inline(always)]
    pub(crate) fn length(self) -> usize {
        match self {
            Self::Ethernet => ETHERNET_HEADER,
            Self::Bare => 0,
        }
    }

    /// Whether it is what stands in front of the network header.
    #[inline(always)]
    pub(crate) fn is_in_front(self, ctx: &TcContext) -> bool {
        match self {
            // The kernel has read that header already, and taken the packet's protocol from it.
            Self::Ethernet => true,
            Self::Bare => network_header(ctx) == Some(0),
        }
    }
}

/// Where the kernel has the network header, in bytes from the start of the packet.
#[inline(always)]
fn network_header(ctx: &TcContext) -> Option<u64> {
    let layout = sk_buff();
    let at = |offset: u32| ctx.as_ptr() as usize + offset as usize;
    // SAFETY: the helper checks the address; a TC context is the packet's `sk_buff`, which has these members there.
    let (head, data, header) = unsafe {
        (
            bpf_probe_read_kernel(at(layout.head) as *const u64).ok()?,
            bpf_probe_read_kernel(at(layout.data) as *const u64).ok()?,
            bpf_probe_read_kernel(at(layout.network_header) as *const u16).ok()?,
        )
    };
    Some(head.wrapping_add(u64::from(header)).wrapping_sub(data))
}
