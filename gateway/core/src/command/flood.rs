//! Output while nobody types: kept aside, and skipped but for its last screenful.
//!
//! Invariants: at most [`MOST_ASIDE`] bytes are kept; what is skipped depends on the bytes alone, not on the
//! pieces they came in; of what is skipped the sequences that switch modes or tell something are still seen.

use memchr::{memchr, memchr_iter, memrchr_iter};

/// Bytes kept aside.
const MOST_ASIDE: usize = 32 * 1024;

/// Bytes of a flood that are read in any case: the end of a sequence may be among them.
const HEAD: usize = 256;

/// Bytes of a sequence that is looked for in what is skipped.
const MOST_SEQUENCE: usize = 1024;

/// Output that was not read yet.
#[derive(Debug, Default)]
pub(super) struct Flood {
    aside: Vec<u8>,
    skipping: bool,
}

/// Who reads output.
pub(super) trait Reader {
    /// Reads all of `output`.
    fn read(&mut self, output: &[u8]);
    /// A screenful or more is left out here, and no sequence is cut.
    fn skip(&mut self);
    /// Rows and cells of the window.
    fn size(&self) -> (usize, usize);
}

impl Flood {
    /// Keeps `output` aside, or part of it.
    pub(super) fn add(&mut self, output: &[u8], reader: &mut impl Reader) {
        let mut rest = output;
        while !rest.is_empty() {
            let room = MOST_ASIDE.saturating_sub(self.aside.len()).max(1);
            let (piece, after) = rest.split_at(room.min(rest.len()));
            self.aside.extend_from_slice(piece);
            rest = after;
            if self.aside.len() >= MOST_ASIDE {
                self.skip(reader);
            }
        }
    }

    /// Lets `reader` read what was kept.
    pub(super) fn drain(&mut self, reader: &mut impl Reader) {
        if self.skipping {
            reader.skip();
            self.skipping = false;
        }
        if !self.aside.is_empty() {
            reader.read(&self.aside);
            self.aside.clear();
        }
    }

    /// Leaves out all but the last screenful.
    fn skip(&mut self, reader: &mut impl Reader) {
        let (rows, cells) = reader.size();
        let least = self.aside.len().saturating_sub(cells.max(HEAD)).min(MOST_ASIDE / 2);
        let by_rows = memrchr_iter(b'\n', &self.aside).nth(rows).map(|at| at + 1);
        let tail = by_rows.filter(|at| *at >= least);
        // Rows longer than the window, or none at all: from the next place where no sequence is cut.
        let next = || {
            let rest = self.aside.get(least..).unwrap_or_default();
            memchr(b'\n', rest).map(|at| least + at + 1).or_else(|| memchr(0x1b, rest).map(|at| least + at))
        };
        let tail = tail.or_else(next).unwrap_or(self.aside.len());
        let skipped = self.aside.get(..tail).unwrap_or_default();
        let head = if self.skipping { 0 } else { HEAD.min(skipped.len()) };
        let (head, skipped) = skipped.split_at(head);
        if !head.is_empty() {
            reader.read(head);
            reader.skip();
            self.skipping = true;
        }
        for start in memchr_iter(0x1b, skipped) {
            if let Some(sequence) = skipped.get(start..).and_then(telling) {
                reader.read(sequence);
            }
        }
        self.aside.drain(..tail);
    }
}

/// The sequence that `bytes` begin with, if it switches a mode, resets the terminal or is an operating system
/// command.
fn telling(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.get(2..MOST_SEQUENCE.min(bytes.len()))?;
    let length = match bytes.get(1)? {
        b'c' => 0,
        b'[' if rest.first() == Some(&b'?') => rest.iter().position(|byte| (0x40..0x7f).contains(byte))? + 1,
        // The window's title is long and frequent; only OSC 7 and 133 tell something.
        b']' if rest.starts_with(b"7;") || rest.starts_with(b"133;") => {
            rest.iter().position(|byte| matches!(byte, 0x07 | 0x1b))? + 1
        }
        _ => return None,
    };
    bytes.get(..2 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen {
        bytes: Vec<u8>,
        skips: usize,
    }

    impl Reader for Seen {
        fn read(&mut self, output: &[u8]) {
            self.bytes.extend_from_slice(output);
        }

        fn skip(&mut self) {
            self.skips += 1;
        }

        fn size(&self) -> (usize, usize) {
            (24, 1920)
        }
    }

    #[test]
    fn little_output_is_read_whole() {
        let (mut flood, mut seen) = (Flood::default(), Seen::default());
        flood.add(b"hello\r\n", &mut seen);
        flood.add(b"$ ", &mut seen);
        assert_eq!(seen.bytes, b"");
        flood.drain(&mut seen);
        assert_eq!((seen.bytes.as_slice(), seen.skips), (&b"hello\r\n$ "[..], 0));
    }

    #[test]
    fn of_a_flood_the_last_screenful_and_the_switches_are_read() {
        let mut output = b"y\r\n".repeat(100_000);
        output.splice(150_000..150_000, *b"\x1b[?1049h\x1b[31m\x1b]7;file:///etc\x07");
        output.extend_from_slice(b"$ ");
        let mut whole = None;
        for piece in [1, 7, 4096, output.len()] {
            let (mut flood, mut seen) = (Flood::default(), Seen::default());
            output.chunks(piece).for_each(|piece| flood.add(piece, &mut seen));
            flood.drain(&mut seen);
            let text = String::from_utf8_lossy(&seen.bytes).into_owned();
            assert!(text.contains("\x1b[?1049h\x1b]7;file:///etc\x07y\r\n") && text.ends_with("y\r\n$ "));
            assert!(seen.bytes.len() < MOST_ASIDE + 2 * HEAD, "{}", seen.bytes.len());
            assert_eq!(*whole.get_or_insert(text.clone()), text, "in pieces of {piece}");
        }
    }
}
