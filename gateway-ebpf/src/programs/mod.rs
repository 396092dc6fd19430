//! What the entry points are made of. Each submodule owns one kind of access to the kernel.

pub(crate) mod fib;
pub(crate) mod frame;
mod icmp;
mod limits;
pub(crate) mod link;
pub(crate) mod maps;
pub(crate) mod parse;
mod reset;
mod reverse_path;
pub(crate) mod rules;
pub(crate) mod sk_lookup;
mod socket;
mod sums;
pub(crate) mod tags;
pub(crate) mod tc;
mod verifier;
pub(crate) mod xdp;
pub(crate) mod xdp_maps;
mod xdp_vlan;
