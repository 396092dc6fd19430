//! The daemon's own log: one line per event on standard error.
//!
//! ERROR means a human must act; INFO is the start, denial and end of sessions, generations and
//! attachments. Payloads and secrets are never logged. The access log is a separate stream.

use std::error::Error;
use std::iter::successors;

use tracing_subscriber::EnvFilter;

/// Installs the log; `RUST_LOG` narrows or widens it, `json` makes each line a JSON object.
///
/// # Errors
/// When another subscriber is installed already.
pub fn init(json: bool) -> Result<(), Box<dyn Error + Send + Sync>> {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,russh=warn,netlink_proto=warn,aya=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() }
}

/// An error and its causes in one line.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
