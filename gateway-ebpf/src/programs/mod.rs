//! What the entry points are made of. Each submodule owns one kind of access to the kernel.

mod icmp;
pub(crate) mod maps;
pub(crate) mod parse;
pub(crate) mod reverse_path;
pub(crate) mod sk_lookup;
mod socket;
pub(crate) mod tags;
pub(crate) mod tc;
