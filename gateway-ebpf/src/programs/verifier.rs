//! What the verifier is to forget.
//!
//! It follows each way to a place apart as long as the ways have left different values: three lengths of a header
//! make three ways of everything behind it, and eight headers in a row thousands. Of a value that it knows nothing
//! about there is one.

use core::hint::black_box;

use aya_ebpf::programs::TcContext;

/// The same value, of which the verifier knows no more than that it is within `mask`, which is one less than a power of two.
///
/// What is not within is cut, so the mask must have room for all that comes. A packet's length is nothing that the verifier knows, and
/// of two numbers, one of which it does not know, it does not compute the exclusive or; the compiler is kept from seeing that
/// the second one undoes the first.
#[inline(always)]
#[expect(unsafe_code, reason = "the context is a kernel structure behind a pointer")]
pub(crate) fn forget(ctx: &TcContext, value: usize, mask: usize) -> usize {
    // SAFETY: the verifier translates the access to a field of the context.
    let unknown = unsafe { (*ctx.skb.skb).len };
    (black_box(value as u32 ^ unknown) ^ unknown) as usize & mask
}
