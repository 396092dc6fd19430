//! Steering: what happens to one frame at the ingress of an interface.
//!
//! A segment to a target is given to the socket of its connection, else to our listener; when there
//! is none, it is dropped. A steered packet carries the mark that routes it to the local host, and a
//! socket, which makes the stack drop it rather than forward it should that route be missing.
//!
//! A connection attempt that meets a TIME_WAIT socket is given that socket: the stack then ends
//! TIME_WAIT and looks for a listener itself, where [`super::sk_lookup`] names ours. Given the
//! listener at once, it would stay unanswered until TIME_WAIT is over.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::debug;
use portreeve_ebpf::stats::Reason;
use portreeve_ebpf::targets::{FAMILY_V4, Words};

use super::maps::{any_target, is_target, is_target_address, mark};
use super::parse::{Packet, Payload};
use super::socket::{Assigned, assign_connection, assign_listener};
use super::{icmp, reverse_path};

/// Decides about a frame, and marks and assigns it when it is steered.
#[inline(always)]
pub(crate) fn steer(ctx: &TcContext) -> Reason {
    let packet = Packet::read(ctx);
    match packet.payload {
        Payload::Other => Reason::PassedNotTarget,
        Payload::Icmp => deliver_error(ctx, &packet),
        Payload::Tcp if is_target(packet.family, &packet.dst, packet.dst_port) => {
            let reason = steer_segment(ctx, &packet);
            log(ctx, &packet, reason);
            reason
        }
        Payload::Tcp if is_target(packet.family, &packet.src, packet.src_port) => steer_return(ctx, &packet),
        Payload::Tcp => Reason::PassedNotTarget,
        Payload::Fragment => drop_if_target(ctx, &packet, Reason::DroppedFragment),
        Payload::Unknown => drop_if_target(ctx, &packet, Reason::DroppedUnparsable),
        Payload::TooManyTags if any_target() => Reason::DroppedUnparsable,
        Payload::TooManyTags => Reason::PassedNotTarget,
    }
}

#[inline(always)]
fn drop_if_target(ctx: &TcContext, packet: &Packet, reason: Reason) -> Reason {
    if !is_target_address(packet.family, &packet.dst) {
        return Reason::PassedNotTarget;
    }
    log(ctx, packet, reason);
    reason
}

/// What comes from a target belongs to us where we have dialled it, in whosever name.
#[inline(always)]
fn steer_return(ctx: &TcContext, packet: &Packet) -> Reason {
    match assign_connection(ctx, packet) {
        Assigned::Yes | Assigned::TimeWait => {
            ctx.set_mark(mark());
            Reason::SteeredReturn
        }
        Assigned::NoSocket => Reason::PassedNotTarget,
        Assigned::Refused => Reason::DroppedAssignFailed,
    }
}

/// An error about a packet of ours is delivered here, whosever name the packet bore.
#[inline(always)]
fn deliver_error(ctx: &TcContext, packet: &Packet) -> Reason {
    if !icmp::is_about_our_connection(ctx, packet) {
        return Reason::PassedNotTarget;
    }
    ctx.set_mark(mark());
    Reason::SteeredError
}

#[inline(always)]
fn steer_segment(ctx: &TcContext, packet: &Packet) -> Reason {
    if !reverse_path::holds(ctx, packet) {
        return Reason::DroppedReversePath;
    }
    let reason = match assign_connection(ctx, packet) {
        Assigned::Yes => Reason::SteeredEstablished,
        Assigned::TimeWait => Reason::SteeredTimeWait,
        Assigned::Refused => return Reason::DroppedAssignFailed,
        Assigned::NoSocket => match assign_listener(ctx, packet.family) {
            Assigned::Yes => Reason::SteeredNew,
            Assigned::NoSocket => return Reason::DroppedNoListener,
            Assigned::Refused | Assigned::TimeWait => return Reason::DroppedAssignFailed,
        },
    };
    ctx.set_mark(mark());
    reason
}

/// Costs nothing when it is off: the level is a constant to the verifier, which removes the code.
#[inline(always)]
fn log(ctx: &TcContext, packet: &Packet, reason: Reason) {
    let (port, reason) = (packet.dst_port, reason.index());
    if packet.family == FAMILY_V4 {
        let (src, dst) = (packet.src[0].to_ne_bytes(), packet.dst[0].to_ne_bytes());
        debug!(ctx, "{:i} to {:i} port {}: reason {}", src, dst, port, reason);
    } else {
        let (src, dst) = (octets(packet.src), octets(packet.dst));
        debug!(ctx, "{:i} to {:i} port {}: reason {}", src, dst, port, reason);
    }
}

#[inline(always)]
fn octets(addr: Words) -> [u8; 16] {
    let [a, b, c, d] = addr.map(u32::to_ne_bytes);
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}
