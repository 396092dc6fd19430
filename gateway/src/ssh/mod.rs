//! The SSH sides of a session and the relay between them: the asynchronous driver of `portreeve-ssh`.
//!
//! The flow is linear: [`upstream::connect`] learns the target's host key, [`downstream::accept`] shows
//! the user derived keys and learns the login, [`upstream::Upstream::log_in`] takes the certificate to
//! the target, and [`relay::run`] joins both sides until one of them ends. Decisions are the caller's
//! throughout; no type of `portreeve-ssh` is part of a signature that the session uses.

pub mod downstream;
mod fault;
mod host_keys;
mod link;
pub mod observe;
mod offers;
pub mod refusal;
pub mod relay;
pub mod upstream;

pub use fault::ProtocolFault;
