//! Plaintext packets, and the batches of blocks they are gathered in.
//!
//! A packet is u32 N (at least 13), u8 source, u32 code, u64 elapsed microseconds, N - 13 bytes of
//! data, all big-endian. A [`Batch`] is laid out as the file will have it, with room for each block's
//! length and tag, so that sealing works in place and moves no data.

use super::{MAX_BLOCK, PREFIX, TAG};
use crate::record::Source;

/// Bytes of a packet between its length and its data.
const FIXED: usize = 13;

/// Bytes a packet takes besides its data.
const OVERHEAD: usize = PREFIX + FIXED;

/// Data is split to fill up a block only if at least this much of it fits.
const MIN_PIECE: usize = 4096;

/// One packet as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Which side sent it.
    pub source: Source,
    /// 0 for data, else the extended-data type (RFC 4254 section 5.2; 1 = stderr).
    pub code: u32,
    /// Microseconds since the session started.
    pub elapsed: u64,
    /// The data.
    pub data: &'a [u8],
}

/// Blocks of whole packets, not sealed yet.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// For each block: room for the length, packets, and, once it is closed, room for the tag.
    bytes: Vec<u8>,
    /// Where the closed blocks end, room for the tag included.
    ends: Vec<usize>,
    /// Where the open block starts; equals `bytes.len()` when none is open.
    open: usize,
    /// Bytes of data in all packets.
    data_bytes: u64,
}

/// Gathers data into batches for one file.
#[derive(Debug, Default)]
pub struct Packer {
    batch: Batch,
    last_elapsed: u64,
}

/// A block does not hold whole packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Packer {
    /// Adds `data`, split into several packets where a block ends. Empty data adds nothing. Elapsed
    /// time that would go back is raised to that of the packet before.
    pub fn push(&mut self, packet: Packet<'_>) {
        self.last_elapsed = self.last_elapsed.max(packet.elapsed);
        let mut rest = packet.data;
        while !rest.is_empty() {
            let room = self.batch.room();
            let fits = room >= OVERHEAD + rest.len() || room >= OVERHEAD + MIN_PIECE;
            if !fits {
                self.batch.close_block();
                continue;
            }
            let (piece, after) = rest.split_at(rest.len().min(room - OVERHEAD));
            self.batch.append(Packet { elapsed: self.last_elapsed, data: piece, ..packet });
            rest = after;
        }
    }

    /// Bytes gathered since the last [`Packer::take`], framing included.
    pub const fn pending(&self) -> usize {
        self.batch.bytes.len()
    }

    /// Takes what was gathered, leaving an empty batch that reuses `spare`.
    pub fn take(&mut self, mut spare: Vec<u8>) -> Batch {
        spare.clear();
        let next = Batch { bytes: spare, ..Batch::default() };
        let mut batch = std::mem::replace(&mut self.batch, next);
        batch.close_block();
        batch
    }
}

impl Batch {
    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of data in all packets.
    pub const fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// The packets, in order, but for those of a block that is still open.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).flat_map(|(start, end)| {
            let block = start.checked_add(PREFIX).zip(end.checked_sub(TAG));
            let mut rest = block.and_then(|(start, end)| self.bytes.get(start..end)).unwrap_or_default();
            std::iter::from_fn(move || {
                // Of its own blocks all are whole.
                let (packet, after) = split_packet(rest).ok()?;
                rest = after;
                Some(packet)
            })
        })
    }

    /// The bytes as they will stand in the file, and where each block ends.
    pub(super) fn into_parts(self) -> (Vec<u8>, Vec<usize>) {
        (self.bytes, self.ends)
    }

    #[cfg(test)]
    pub(super) fn from_parts(bytes: Vec<u8>, ends: Vec<usize>) -> Self {
        let open = bytes.len();
        Self { bytes, ends, open, data_bytes: 0 }
    }

    fn room(&self) -> usize {
        let used = self.bytes.len() - self.open;
        MAX_BLOCK - used.saturating_sub(PREFIX)
    }

    fn append(&mut self, packet: Packet<'_>) {
        if self.open == self.bytes.len() {
            self.bytes.extend_from_slice(&[0; PREFIX]);
        }
        self.data_bytes = self.data_bytes.saturating_add(packet.data.len() as u64);
        let length = u32::try_from(FIXED + packet.data.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.push(match packet.source {
            Source::Client => 0,
            Source::Target => 1,
        });
        self.bytes.extend_from_slice(&packet.code.to_be_bytes());
        self.bytes.extend_from_slice(&packet.elapsed.to_be_bytes());
        self.bytes.extend_from_slice(packet.data);
    }

    fn close_block(&mut self) {
        if self.open < self.bytes.len() {
            self.bytes.extend_from_slice(&[0; TAG]);
            self.open = self.bytes.len();
            self.ends.push(self.open);
        }
    }
}

/// Takes the first packet off `block`.
pub(super) fn split_packet(block: &[u8]) -> Result<(Packet<'_>, &[u8]), Malformed> {
    let (length, rest) = block.split_first_chunk().ok_or(Malformed)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Malformed)?;
    let (packet, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
    let (source, packet) = packet.split_first().ok_or(Malformed)?;
    let (code, packet) = packet.split_first_chunk().ok_or(Malformed)?;
    let (elapsed, data) = packet.split_first_chunk().ok_or(Malformed)?;
    let source = match source {
        0 => Source::Client,
        1 => Source::Target,
        _ => return Err(Malformed),
    };
    let (code, elapsed) = (u32::from_be_bytes(*code), u64::from_be_bytes(*elapsed));
    Ok((Packet { source, code, elapsed, data }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(elapsed: u64, data: &[u8]) -> Packet<'_> {
        Packet { source: Source::Target, code: 1, elapsed, data }
    }

    #[test]
    fn a_batch_gives_its_packets_back() {
        let mut packer = Packer::default();
        assert_eq!(packer.take(Vec::new()).packets().count(), 0);
        let data: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        packer.push(packet(5, b"first"));
        packer.push(packet(6, &data));
        let batch = packer.take(Vec::new());
        let read: Vec<u8> = batch.packets().flat_map(|packet| packet.data.to_vec()).collect();
        assert_eq!(read, [b"first".as_slice(), &data].concat());
        assert_eq!(batch.data_bytes(), 200_005);
        assert_eq!(batch.packets().map(|packet| packet.elapsed).collect::<Vec<_>>(), [5, 6, 6, 6, 6]);
    }

    /// Splits a batch into its blocks of plaintext.
    fn blocks(batch: Batch) -> Vec<Vec<u8>> {
        let (bytes, ends) = batch.into_parts();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(&ends).map(|(start, end)| bytes[start + PREFIX..end - TAG].to_vec()).collect()
    }

    #[test]
    fn data_longer_than_a_block_becomes_several_packets() {
        let data: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut packer = Packer::default();
        packer.push(packet(5, b"first"));
        packer.push(packet(5, &data));
        let mut read = Vec::new();
        for block in blocks(packer.take(Vec::new())) {
            assert!(block.len() <= MAX_BLOCK);
            let mut rest = block.as_slice();
            while !rest.is_empty() {
                let (packet, after) = split_packet(rest).unwrap();
                assert_eq!((packet.source, packet.code, packet.elapsed), (Source::Target, 1, 5));
                read.extend_from_slice(packet.data);
                rest = after;
            }
        }
        assert_eq!(read, [b"first".as_slice(), &data].concat());
    }

    #[test]
    fn two_full_ssh_packets_leave_no_half_empty_blocks() {
        let mut packer = Packer::default();
        for _ in 0..64 {
            packer.push(packet(0, &[0; 32 * 1024]));
        }
        assert_eq!(blocks(packer.take(Vec::new())).len(), 33);
    }

    #[test]
    fn short_data_is_not_split() {
        let mut packer = Packer::default();
        packer.push(packet(0, &vec![0; MAX_BLOCK - OVERHEAD - 100]));
        packer.push(packet(0, &[1; 200]));
        let blocks = blocks(packer.take(Vec::new()));
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[1].len(), OVERHEAD + 200);
    }

    #[test]
    fn elapsed_never_goes_back_even_over_batches() {
        let mut packer = Packer::default();
        packer.push(packet(10, b"a"));
        assert!(!packer.take(Vec::new()).is_empty());
        packer.push(packet(3, b"b"));
        let blocks = blocks(packer.take(Vec::new()));
        assert_eq!(split_packet(&blocks[0]).unwrap().0.elapsed, 10);
    }

    #[test]
    fn nothing_pushed_is_no_block() {
        let mut packer = Packer::default();
        packer.push(packet(0, b""));
        assert!(packer.take(Vec::new()).is_empty());
    }

    #[test]
    fn malformed_packets_are_refused() {
        let bad: [&[u8]; 4] = [
            &[0, 0, 0],
            &[0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 13, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ];
        for block in bad {
            assert_eq!(split_packet(block), Err(Malformed), "{block:?}");
        }
    }
}
