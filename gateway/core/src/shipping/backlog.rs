//! What one destination has not confirmed yet, and what of it is tried next.
//!
//! Invariants: what never failed goes first, the oldest of it; what failed waits, and comes after what did not.
//! After a failure one thing at a time is tried, after a pause that grows, until one gets through. So a destination
//! that is down is asked rarely, and a thing that cannot be shipped holds up others for seconds at most: it is
//! set aside once it failed [`TRIES`] times and others got through in between. Where nothing gets through nobody can
//! say whose fault it is, and nothing is set aside. Times are milliseconds of any clock that does not go back.

use std::collections::{BTreeMap, BTreeSet};

use super::{Item, pause};

/// Failures after which a thing is set aside, if others got through since the first of them.
const TRIES: u32 = 5;

/// Why a thing was not shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It cannot be read here: no destination can help.
    Unreadable,
    /// The destination did not take it, did not confirm it, or cannot be reached.
    NotTaken,
}

/// What becomes of a thing that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again.
    Again,
    /// It is not: whoever asked writes down why.
    SetAside,
}

/// What waits for one destination.
#[derive(Debug, Default)]
pub struct Backlog {
    fresh: BTreeSet<Item>,
    failed: BTreeMap<Item, Failed>,
    under_way: BTreeMap<Item, Option<Failed>>,
    /// Failures since the last time that something got through.
    failures: u32,
    /// Nothing is tried before, in milliseconds.
    not_before: u64,
    /// Things that got through.
    confirmed: u64,
}

/// A thing that failed.
#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    not_before: u64,
    /// [`Backlog::confirmed`] at the first failure.
    confirmed: u64,
}

impl Backlog {
    /// Takes over what is there to be shipped now: what is new is added, what is gone is forgotten.
    pub fn replace(&mut self, items: BTreeSet<Item>) {
        self.failed.retain(|item, _| items.contains(item));
        self.fresh = items;
        self.fresh.retain(|item| !self.failed.contains_key(item) && !self.under_way.contains_key(item));
    }

    /// What to ship at `now`; it is under way then, until [`Self::confirm`] or [`Self::fail`].
    pub fn next(&mut self, now: u64) -> Option<Item> {
        if now < self.not_before || (self.failures > 0 && !self.under_way.is_empty()) {
            return None;
        }
        if let Some(item) = self.fresh.pop_first() {
            self.under_way.insert(item.clone(), None);
            return Some(item);
        }
        let due = self.failed.iter().filter(|(_, failed)| failed.not_before <= now);
        let (item, _) = due.min_by_key(|(_, failed)| failed.not_before)?;
        let (item, failed) = self.failed.remove_entry(&item.clone())?;
        self.under_way.insert(item.clone(), Some(failed));
        Some(item)
    }

    /// When [`Self::next`] may yield something that it does not yield now; `None` until something else happens.
    pub fn next_at(&self) -> Option<u64> {
        if self.failures > 0 && !self.under_way.is_empty() {
            return None;
        }
        let due = self.failed.values().map(|failed| failed.not_before).min();
        let due = if self.fresh.is_empty() { due } else { Some(0) };
        due.map(|due| due.max(self.not_before))
    }

    /// The destination has confirmed a thing.
    pub fn confirm(&mut self, item: &Item) {
        self.under_way.remove(item);
        self.failures = 0;
        self.not_before = 0;
        self.confirmed = self.confirmed.saturating_add(1);
    }

    /// A thing was not shipped; `random` is any number.
    pub fn fail(&mut self, item: &Item, failure: Failure, now: u64, random: u32) -> Verdict {
        let before = self.under_way.remove(item).flatten();
        if failure == Failure::Unreadable {
            return Verdict::SetAside;
        }
        let mut failed = before.unwrap_or(Failed { times: 0, not_before: 0, confirmed: self.confirmed });
        failed.times = failed.times.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(pause(self.failures, random));
        if failed.times >= TRIES && self.confirmed > failed.confirmed {
            return Verdict::SetAside;
        }
        failed.not_before = now.saturating_add(pause(failed.times, random));
        self.failed.insert(item.clone(), failed);
        Verdict::Again
    }

    /// A thing that was under way is not there any more.
    pub fn gone(&mut self, item: &Item) {
        self.under_way.remove(item);
    }

    /// Things that wait or are under way.
    pub fn len(&self) -> usize {
        self.fresh.len() + self.failed.len() + self.under_way.len()
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The oldest session that waits or is under way: its start, in milliseconds since 1970.
    pub fn oldest(&self) -> Option<u64> {
        let firsts = [self.fresh.first(), first(&self.failed), first(&self.under_way)];
        let started = firsts.into_iter().flatten().filter_map(|item| match item {
            Item::Session { started, .. } => Some(*started),
            Item::Segment { .. } | Item::Head { .. } => None,
        });
        started.min()
    }
}

fn first<V>(items: &BTreeMap<Item, V>) -> Option<&Item> {
    items.first_key_value().map(|(item, _)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u64) -> Item {
        Item::Session { started: number, id: String::new() }
    }

    fn backlog(numbers: impl IntoIterator<Item = u64>) -> Backlog {
        let mut backlog = Backlog::default();
        backlog.replace(numbers.into_iter().map(item).collect());
        backlog
    }

    #[test]
    fn the_oldest_goes_first_and_each_goes_once() {
        let mut backlog = backlog([3, 1, 2]);
        let taken: Vec<_> = std::iter::from_fn(|| backlog.next(0)).collect();
        assert_eq!(taken, [item(1), item(2), item(3)]);
        backlog.replace([1, 2, 3].map(item).into());
        assert_eq!((backlog.next(0), backlog.len(), backlog.oldest()), (None, 3, Some(1)));
        backlog.confirm(&item(1));
        assert_eq!((backlog.len(), backlog.oldest()), (2, Some(2)));
    }

    #[test]
    fn a_destination_that_is_down_is_asked_one_at_a_time_and_ever_more_rarely() {
        let mut backlog = backlog(0..1000);
        let (mut now, mut tries, mut longest) = (0, 0, 0);
        while now < 3_600_000 {
            if let Some(item) = backlog.next(now) {
                assert!(tries == 0 || backlog.next(now).is_none(), "one at a time");
                assert_eq!(backlog.fail(&item, Failure::NotTaken, now, 7), Verdict::Again);
                tries += 1;
            }
            let next = backlog.next_at().unwrap();
            longest = longest.max(next - now);
            now = next;
        }
        assert!(tries < 40 && longest <= 300_000, "{tries} tries, {longest} ms");
        assert_eq!(backlog.len(), 1000, "nothing is lost or set aside");
    }

    #[test]
    fn what_cannot_be_shipped_is_set_aside_and_holds_nothing_up() {
        let mut backlog = backlog(0..100);
        let (mut now, mut confirmed, mut aside) = (0, 0, Vec::new());
        while let Some(next) = backlog.next_at() {
            now = now.max(next);
            let Some(taken) = backlog.next(now) else { continue };
            if taken == item(0) {
                if backlog.fail(&taken, Failure::NotTaken, now, u32::MAX) == Verdict::SetAside {
                    aside.push(taken);
                }
            } else {
                backlog.confirm(&taken);
                confirmed += 1;
            }
        }
        assert_eq!((confirmed, aside), (99, vec![item(0)]));
        assert!(now < 120_000, "it took {now} ms");
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_at_once_and_nobody_waits() {
        let mut backlog = backlog([1, 2]);
        let first = backlog.next(0).unwrap();
        assert_eq!(backlog.fail(&first, Failure::Unreadable, 0, 0), Verdict::SetAside);
        assert_eq!(backlog.next(0), Some(item(2)));
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut backlog = backlog([1, 2]);
        let first = backlog.next(0).unwrap();
        backlog.fail(&first, Failure::NotTaken, 0, 0);
        backlog.replace([item(2)].into());
        assert_eq!((backlog.len(), backlog.next(10_000), backlog.next(10_000)), (1, Some(item(2)), None));
    }
}
