//! Shipping: which finished recording is copied next, when one is set aside, and which may be deleted.
//!
//! Owns the names of what is shipped, the decisions, and the documents that tell about them: per
//! destination that a recording is confirmed or set aside. Pure: times
//! and random numbers are passed in. Deliberately absent: files and destinations.

mod backlog;
mod credentials;
mod digest;
mod item;
mod retention;
mod state;

pub use backlog::{Backlog, Failure, Verdict};
pub use credentials::{CredentialsError, S3Credentials};
pub use digest::{Sha256Digest, confirmed_digest, digest_field};
pub use item::{Item, MANIFEST_FILE};
pub use retention::{Candidate, deletions};
pub use state::{Aside, Confirmed, DestinationStatus};

/// First pause after a failure, in milliseconds; each further one is twice as long.
const FIRST_PAUSE: u64 = 1_000;

/// Longest pause, in milliseconds.
const LONGEST_PAUSE: u64 = 5 * 60 * 1_000;

/// How long to wait after the `failures`th failure in a row, in milliseconds: exponential, of which half
/// is by chance, so that gateways that failed together do not come back together.
pub fn pause(failures: u32, random: u32) -> u64 {
    let doubled = failures.saturating_sub(1).min(16);
    let full = FIRST_PAUSE.saturating_mul(1 << doubled).min(LONGEST_PAUSE);
    let half = full / 2;
    half + half.saturating_mul(u64::from(random)) / u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_half_is_by_chance() {
        let bounds = |failures| (pause(failures, 0), pause(failures, u32::MAX));
        assert_eq!(bounds(1), (500, 1_000));
        assert_eq!(bounds(2), (1_000, 2_000));
        assert_eq!(bounds(9), (128_000, 256_000));
        assert_eq!(bounds(10), (LONGEST_PAUSE / 2, LONGEST_PAUSE));
        assert_eq!(bounds(u32::MAX), (LONGEST_PAUSE / 2, LONGEST_PAUSE));
    }
}
