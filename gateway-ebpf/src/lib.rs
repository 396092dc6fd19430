//! The contract between the kernel programs and user space.
//!
//! Owns the layout of every map key, the meaning of every map value, and the names by which user
//! space finds programs, maps and globals in the object file. Both sides compile this crate, so a
//! layout cannot drift between them within one build; [`ABI_VERSION`] guards it across builds,
//! where pinned maps of an older build may still be in the kernel.
//!
//! Invariants: `repr(C)`, what is compared is in network order in memory, padding is spelled out and
//! zero (a hash map compares it), no `bool` and no Rust enum is a field.
//!
//! Deliberately absent: any code that runs in the kernel (see the binary of this package) and any
//! map operation (see the gateway's `datapath`).

#![no_std]

pub mod fast_path;
pub mod names;
pub mod rules;
pub mod stats;
pub mod targets;

/// Version of everything in this crate that outlives a process in a pinned map.
///
/// Raise it when a key, a value, a map type or a map size changes.
pub const ABI_VERSION: u32 = 2;
