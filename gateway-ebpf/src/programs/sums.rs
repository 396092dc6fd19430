//! Checksums that a device writes after us.
//!
//! A packet from a virtual machine, a container or a TUN device may come without its checksum, and with
//! the place where a later device is to write it (`CHECKSUM_PARTIAL`), which the sender chooses. Written
//! over addresses or ports it makes another packet of the one that was matched. Real ones are in the upper
//! layer, behind its ports.
//!
//! A program cannot read that place, but it can find out about it: `bpf_csum_level` tells a checksum that
//! was verified, and makes one of a packet that has none; `bpf_csum_update` works on one that covers the
//! whole packet; what is left is to be written, and `bpf_skb_change_tail` does not cut it off.

#![expect(unsafe_code, reason = "raw kernel helpers")]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_CSUM_LEVEL_DEC, BPF_CSUM_LEVEL_INC, BPF_CSUM_LEVEL_QUERY};
use aya_ebpf::helpers::{bpf_csum_level, bpf_csum_update, bpf_skb_change_tail};
use aya_ebpf::programs::TcContext;

/// Bytes of ports.
const PORTS: usize = 4;
/// `-EINVAL`.
const INVALID: core::ffi::c_long = -22;

/// Whether a checksum is to be written that touches anything in front of `upper` or the ports there. The
/// packet may be cut then, and of no use any more.
#[inline(always)]
pub(crate) fn would_be_written_into_headers(ctx: &TcContext, upper: usize) -> bool {
    let skb = ctx.as_ptr().cast();
    // SAFETY: a TC context in each call; the helpers check the rest.
    unsafe {
        if bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY as u64) >= 0 {
            return false;
        }
        bpf_csum_level(skb, BPF_CSUM_LEVEL_INC as u64);
        if bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY as u64) >= 0 {
            bpf_csum_level(skb, BPF_CSUM_LEVEL_DEC as u64);
            return false;
        }
        if bpf_csum_update(skb, 0) >= 0 {
            return false;
        }
        // What is asked first: the end of the sum, two bytes, is not behind the new end of the packet.
        bpf_skb_change_tail(skb, (upper + PORTS + 1) as u32, 0) != INVALID
    }
}
