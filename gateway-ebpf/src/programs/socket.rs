//! Kernel sockets: find one, assign it to a packet, release it.
//!
//! aya-ebpf has these helpers only in raw form, so the unsafe code of steering is here.
//! Invariant: every reference that a lookup returns is released before the function returns; a
//! leaked reference would keep the socket for ever, and the verifier refuses the program.

#![expect(unsafe_code, reason = "raw kernel helpers")]

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_TCP_LISTEN, BPF_TCP_TIME_WAIT, bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::{bpf_map_lookup_elem, bpf_sk_assign, bpf_sk_release, bpf_skc_lookup_tcp};
use aya_ebpf::programs::TcContext;
use portreeve_ebpf::names::{SLOT_V4, SLOT_V6};
use portreeve_ebpf::targets::{FAMILY_V4, Words};

use super::maps::LISTENERS;
use super::parse::Packet;

/// What became of an attempt to assign a socket.
pub(crate) enum Assigned {
    /// The packet has the socket.
    Yes,
    /// The kernel refused it.
    Refused,
    /// There is no such socket.
    NoSocket,
    /// The packet has the socket, which is in TIME_WAIT.
    TimeWait,
}

#[repr(C)]
struct TupleV4 {
    src: u32,
    dst: u32,
    src_port: u16,
    dst_port: u16,
}

#[repr(C)]
struct TupleV6 {
    src: Words,
    dst: Words,
    src_port: u16,
    dst_port: u16,
}

/// Assigns the socket of the connection that the segment belongs to.
///
/// The helper falls back to listening sockets; those are ignored, because the one that it finds may
/// be the router's own sshd on the wildcard address.
#[inline(always)]
pub(crate) fn assign_connection(ctx: &TcContext, packet: &Packet) -> Assigned {
    let sk = lookup(ctx, packet);
    if sk.is_null() {
        return Assigned::NoSocket;
    }
    // SAFETY: not null, and a reference is held; `state` may be read of any kind of socket.
    let state = unsafe { (*sk).state };
    let assigned = if state == BPF_TCP_LISTEN {
        Assigned::NoSocket
    } else {
        // SAFETY: a TC context and a socket that is referenced.
        match unsafe { bpf_sk_assign(ctx.as_ptr(), sk.cast(), 0) } {
            0 if state == BPF_TCP_TIME_WAIT => Assigned::TimeWait,
            0 => Assigned::Yes,
            _ => Assigned::Refused,
        }
    };
    // SAFETY: the reference that the lookup took; `sk` is not used any more.
    unsafe { bpf_sk_release(sk.cast()) };
    assigned
}

/// Whether there is a socket of the connection that the segment belongs to.
#[inline(always)]
pub(crate) fn has_connection(ctx: &TcContext, packet: &Packet) -> bool {
    let sk = lookup(ctx, packet);
    if sk.is_null() {
        return false;
    }
    // SAFETY: not null, and a reference is held; `state` may be read of any kind of socket.
    let state = unsafe { (*sk).state };
    // SAFETY: the reference that the lookup took; `sk` is not used any more.
    unsafe { bpf_sk_release(sk.cast()) };
    state != BPF_TCP_LISTEN
}

/// Assigns the listener of the packet's family.
#[inline(always)]
pub(crate) fn assign_listener(ctx: &TcContext, family: u8) -> Assigned {
    let sk = listener(family);
    if sk.is_null() {
        return Assigned::NoSocket;
    }
    // SAFETY: a TC context and a socket that is referenced.
    let result = unsafe { bpf_sk_assign(ctx.as_ptr(), sk, 0) };
    // SAFETY: the reference that the lookup took; `sk` is not used any more.
    unsafe { bpf_sk_release(sk) };
    if result == 0 { Assigned::Yes } else { Assigned::Refused }
}

/// Slot of a family in the listener map.
#[inline(always)]
pub(crate) fn slot(family: u8) -> u32 {
    if family == FAMILY_V4 { SLOT_V4 } else { SLOT_V6 }
}

#[inline(always)]
fn listener(family: u8) -> *mut c_void {
    let slot = slot(family);
    // SAFETY: the map lives as long as the program, and the key is a u32 as the map declares.
    unsafe { bpf_map_lookup_elem(ptr::from_ref(&LISTENERS).cast_mut().cast(), ptr::from_ref(&slot).cast()) }
}

#[inline(always)]
fn lookup(ctx: &TcContext, packet: &Packet) -> *mut bpf_sock {
    let (src_port, dst_port) = (packet.src_port.to_be(), packet.dst_port.to_be());
    if packet.family == FAMILY_V4 {
        let mut tuple = TupleV4 { src: packet.src[0], dst: packet.dst[0], src_port, dst_port };
        lookup_tuple(ctx, &mut tuple)
    } else {
        let mut tuple = TupleV6 { src: packet.src, dst: packet.dst, src_port, dst_port };
        lookup_tuple(ctx, &mut tuple)
    }
}

/// `T` is [`TupleV4`] or [`TupleV6`]: the helper tells the family by the size.
#[inline(always)]
fn lookup_tuple<T>(ctx: &TcContext, tuple: &mut T) -> *mut bpf_sock {
    /// `BPF_F_CURRENT_NETNS`: the network namespace of the interface.
    const CURRENT_NETNS: u64 = u64::MAX;
    // SAFETY: the tuple has the layout of its half of `bpf_sock_tuple`, and its own size is passed.
    unsafe {
        bpf_skc_lookup_tcp(
            ctx.as_ptr(),
            ptr::from_mut(tuple).cast::<bpf_sock_tuple>(),
            size_of::<T>() as u32,
            CURRENT_NETNS,
            0,
        )
    }
}
