//! The limit of open files (RLIMIT_NOFILE): raised as far as it goes, and compared with what may be needed.
//!
//! Does not lower the configured bounds: too few files is a warning, and refused sessions when they run out.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors of one connection: both sockets, the file of events, and the files of two session
/// channels. A shared connection with more channels takes one more for each.
const PER_CONNECTION: u64 = 5;

/// Descriptors of the gateway itself: kernel maps and programs, listeners, logs, the metrics endpoint.
const RESERVE: u64 = 256;

/// Raises the soft limit to the hard one, and logs when that is not enough for `connections`.
pub(super) fn raise_limit(connections: u32) {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(hard)
    });
    match limit {
        Ok(limit) => {
            if let Some(warning) = shortage(limit, connections) {
                tracing::warn!("{warning}");
            }
        }
        Err(error) => tracing::error!(%error, "cannot raise the limit of open files"),
    }
}

/// What to do when `limit` descriptors are too few for `connections`.
fn shortage(limit: u64, connections: u32) -> Option<String> {
    let needed = u64::from(connections).saturating_mul(PER_CONNECTION).saturating_add(RESERVE);
    (limit < needed).then(|| {
        let reached = limit.saturating_sub(RESERVE) / PER_CONNECTION;
        format!(
            "limits.connections = {connections} may need {needed} open files, and the limit is {limit}, enough \
             for about {reached} connections: raise the hard limit (LimitNOFILE= of the systemd unit), or lower \
             limits.connections"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_told_with_both_numbers_and_what_to_do() {
        assert_eq!(shortage(16_384 * 5 + 256, 16_384), None);
        let warning = shortage(16_384 * 5 + 255, 16_384).unwrap();
        for text in ["limits.connections = 16384", "82176", "82175", "LimitNOFILE"] {
            assert!(warning.contains(text), "{text} is not in {warning:?}");
        }
        assert!(shortage(100, 1).unwrap().contains("about 0 connections"));
    }
}
