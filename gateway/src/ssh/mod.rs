//! The SSH sides of a session and the relay between them.
//!
//! The only place that names russh; no russh type is part of a public signature. The flow is linear:
//! [`upstream::connect`] learns the target's host key, [`downstream::accept`] shows the user derived
//! keys and learns the login, [`upstream::Upstream::log_in`] takes the certificate to the target, and
//! [`relay::run`] joins both sides until one of them ends. Decisions are the caller's throughout.

mod algorithms;
mod asked;
pub mod downstream;
mod fault;
mod lifeline;
pub mod observe;
pub mod refusal;
pub mod relay;
pub mod upstream;
mod user_text;

pub use fault::ProtocolFault;
