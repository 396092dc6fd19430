//! SHA-256 of a file whose pieces come with offsets.
//!
//! Pieces that come early wait, bounded by a [`Window`] that the files of a channel share. What cannot be put in order
//! so has no hash, and says why.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};

use crate::record::HashMissing;

/// Bytes of pieces that may wait on one channel: twice what OpenSSH's clients have asked for at a time.
const WINDOW: usize = 4 * 1024 * 1024;

/// What a piece that waits costs beside its bytes.
const PIECE: usize = 96;

/// Room for pieces that wait, in bytes.
#[derive(Debug)]
pub(super) struct Window(usize);

impl Default for Window {
    fn default() -> Self {
        Self(WINDOW)
    }
}

/// Hashes a file from its start.
pub(super) struct OrderedHash {
    context: Context,
    /// How much is hashed.
    next: u64,
    /// Pieces beyond that, by offset; they do not touch the one before.
    waiting: BTreeMap<u64, Vec<u8>>,
    lost: Option<HashMissing>,
}

impl Default for OrderedHash {
    fn default() -> Self {
        Self { context: Context::new(&SHA256), next: 0, waiting: BTreeMap::new(), lost: None }
    }
}

impl OrderedHash {
    /// Adds bytes of the file at `offset`.
    pub(super) fn add(&mut self, offset: u64, bytes: &[u8], window: &mut Window) {
        if self.lost.is_some() || bytes.is_empty() {
            return;
        }
        if offset < self.next {
            return self.lose(HashMissing::Overlapping, window);
        }
        if offset > self.next {
            return self.wait(offset, bytes, window);
        }
        self.update(bytes);
        while let Some(piece) = self.waiting.first_entry().filter(|piece| *piece.key() <= self.next) {
            let (offset, bytes) = piece.remove_entry();
            window.0 = window.0.saturating_add(bytes.len() + PIECE);
            if offset < self.next {
                return self.lose(HashMissing::Overlapping, window);
            }
            self.update(&bytes);
        }
    }

    /// The hash in hexadecimal.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn finish(mut self, window: &mut Window) -> Result<String, HashMissing> {
        if !self.waiting.is_empty() {
            self.lose(HashMissing::Gap, window);
        }
        match self.lost {
            Some(missing) => Err(missing),
            None => Ok(hex::encode(self.context.finish())),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.next = self.next.saturating_add(bytes.len() as u64);
    }

    fn wait(&mut self, offset: u64, bytes: &[u8], window: &mut Window) {
        let before = self.waiting.range(..=offset).next_back();
        let joined = before.map(|(start, piece)| (*start, start.saturating_add(piece.len() as u64)));
        let joins = joined.and_then(|(start, end)| (end == offset).then_some(start));
        if joins.is_none() && joined.is_some_and(|(_, end)| end > offset) {
            return self.lose(HashMissing::Overlapping, window);
        }
        let cost = bytes.len() + if joins.is_some() { 0 } else { PIECE };
        let Some(left) = window.0.checked_sub(cost) else {
            return self.lose(HashMissing::OutOfOrder, window);
        };
        window.0 = left;
        self.waiting.entry(joins.unwrap_or(offset)).or_default().extend_from_slice(bytes);
    }

    fn lose(&mut self, why: HashMissing, window: &mut Window) {
        self.lost = Some(why);
        for piece in std::mem::take(&mut self.waiting).into_values() {
            window.0 = window.0.saturating_add(piece.len() + PIECE);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn hash(pieces: &[(u64, &[u8])]) -> (Result<String, HashMissing>, usize) {
        let (mut hash, mut window) = (OrderedHash::default(), Window::default());
        for (offset, bytes) in pieces {
            hash.add(*offset, bytes, &mut window);
        }
        let finished = hash.finish(&mut window);
        (finished, window.0)
    }

    #[test]
    fn what_cannot_be_put_in_order_says_why_and_gives_its_room_back() {
        let much = vec![0; WINDOW];
        for (pieces, why) in [
            (vec![(1, b"b".as_slice())], HashMissing::Gap),
            (vec![(0, b"ab"), (1, b"b")], HashMissing::Overlapping),
            (vec![(2, b"cd"), (2, b"cd")], HashMissing::Overlapping),
            (vec![(1, b"bc"), (0, b"ab")], HashMissing::Overlapping),
            (vec![(1, &much)], HashMissing::OutOfOrder),
        ] {
            assert_eq!(hash(&pieces), (Err(why), WINDOW));
        }
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_give_the_hash_of_the_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..30),
            order in any::<u64>(),
        ) {
            let whole = pieces.concat();
            let mut placed = Vec::new();
            let mut offset = 0;
            for piece in &pieces {
                placed.push((offset, piece.as_slice()));
                offset += piece.len() as u64;
            }
            placed.sort_by_key(|(offset, _)| (offset + 1).wrapping_mul(order | 1));
            prop_assert_eq!(hash(&placed), (Ok(hex::encode(Sha256::digest(&whole))), WINDOW));
        }
    }
}
