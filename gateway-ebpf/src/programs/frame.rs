//! The bytes of a frame at XDP and of a packet at TC, and the only code that follows a packet pointer.
//!
//! At XDP a frame is in one piece: a program that does not say that it
//! takes pieces gets none. At TC the pointers lead to the first of several; what is not in it is copied by
//! the kernel. The kernel checks each access against the end that was compared with.

#![expect(unsafe_code, reason = "packet pointers")]

use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::{TcContext, XdpContext};

/// Types that are integers and nothing else, so that any bytes are one of them.
///
/// # Safety
/// No padding, every bit pattern valid, and no field needs more alignment than it has in a frame whose
/// network header is aligned to four bytes (which is how the verifier counts).
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: integers.
unsafe impl Plain for u8 {}
// SAFETY: integers.
unsafe impl Plain for u16 {}
// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for [u16; 2] {}
// SAFETY: integers.
unsafe impl Plain for [u16; 6] {}
// SAFETY: integers.
unsafe impl Plain for [u16; 7] {}
// SAFETY: integers.
unsafe impl Plain for [u16; 8] {}
// SAFETY: integers.
unsafe impl Plain for [u32; 5] {}
// SAFETY: integers.
unsafe impl Plain for [u32; 10] {}

/// A frame.
pub(crate) struct Frame<'a> {
    pub(crate) ctx: &'a XdpContext,
}

impl Frame<'_> {
    /// Its length in bytes (`bpf_xdp_get_buff_len`, Linux 5.18).
    ///
    /// Without `CAP_PERFMON` the verifier lets nobody take the difference of two packet pointers.
    #[inline(always)]
    pub(crate) fn length(&self) -> usize {
        // SAFETY: an XDP context.
        unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) as usize }
    }

    /// What is at an offset, unless the frame ends before.
    #[inline(always)]
    pub(crate) fn read<T: Plain>(&self, offset: usize) -> Option<T> {
        // SAFETY: within the frame, and plain.
        self.at(offset).map(|place| unsafe { *place })
    }

    /// Puts something at an offset; `false` when the frame ends before.
    #[inline(always)]
    pub(crate) fn write<T: Plain>(&self, offset: usize, value: T) -> bool {
        let Some(place) = self.at(offset) else { return false };
        // SAFETY: within the frame, and plain; nothing else holds a pointer into it.
        unsafe { *place = value };
        true
    }

    /// Lets it begin so many bytes later, or with a negative number earlier, with any bytes there; `false` when
    /// it cannot, and is as it was.
    #[inline(always)]
    pub(crate) fn move_start(&self, by: i32) -> bool {
        // SAFETY: an XDP context.
        unsafe { bpf_xdp_adjust_head(self.ctx.ctx, by) == 0 }
    }

    /// Lets it end so many bytes later, with zeros there; `false` when it cannot, and is as it was.
    #[inline(always)]
    pub(crate) fn lengthen(&self, by: i32) -> bool {
        // SAFETY: an XDP context.
        unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, by) == 0 }
    }

    #[inline(always)]
    fn at<T: Plain>(&self, offset: usize) -> Option<*mut T> {
        place(self.ctx.data(), self.ctx.data_end(), offset)
    }
}

/// What is at an offset of a packet at TC, unless the packet ends before.
///
/// A call of the helper that copies costs what a dozen reads do, so it is for what is not in the first
/// piece, where drivers put the headers as a rule.
#[inline(always)]
pub(crate) fn load<T: Plain>(ctx: &TcContext, offset: usize) -> Option<T> {
    match place(ctx.data(), ctx.data_end(), offset) {
        // SAFETY: within the first piece, and plain.
        Some(place) => Some(unsafe { *place }),
        None => ctx.load(offset).ok(),
    }
}

#[inline(always)]
fn place<T: Plain>(data: usize, end: usize, offset: usize) -> Option<*mut T> {
    let place = data + offset;
    (place + size_of::<T>() <= end).then_some(place as *mut T)
}
