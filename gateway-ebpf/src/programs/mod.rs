//! What the entry points are made of. Each submodule owns one kind of access to the kernel.

pub(crate) mod maps;
pub(crate) mod parse;
pub(crate) mod sk_lookup;
pub(crate) mod socket;
pub(crate) mod tags;
pub(crate) mod tc;
