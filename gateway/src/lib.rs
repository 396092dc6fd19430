//! The portreeve gateway: edges around `portreeve-core`.
//!
//! [`app`] wires the parts; [`session`] is one connection from accept to outcome. Each other module
//! owns one edge to the outside: kernel, sockets, SSH, files. ARCHITECTURE.md has the map.

pub mod ca;
pub mod datapath;
pub mod known_hosts;
pub mod listener;
pub mod recording;
pub mod secret_file;
pub mod ssh;
