//! Checksums that a device writes after us.
//!
//! A packet from a virtual machine, a container or a TUN device may come without its checksum, and with
//! the place where a later device is to write it (`CHECKSUM_PARTIAL`), which the sender chooses. Written
//! over addresses or ports it makes another packet of the one that was matched. Real ones are in the upper
//! layer, behind its ports.
//!
//! `bpf_csum_level` tells a checksum that was verified, and makes one of a packet that has none;
//! `bpf_csum_update` works on one that covers the whole packet; what is left is to be written. Where, a program
//! cannot ask: it reads the packet's `sk_buff` in the kernel's memory, whose layout user space tells.
//! (`bpf_skb_change_tail` used to refuse to cut off that place; kernels of 2026 do not.)

#![expect(unsafe_code, reason = "raw kernel helpers")]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_CSUM_LEVEL_DEC, BPF_CSUM_LEVEL_INC, BPF_CSUM_LEVEL_QUERY};
use aya_ebpf::helpers::{bpf_csum_level, bpf_csum_update, bpf_probe_read_kernel};
use aya_ebpf::programs::TcContext;

use super::maps::sk_buff;

/// Bytes of ports.
const PORTS: u64 = 4;

/// Whether a checksum is to be written that touches anything in front of `upper` or the ports there, or
/// nobody knows where.
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
    }
    match place(ctx) {
        // The frame begins so many bytes behind the buffer.
        Some((sum, frame)) => sum < frame + upper as u64 + PORTS,
        None => true,
    }
}

/// Where the checksum is to be written, and where the frame begins, in bytes from the start of the buffer.
#[inline(always)]
fn place(ctx: &TcContext) -> Option<(u64, u64)> {
    let layout = sk_buff();
    let at = |offset: u32| ctx.as_ptr() as usize + offset as usize;
    // SAFETY: the helper checks the address; a TC context is the packet's `sk_buff`, which has these members there.
    let (head, data, start, offset) = unsafe {
        (
            bpf_probe_read_kernel(at(layout.head) as *const u64).ok()?,
            bpf_probe_read_kernel(at(layout.data) as *const u64).ok()?,
            bpf_probe_read_kernel(at(layout.csum_start) as *const u16).ok()?,
            bpf_probe_read_kernel(at(layout.csum_offset) as *const u16).ok()?,
        )
    };
    Some((u64::from(start) + u64::from(offset), data.wrapping_sub(head)))
}
