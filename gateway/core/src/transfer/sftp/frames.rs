//! Cutting one direction of a channel into packets.
//!
//! The caller says how much of each packet it wants in one piece, its head; the rest passes as it comes, so that what a
//! file holds is never gathered.

use super::{MAX_PACKET, SftpFault};

/// Bytes before the fields: length and type.
const TYPED: usize = 5;

/// A direction of a channel, and how far it is.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The start of a packet, its length included, while that is not all here.
    head: Vec<u8>,
    /// Bytes of the packet that follow its head.
    rest: usize,
}

/// A piece of a packet.
#[derive(Debug)]
pub(super) enum Step<'d> {
    /// The start of a packet, its length included: as much as was wanted, or all of it.
    Head(Vec<u8>),
    /// Bytes that follow the head of the last packet.
    Rest(&'d [u8]),
}

impl Frames {
    /// The next piece in `data`, from which it is taken; `None` when that is used up. `wanted` tells from a head of five
    /// bytes or more how many it should have; it is asked again when these are there.
    ///
    /// # Errors
    /// [`SftpFault::Length`]; nothing after it can be read.
    pub(super) fn next<'d>(
        &mut self,
        data: &mut &'d [u8],
        wanted: impl Fn(&[u8]) -> usize,
    ) -> Result<Option<Step<'d>>, SftpFault> {
        if self.rest > 0 {
            let (piece, after) = data.split_at(self.rest.min(data.len()));
            self.rest -= piece.len();
            *data = after;
            return Ok((!piece.is_empty()).then_some(Step::Rest(piece)));
        }
        loop {
            let size = self.size()?;
            let wanted = match size {
                Some(size) if self.head.len() >= TYPED => wanted(&self.head).clamp(TYPED, size),
                _ => TYPED,
            };
            if let Some(size) = size.filter(|_| self.head.len() >= wanted) {
                self.rest = size - self.head.len();
                return Ok(Some(Step::Head(std::mem::take(&mut self.head))));
            }
            if data.is_empty() {
                return Ok(None);
            }
            let (piece, after) = data.split_at((wanted - self.head.len()).min(data.len()));
            self.head.extend_from_slice(piece);
            *data = after;
        }
    }

    /// Bytes that are here of a head that is not whole.
    pub(super) const fn held(&self) -> usize {
        self.head.len()
    }

    /// Takes what is here of a head that is not whole.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }

    /// Bytes of the packet that is being read, its length included, once they are known; at least [`TYPED`].
    fn size(&self) -> Result<Option<usize>, SftpFault> {
        let Some((length, _)) = self.head.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        if !(1..=MAX_PACKET).contains(&length) {
            return Err(SftpFault::Length(length));
        }
        Ok(usize::try_from(length).ok().map(|length| length + 4))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_of_zero_and_beyond_the_limit_are_faults() {
        for length in [0, MAX_PACKET + 1, u32::MAX] {
            let mut frames = Frames::default();
            let bytes = [&length.to_be_bytes()[..], &[1]].concat();
            let fault = frames.next(&mut bytes.as_slice(), |_| 0).map(|_| ());
            assert_eq!(fault, Err(SftpFault::Length(length)));
        }
    }

    proptest! {
        #[test]
        fn heads_and_rests_are_the_stream_however_it_is_cut(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..60), 1..10),
            cuts in proptest::collection::vec(1_usize..40, 1..20),
            wanted in 0_usize..70,
        ) {
            let mut stream = Vec::new();
            for body in &bodies {
                stream.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
                stream.extend_from_slice(body);
            }
            let (mut frames, mut seen, mut heads) = (Frames::default(), Vec::new(), Vec::new());
            let mut left = stream.as_slice();
            for cut in cuts.iter().cycle() {
                let (mut piece, after) = left.split_at((*cut).min(left.len()));
                while let Some(step) = frames.next(&mut piece, |_| wanted).unwrap() {
                    match step {
                        Step::Head(head) => {
                            seen.extend_from_slice(&head);
                            heads.push(head.len());
                        }
                        Step::Rest(rest) => seen.extend_from_slice(rest),
                    }
                }
                left = after;
                if left.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, stream);
            let expected: Vec<usize> = bodies.iter().map(|body| wanted.clamp(5, body.len() + 4)).collect();
            prop_assert_eq!(heads, expected);
        }
    }
}
