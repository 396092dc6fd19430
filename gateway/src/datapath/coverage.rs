//! Whether every frame for a target was steered or dropped, by the kernel's own counters.
//!
//! The programs count a frame twice: where they find it to be for a target, before anything is decided
//! about it (`SEEN`), and by what became of it where they end. A way on which one for a target passes would
//! count in the first and in none of the terms here. Only reads; needs no daemon.
//!
//! Exact while frames come: a frame that was seen before the terms were read is in one of them, and what
//! is in one was seen by their end. So the sum of the terms lies between what was seen before and after.

use std::thread;
use std::time::Duration;

use portreeve_core::config::daemon::DatapathConfig;
use portreeve_ebpf::stats::{ATTEMPTS, Reason, SEEN};

use super::DatapathError;
use super::maps::Maps;
use super::pins::Pins;

/// A program that runs while the counters are read has counted a frame once and not twice; it ends within
/// microseconds, so what is wrong in all of these readings is wrong.
const READINGS: u32 = 10;
const BETWEEN_READINGS: Duration = Duration::from_millis(5);

/// What became of a frame for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// One more of a connection that the gateway has.
    Connection,
    /// Given to the gateway, and of no connection yet.
    Proxied,
    /// Refused by what the operator configured.
    Denied,
    /// Dropped because it could not be steered.
    Dropped,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 4] = [Self::Connection, Self::Proxied, Self::Denied, Self::Dropped];

    /// The part that a reason is a term of; `None` for what is no target's, or comes from one.
    pub const fn of(reason: Reason) -> Option<Self> {
        match reason {
            Reason::SteeredEstablished => Some(Self::Connection),
            Reason::SteeredNew | Reason::SteeredTimeWait => Some(Self::Proxied),
            Reason::DroppedPolicy | Reason::DroppedRate | Reason::DroppedSourceRate => Some(Self::Denied),
            Reason::DroppedNoListener
            | Reason::DroppedFragment
            | Reason::DroppedUnparsable
            | Reason::DroppedReversePath
            | Reason::DroppedAssignFailed => Some(Self::Dropped),
            Reason::PassedNotTarget | Reason::SteeredReturn | Reason::SteeredError | Reason::DroppedSum => {
                None
            }
        }
    }
}

/// The counters of one reading, since the maps were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Frames for targets, before and after the others were read.
    pub seen: (u64, u64),
    /// What became of them.
    pub terms: Vec<(Part, &'static str, u64)>,
    /// SYNs that were given to the gateway: no more connections than these can have come of them.
    pub attempts: u64,
    /// Frames that network policies blocked.
    pub blocked: u64,
}

impl Coverage {
    fn read(maps: &Maps) -> Result<Self, DatapathError> {
        let before = maps.counter(SEEN)?;
        let (mut terms, mut blocked) = (Vec::new(), 0);
        for reason in Reason::ALL {
            if let Some(part) = Part::of(reason) {
                let frames = maps.counter(reason.index())?;
                terms.push((part, reason.name(), frames));
                if reason == Reason::DroppedPolicy {
                    blocked = frames;
                }
            }
        }
        let seen = (before, maps.counter(SEEN)?);
        Ok(Self { seen, terms, attempts: maps.counter(ATTEMPTS)?, blocked })
    }

    /// Whether each frame that was seen is in exactly one term.
    pub fn balances(&self) -> bool {
        let sum = Part::ALL.into_iter().map(|part| self.sum(part)).sum();
        (self.seen.0..=self.seen.1).contains(&sum)
    }

    /// Frames of a part.
    pub fn sum(&self, part: Part) -> u64 {
        self.terms.iter().filter(|(other, ..)| *other == part).map(|(_, _, frames)| frames).sum()
    }
}

/// Reads the counters until they balance, some times at most; `None` when nothing is pinned.
///
/// # Errors
/// When the pins cannot be read.
pub fn coverage(config: &DatapathConfig) -> Result<Option<Coverage>, DatapathError> {
    let pins = Pins::new(&config.pin_dir);
    if !pins.exist()? {
        return Ok(None);
    }
    let maps = Maps::from_pins(&pins)?;
    let mut coverage = Coverage::read(&maps)?;
    for _ in 1..READINGS {
        if coverage.balances() {
            break;
        }
        thread::sleep(BETWEEN_READINGS);
        coverage = Coverage::read(&maps)?;
    }
    Ok(Some(coverage))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(seen: (u64, u64)) -> Coverage {
        let terms = vec![
            (Part::Connection, "steered_established", 10),
            (Part::Proxied, "steered_new", 4),
            (Part::Proxied, "steered_time_wait", 1),
            (Part::Denied, "dropped_policy", 3),
            (Part::Dropped, "dropped_fragment", 2),
        ];
        Coverage { seen, terms, attempts: 4, blocked: 3 }
    }

    #[test]
    fn a_frame_more_or_less_than_was_seen_does_not_balance() {
        assert_eq!(Part::ALL.map(|part| coverage((20, 20)).sum(part)), [10, 5, 3, 2]);
        for seen in [(20, 20), (18, 20), (20, 25)] {
            assert!(coverage(seen).balances(), "{seen:?}");
        }
        // One passed, or one was dropped that was never seen; a counter that ran ahead while it was read.
        for seen in [(21, 21), (19, 19), (21, 25), (15, 19)] {
            assert!(!coverage(seen).balances(), "{seen:?}");
        }
    }
}
