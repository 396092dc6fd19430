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

use super::link::Link;
use super::maps::{Parked, any_target, count_attempt, count_seen, is_target, is_target_address, mark, park};
use super::parse::{Packet, Payload};
use super::socket::{Assigned, assign_connection, assign_listener};
use super::{icmp, limits, reset, reverse_path, rules, sums};

/// What became of a frame, and what to return instead of the reason's action, when it was sent back.
pub(crate) struct Outcome {
    pub(crate) reason: Reason,
    pub(crate) sent_back: Option<i32>,
}

impl From<Reason> for Outcome {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self { reason, sent_back: None }
    }
}

/// Decides about a frame, and marks and assigns it when it is steered.
#[inline(always)]
pub(crate) fn steer(ctx: &TcContext, link: Link) -> Outcome {
    let packet = Packet::read(ctx, link);
    match packet.payload {
        Payload::Tcp if is_target(packet.family, &packet.dst, packet.dst_port) => {
            count_seen();
            steer_segment(ctx, &packet, link)
        }
        Payload::Tcp if is_target(packet.family, &packet.src, packet.src_port) => {
            steer_return(ctx, &packet).into()
        }
        Payload::Icmp if icmp::is_about_our_connection(ctx, &packet) => {
            ctx.set_mark(mark());
            Reason::SteeredError.into()
        }
        Payload::Fragment => drop_if_target(ctx, &packet, Reason::DroppedFragment).into(),
        Payload::Unknown => drop_if_target(ctx, &packet, Reason::DroppedUnparsable).into(),
        Payload::Anything if any_target() => {
            count_seen();
            Reason::DroppedUnparsable.into()
        }
        Payload::Tcp | Payload::Icmp | Payload::Other | Payload::Anything => pass(ctx, &packet).into(),
    }
}

/// Index of the interface that the frame came in on.
#[inline(always)]
#[expect(unsafe_code, reason = "the context is a kernel structure behind a pointer")]
pub(crate) fn interface(ctx: &TcContext) -> u32 {
    // SAFETY: the verifier translates the access to a field of the context.
    unsafe { (*ctx.skb.skb).ingress_ifindex }
}

/// What is not for us goes on as it is, unless it will be something else by then.
#[inline(always)]
fn pass(ctx: &TcContext, packet: &Packet) -> Reason {
    if packet.offset != 0 && any_target() && sums::would_be_written_into_headers(ctx, packet.offset) {
        return Reason::DroppedSum;
    }
    Reason::PassedNotTarget
}

#[inline(always)]
fn drop_if_target(ctx: &TcContext, packet: &Packet, reason: Reason) -> Reason {
    if !is_target_address(packet.family, &packet.dst) {
        return pass(ctx, packet);
    }
    count_seen();
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
        Assigned::NoSocket => pass(ctx, packet),
        Assigned::Refused => {
            count_seen();
            Reason::DroppedAssignFailed
        }
    }
}

#[inline(always)]
fn steer_segment(ctx: &TcContext, packet: &Packet, link: Link) -> Outcome {
    let reason = if reverse_path::holds(ctx, packet) {
        match assign_connection(ctx, packet) {
            Assigned::Yes => Reason::SteeredEstablished,
            Assigned::TimeWait => {
                count_if_attempt(packet);
                Reason::SteeredTimeWait
            }
            Assigned::Refused => Reason::DroppedAssignFailed,
            Assigned::NoSocket => {
                return match park(packet, rules::flow(packet)) {
                    Some(parked) => begin(ctx, parked, link),
                    None => Reason::DroppedUnparsable.into(),
                };
            }
        }
    } else {
        Reason::DroppedReversePath
    };
    if matches!(reason, Reason::SteeredEstablished | Reason::SteeredTimeWait) {
        ctx.set_mark(mark());
    }
    log(ctx, packet, reason);
    reason.into()
}

/// A segment to a target that belongs to no connection: the first of one, as a rule.
#[inline(always)]
fn begin(ctx: &TcContext, parked: &'static Parked, link: Link) -> Outcome {
    let packet = &parked.packet;
    let mut sent_back = None;
    let reason = if let Some(limit) = limits::exceeded(packet) {
        limit
    } else if let Some((bank, policy)) = rules::blocking(parked) {
        rules::report(ctx, packet, bank, policy);
        sent_back = reset::send_back(ctx, packet, link);
        Reason::DroppedPolicy
    } else {
        match assign_listener(ctx, packet.family) {
            Assigned::Yes => {
                ctx.set_mark(mark());
                count_if_attempt(packet);
                Reason::SteeredNew
            }
            Assigned::NoSocket => Reason::DroppedNoListener,
            Assigned::Refused | Assigned::TimeWait => Reason::DroppedAssignFailed,
        }
    };
    log(ctx, packet, reason);
    Outcome { reason, sent_back }
}

#[inline(always)]
fn count_if_attempt(packet: &Packet) {
    if packet.begins_a_connection() {
        count_attempt();
    }
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
