//! Whether a clock can be right, told without another one: by what lies behind it for certain, and by how it moved.
//!
//! A certificate is good for [`HALF_VALIDITY`] before and after the gateway's time, so targets refuse those of a gateway
//! that is further off. That a clock is ahead nobody can tell from the machine alone; whether somebody keeps it right is
//! asked elsewhere.

use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::certificate::HALF_VALIDITY;

/// Why a clock is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Doubt {
    /// Something has a later time that must have been before.
    #[error(
        "the clock is {by:?} behind {what}, so it is wrong: targets refuse certificates of a gateway whose clock is off"
    )]
    Behind {
        /// What is later.
        what: &'static str,
        /// By how much.
        by: Duration,
    },
    /// It was set while the gateway ran.
    #[error("the clock was set {direction} by {by:?}: if it is wrong now, targets refuse certificates")]
    Set {
        /// By how much.
        by: Duration,
        /// `forward` or `back`.
        direction: &'static str,
    },
}

/// Whether `now` is before one of the times that have been, by more than certificates bear.
pub fn behind(now: SystemTime, past: &[(&'static str, SystemTime)]) -> Option<Doubt> {
    let late = past.iter().filter_map(|(what, time)| Some((*what, time.duration_since(now).ok()?)));
    let (what, by) = late.max_by_key(|(_, by)| *by)?;
    (by > HALF_VALIDITY).then_some(Doubt::Behind { what, by: whole(by) })
}

/// Whether a clock that showed `before` and shows `now` was set in the `elapsed` time between, by more than
/// certificates bear.
pub fn set(before: SystemTime, now: SystemTime, elapsed: Duration) -> Option<Doubt> {
    let expected = before.checked_add(elapsed)?;
    let (by, direction) = match now.duration_since(expected) {
        Ok(ahead) => (ahead, "forward"),
        Err(error) => (error.duration(), "back"),
    };
    (by > HALF_VALIDITY).then_some(Doubt::Set { by: whole(by), direction })
}

/// Without fractions, which nobody reads.
const fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_is_wrong_that_is_behind_what_has_been() {
        let past = [("the program", at(1_000)), ("the newest recording", at(5_000))];
        assert_eq!(behind(at(4_910), &past), None, "as far as certificates bear");
        assert_eq!(behind(at(9_000), &past), None);
        let doubt = behind(at(900), &past).unwrap();
        assert_eq!(doubt, Doubt::Behind { what: "the newest recording", by: Duration::from_secs(4_100) });
        assert!(
            doubt.to_string().starts_with("the clock is 4100s behind the newest recording, so it is wrong"),
            "{doubt}"
        );
        assert_eq!(behind(at(0), &[]), None);
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_either_way() {
        let ten = Duration::from_secs(10);
        assert_eq!(set(at(1_000), at(1_010), ten), None);
        assert_eq!(set(at(1_000), at(1_099), ten), None);
        assert_eq!(
            set(at(1_000), at(1_110), ten),
            Some(Doubt::Set { by: Duration::from_secs(100), direction: "forward" })
        );
        let back = set(at(1_000), at(10), ten).unwrap();
        assert!(back.to_string().contains("set back by 1000s"), "{back}");
    }
}
