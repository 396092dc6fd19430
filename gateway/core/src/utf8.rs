//! Where a stream of UTF-8 that comes in pieces may be split.
//!
//! Judges no text: what is no UTF-8 anyway is never cut off, and is left to who reads it.

/// How many bytes at the end of `bytes` may be the start of a character: at most 3.
pub(crate) fn cut_off(bytes: &[u8]) -> usize {
    for length in 1..=bytes.len().min(3) {
        let tail = bytes.get(bytes.len() - length..).unwrap_or_default();
        match str::from_utf8(tail) {
            // A whole character, or one that no more bytes make whole.
            Ok(_) => return 0,
            Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => return length,
            // Continuation bytes: what they belong to is further ahead.
            Err(_) => {}
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_more_bytes_can_complete_is_cut_off() {
        let frame = "\u{2500}".as_bytes();
        for (bytes, expected) in [
            (&b""[..], 0),
            (b"ls", 0),
            (frame, 0),
            (frame.split_at(2).0, 2),
            (b"l\xf0\x9f\x98", 3),
            (b"\xc2", 1),
            (b"\x80\x80\x80\x80", 0),
            (b"\xe0\x80", 0),
            (b"\xff", 0),
        ] {
            assert_eq!(cut_off(bytes), expected, "{bytes:x?}");
        }
    }
}
