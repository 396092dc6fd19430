//! Which finished recordings are deleted.
//!
//! Invariant: nothing is deleted that a required destination has not confirmed, unless there is no destination
//! and the configuration says that such may be deleted.

use std::time::Duration;

use super::Item;
use crate::config::shipping::Retention;

/// A finished recording in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub item: Item,
    /// Time since it was finished.
    pub age: Duration,
    /// Size of its files, in bytes.
    pub bytes: u64,
    /// Whether all required destinations have confirmed it; `false` where there is none.
    pub confirmed: bool,
}

/// What is to be deleted now, the oldest first.
pub fn deletions(mut candidates: Vec<Candidate>, retention: Retention) -> Vec<Item> {
    candidates.sort_by(|one, other| other.age.cmp(&one.age).then_with(|| one.item.cmp(&other.item)));
    let total = candidates.iter().fold(0, |sum: u64, candidate| sum.saturating_add(candidate.bytes));
    let mut excess = retention.keep_bytes.map_or(0, |most| total.saturating_sub(most));
    let mut deleted = Vec::new();
    for candidate in candidates {
        if !(candidate.confirmed || retention.delete_unshipped) {
            continue;
        }
        let too_old = retention.keep.is_some_and(|keep| candidate.age >= keep);
        if too_old || excess > 0 {
            excess = excess.saturating_sub(candidate.bytes);
            deleted.push(candidate.item);
        }
    }
    deleted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(number: u64, age: u64, bytes: u64, confirmed: bool) -> Candidate {
        let item = Item::Session { started: number, id: String::new() };
        Candidate { item, age: Duration::from_secs(age), bytes, confirmed }
    }

    fn deleted(candidates: &[Candidate], retention: Retention) -> Vec<u64> {
        let items = deletions(candidates.to_vec(), retention);
        let started = items.into_iter().map(|item| match item {
            Item::Session { started, .. } => started,
            Item::Segment { .. } | Item::Head { .. } => 0,
        });
        started.collect()
    }

    #[test]
    fn by_age_and_by_size_the_oldest_first_and_never_what_is_not_confirmed() {
        let all = [
            candidate(1, 50, 10, true),
            candidate(2, 90, 10, false),
            candidate(3, 70, 10, true),
            candidate(4, 10, 10, true),
        ];
        let keep = |seconds| Retention { keep: Some(Duration::from_secs(seconds)), ..Retention::default() };
        assert_eq!(deleted(&all, Retention::default()), [0; 0]);
        assert_eq!(deleted(&all, keep(50)), [3, 1]);
        let room = |bytes| Retention { keep_bytes: Some(bytes), ..Retention::default() };
        assert_eq!(deleted(&all, room(40)), [0; 0]);
        assert_eq!(deleted(&all, room(39)), [3]);
        assert_eq!(deleted(&all, room(15)), [3, 1, 4]);
        assert_eq!(deleted(&all, room(0)), [3, 1, 4]);
        let any = Retention { delete_unshipped: true, ..keep(60) };
        assert_eq!(deleted(&all, any), [2, 3]);
    }

    proptest! {
        #[test]
        fn nothing_unconfirmed_is_deleted_and_room_is_made_where_it_can_be(
            given in proptest::collection::vec((0u64..100, 0u64..100, any::<bool>()), 0..50),
            keep in proptest::option::of(0u64..100),
            keep_bytes in proptest::option::of(0u64..3000),
        ) {
            let all: Vec<Candidate> = given.iter().zip(0..).map(|(&(age, bytes, confirmed), number)| {
                candidate(number, age, bytes, confirmed)
            }).collect();
            let retention = Retention { keep: keep.map(Duration::from_secs), keep_bytes, delete_unshipped: false };
            let gone = deletions(all.clone(), retention);
            let left: Vec<&Candidate> = all.iter().filter(|one| !gone.contains(&one.item)).collect();
            prop_assert!(all.iter().filter(|one| gone.contains(&one.item)).all(|one| one.confirmed));
            let still = |one: &&Candidate| one.confirmed;
            prop_assert!(!left.iter().copied().filter(still).any(|one| keep.is_some_and(|keep| one.age.as_secs() >= keep)));
            let bytes: u64 = left.iter().map(|one| one.bytes).sum();
            let none_left = !left.iter().copied().any(|one| one.confirmed && one.bytes > 0);
            prop_assert!(keep_bytes.is_none_or(|most| bytes <= most) || none_left);
        }
    }
}
