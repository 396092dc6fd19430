//! Network-namespace harness of portreeve.
//!
//! Owns the testbed: three network namespaces (client - gateway - server), a real OpenSSH server
//! in a mount namespace of its own, and on the intercepted route a running gateway. The end-to-end
//! tests, `cargo xtask testbed` and `cargo xtask demo` all stand on [`Testbed`].
//!
//! Invariants: nothing of the machine is changed but names below `/run/netns`, records below
//! `/run/portreeve-testbed` and the testbed's own directory; all of it goes away however the owning
//! process ends (see [`keeper`]). Every wait has a deadline.
//!
//! A program that starts testbeds calls [`role::divert`] first thing in `main`.

pub mod deadline;
pub mod echo;
pub mod execute;
pub mod frames;
pub mod gateway;
pub mod init;
pub mod interrupt;
pub mod keeper;
pub mod netns;
pub mod raw_client;
pub mod requirement;
pub mod role;
pub mod server;
pub mod template;
pub mod terminal;
pub mod testbed;
pub mod topology;
pub mod tun;
pub mod wire;

pub use execute::{Companion, Finished, run};
pub use gateway::Gateway;
pub use netns::Netns;
pub use server::Server;
pub use testbed::{Options, Route, Testbed};
