//! The SSH sides of a session and the relay between them: the asynchronous driver of `portreeve-ssh`.
//!
//! The flow: [`upstream::connect`] learns who the target says it is, and [`downstream::greet`] tells the
//! user; while [`upstream::Identified::exchange_keys`] learns the target's host key, the user's client and
//! the gateway agree on algorithms; [`downstream::Greeted::ask_login`] shows derived keys and learns the
//! login, [`upstream::Upstream::log_in`] takes the certificate to the target, and [`relay::run`] joins both
//! sides until one of them ends. Decisions are the caller's
//! throughout; no type of `portreeve-ssh` is part of a signature that the session uses.

pub mod byte_stream;
pub mod downstream;
mod fault;
mod host_keys;
mod link;
pub mod observe;
mod offers;
pub mod refusal;
pub mod relay;
pub mod shown_keys;
pub mod upstream;

pub use fault::ProtocolFault;
