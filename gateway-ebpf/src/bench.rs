//! Kernel programs for `cargo xtask bench datapath`: an object file of its own, which no gateway loads.
//!
//! A run of the kernel's test facility repeats one frame, and a forwarded frame is not what it was; so
//! each program under test is called by a wrapper that writes the next of many frames first. The same
//! wrapper around an empty program costs what is subtracted.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
    use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
    use aya_ebpf::macros::{classifier, map, xdp};
    use aya_ebpf::maps::{Array, PerCpuArray, ProgramArray};
    use aya_ebpf::programs::{TcContext, XdpContext};

    /// A frame of eighty bytes.
    type Frame = [u32; 20];

    const MOST: u32 = 1 << 16;

    #[map]
    static FRAMES: Array<Frame> = Array::with_max_entries(MOST, 0);
    /// Number of frames, a power of two, less one.
    #[map]
    static MASK: Array<u32> = Array::with_max_entries(1, 0);
    #[map]
    static CURSOR: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);
    #[map]
    static DROPPED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
    #[map]
    static TC: ProgramArray = ProgramArray::with_max_entries(1, 0);
    #[map]
    static XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);

    #[inline(always)]
    #[expect(unsafe_code, reason = "the cursor of this CPU is reached by pointer")]
    fn next() -> Option<&'static Frame> {
        let cursor = CURSOR.get_ptr_mut(0)?;
        // SAFETY: a per-CPU value, and a run is not interrupted by another on its CPU.
        let index = unsafe {
            *cursor += 1;
            *cursor
        };
        FRAMES.get(index & *MASK.get(0)?)
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "packet pointers")]
    fn put(ctx: &XdpContext) -> Option<()> {
        let frame = next()?;
        let place = ctx.data();
        if place + size_of::<Frame>() > ctx.data_end() {
            return None;
        }
        // SAFETY: within the frame, and integers.
        unsafe { *(place as *mut Frame) = *frame };
        Some(())
    }

    #[xdp]
    #[expect(unsafe_code, reason = "a tail call")]
    pub(crate) fn wrapped_xdp(ctx: XdpContext) -> u32 {
        if put(&ctx).is_some() {
            // SAFETY: nothing is held that the next program would miss.
            unsafe { XDP.tail_call(&ctx, 0) };
        }
        XDP_ABORTED
    }

    #[classifier]
    #[expect(unsafe_code, reason = "a tail call")]
    pub(crate) fn wrapped_tc(ctx: TcContext) -> i32 {
        if let Some(frame) = next() {
            if ctx.store(0, frame, 0).is_ok() {
                // SAFETY: nothing is held that the next program would miss.
                unsafe { TC.tail_call(&ctx, 0) };
            }
        }
        TC_ACT_SHOT as i32
    }

    /// Sends frames on the interface that it is run for.
    #[xdp]
    pub(crate) fn generate_xdp(ctx: XdpContext) -> u32 {
        if put(&ctx).is_some() { XDP_TX } else { XDP_ABORTED }
    }

    #[xdp]
    pub(crate) fn empty_xdp(_ctx: XdpContext) -> u32 {
        XDP_PASS
    }

    #[classifier]
    pub(crate) fn empty_tc(_ctx: TcContext) -> i32 {
        TC_ACT_UNSPEC
    }

    /// The end of a way; counts what arrives.
    #[xdp]
    #[expect(unsafe_code, reason = "the counter of this CPU is reached by pointer")]
    pub(crate) fn drop_xdp(_ctx: XdpContext) -> u32 {
        if let Some(counter) = DROPPED.get_ptr_mut(0) {
            // SAFETY: a per-CPU value, and XDP programs of one CPU do not interrupt each other.
            unsafe { *counter += 1 }
        }
        XDP_DROP
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[expect(unsafe_code, reason = "the loader finds the licence by its section")]
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 26] = *b"GPL and additional rights\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
