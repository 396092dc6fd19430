//! The portreeve gateway: edges around `portreeve-core`.
//!
//! [`app`] wires the parts; [`session`] is one connection from accept to outcome. Each other module
//! owns one edge to the outside: kernel, sockets, SSH, files. ARCHITECTURE.md has the map.

pub mod access_log;
pub mod admin;
pub mod app;
pub mod audit;
pub mod ca;
pub mod capabilities;
pub mod cli;
pub mod clock;
pub mod control;
pub mod datapath;
pub mod doctor;
pub mod export;
pub mod fips;
pub mod http;
pub mod known_hosts;
pub mod listener;
pub mod metrics;
pub mod probe;
pub mod provision;
pub mod recording;
pub mod secret_file;
pub mod session;
pub mod ship;
pub mod ssh;
pub mod store;
pub mod systemd;
pub mod telemetry;
